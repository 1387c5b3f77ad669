package faults_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/spec"
)

// each is how many devices every role has. Twelve pages of the hub's query
// would take longer and tell no more than two.
const each = 150

// steady is what jobs say about retries unless a test is about that: attempts
// enough to outlast every fault that strikes at random.
const steady = "concurrency: 16, retry: {attempts: 10, backoff: 5ms, maxBackoff: 20ms}"

// outcomes of a job, all that occur.
type outcomes []spec.Outcome

type faultCase struct {
	name     string
	world    world
	defaults string // of the plan; empty is steady
	want     map[string]outcomes
	rollout  bool // in waves, and the twin job waits for its devices to report
}

// good is how jobs end that nothing keeps from it.
func good() map[string]outcomes {
	return map[string]outcomes{
		roleOnce:  {spec.OutcomeSucceeded},
		roleAgain: {spec.OutcomeSucceeded},
		roleTwin:  {spec.OutcomeSucceeded, spec.OutcomeUnchanged},
	}
}

// but is good with other outcomes for the two methods.
func but(once, again outcomes) map[string]outcomes {
	all := good()
	all[roleOnce], all[roleAgain] = once, again
	return all
}

// doubtful is how a method ends that may not be repeated, when calls go wrong
// that may have run.
func doubtful() map[string]outcomes {
	return but(outcomes{spec.OutcomeSucceeded, spec.OutcomeUnanswered}, outcomes{spec.OutcomeSucceeded})
}

// hubFaults are those of single calls, as the hub's side of the fleet has them.
func hubFaults() []faultCase {
	const (
		device = "operations: [method, twinRead, twinWrite]"
		some   = "devices: [once-00001*, again-00001*, twin-00001*]"
	)
	return []faultCase{
		{name: "none", want: good()},
		{name: "401 on a call", world: world{faults: "{fault: unauthorized, calls: 1, devices: [once-000040]}"}, want: good()},
		{name: "401 on a patch", world: world{faults: "{fault: unauthorized, calls: 1, devices: [twin-000040], operations: [twinWrite]}"}, want: good()},
		{name: "401 on many calls", world: world{faults: "{fault: unauthorized, calls: 1-2, " + some + "}"}, want: good()},
		{name: "500", world: world{faults: "{fault: serverError, share: 10%, " + device + "}"}, want: doubtful()},
		{name: "502 after the call", world: world{faults: "{fault: badGateway, share: 10%, " + device + "}"}, want: doubtful()},
		{name: "503", world: world{faults: "{fault: unavailable, share: 10%, " + device + "}"}, want: doubtful()},
		{name: "cut before the call", world: world{faults: "{fault: resetBefore, share: 10%, " + device + "}"}, want: doubtful()},
		{name: "cut after the call", world: world{faults: "{fault: resetAfter, share: 10%, " + device + "}"}, want: doubtful()},
		{name: "slow answers", world: world{faults: "{fault: slow, share: 30%, latency: {uniform: {from: 1ms, to: 200ms}}}"}, want: good()},
		{
			name: "everything at once",
			world: world{indexLag: "30s", faults: `{fault: throttled, share: 2%, wait: 0s}, {fault: serverError, share: 4%, ` + device + `},
    {fault: unavailable, share: 4%}, {fault: badGateway, share: 4%, ` + device + `}, {fault: resetBefore, share: 4%}, {fault: resetAfter, share: 4%},
    {fault: unauthorized, calls: 1, devices: [again-000040]}, {fault: slow, share: 10%, latency: 30ms}, {fault: emptyPage, share: 30%}`},
			want: doubtful(),
		},
		{
			name:     "a device that never hears the end of it",
			defaults: "concurrency: 16, retry: {attempts: 3, backoff: 5ms}",
			world:    world{faults: "{fault: resetAfter, devices: [once-000007, again-000007, twin-000007], " + device + "}"},
			want: map[string]outcomes{
				roleOnce:  {spec.OutcomeSucceeded, spec.OutcomeUnanswered},
				roleAgain: {spec.OutcomeSucceeded, spec.OutcomeUnanswered},
				roleTwin:  {spec.OutcomeSucceeded, spec.OutcomeUnchanged, spec.OutcomeUnanswered},
			},
		},
	}
}

// throttles are what a hub refuses of calls, few of them: a pacer that is refused
// again and again slows down to what is left, which is right and takes its time.
func throttles() []faultCase {
	const some = "devices: [once-000010, once-000037, again-000010, again-000037, twin-000010, twin-000037]"
	return []faultCase{
		{name: "429", world: world{faults: "{fault: throttled, calls: 1, wait: 1s, " + some + "}"}, want: good()},
		{name: "429 without a hint", world: world{faults: "{fault: throttled, calls: 1, wait: 0s, " + some + "}"}, want: good()},
		{
			name:  "429 with a header",
			world: world{faults: "{fault: throttled, calls: 1, wait: 1s, " + some + "}", behaviour: map[string]string{"retryAfter": "header"}},
			want:  good(),
		},
	}
}

// listingFaults strike the query. A listing that is cut short would lose
// devices; one that starts over would act on them twice.
func listingFaults() []faultCase {
	const query = "operations: [query]"
	return []faultCase{
		{name: "empty pages", world: world{faults: "{fault: emptyPage, calls: 1-4}, {fault: emptyPage, share: 50%}"}, want: good()},
		{name: "429 on pages", world: world{faults: "{fault: throttled, calls: 1-2, wait: 1s, " + query + "}"}, want: good()},
		{name: "500 on pages", world: world{faults: "{fault: serverError, calls: 2-5, " + query + "}"}, want: good()},
		{name: "503 on pages", world: world{faults: "{fault: unavailable, calls: 2-5, " + query + "}"}, want: good()},
		{name: "401 on a page", world: world{faults: "{fault: unauthorized, calls: 4, " + query + "}"}, want: good()},
		{name: "pages cut before", world: world{faults: "{fault: resetBefore, calls: 2-5, " + query + "}"}, want: good()},
		{name: "pages cut after", world: world{faults: "{fault: resetAfter, calls: 2-5, " + query + "}"}, want: good()},
	}
}

// deviceFaults are those of devices that do not do what they are asked.
func deviceFaults() []faultCase {
	rejected := outcomes{spec.OutcomeSucceeded, spec.OutcomeRejected}
	skipped := outcomes{spec.OutcomeSucceeded, spec.OutcomeSkipped}
	offline := outcomes{spec.OutcomeSucceeded, spec.OutcomeOffline}
	silent := outcomes{spec.OutcomeSucceeded, spec.OutcomeUnanswered}
	const (
		few     = "concurrency: 16, retry: {attempts: 2, backoff: 5ms}"
		patient = "concurrency: 16, retry: {backoff: 200ms, maxBackoff: 1s}, offline: wait"
	)
	return []faultCase{
		{name: "rejecting", world: world{group: "shares: {rejecting: {share: 10%, status: 423}}"}, want: but(rejected, rejected)},
		{name: "offline", defaults: few, world: world{group: "shares: {offline: 10%}"}, want: but(offline, offline)},
		{name: "offline, skip", defaults: steady + ", offline: skip", world: world{group: "shares: {offline: 10%}"}, want: but(skipped, skipped)},
		{name: "offline until the deadline", defaults: patient + ", deadline: 15s", world: world{group: "shares: {offline: 10%}"}, want: but(offline, offline)},
		{name: "offline for a while", defaults: patient + ", deadline: 10m", world: world{group: "shares: {late: {share: 10%, after: 2s}}"}, want: good()},
		{name: "hanging", defaults: few, world: world{group: "shares: {hanging: 3%}"}, want: but(silent, silent)},
		{name: "slower than the timeout", defaults: few, world: world{group: "shares: {slow: {share: 3%, latency: 6s}}"}, want: but(silent, silent)},
		{name: "garbage", defaults: few, world: world{group: "shares: {garbage: 10%}"}, want: but(silent, silent)},
		{name: "garbage, 504", defaults: few, world: world{group: "shares: {garbage: 10%}", behaviour: map[string]string{"garbageAnswer": "504"}}, want: but(silent, silent)},
		{name: "disconnecting", defaults: few, world: world{group: "shares: {disconnecting: 10%}"}, want: but(silent, silent)},
	}
}

// inRollouts are some of the others, in waves and with proof.
func inRollouts() []faultCase {
	var all []faultCase
	for _, tt := range slices.Concat(hubFaults(), listingFaults(), deviceFaults()) {
		switch tt.name {
		case "none", "401 on many calls", "500", "cut after the call", "everything at once", "503 on pages", "pages cut after", "offline for a while":
			tt.name += ", in a rollout"
			tt.rollout, tt.world.indexLag, tt.world.follow = true, "1s", "{after: {uniform: {from: 1ms, to: 300ms}}}"
			all = append(all, tt)
		}
	}
	return all
}

// TestFaults applies one plan to a hub with each fault and holds every row
// against what the hub counted. What is drawn by chance follows from a seed, so
// the outcomes are known.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range slices.Concat(hubFaults(), listingFaults(), deviceFaults(), inRollouts()) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.check(t, each)
		})
	}
}

// TestThrottles does the same with calls that are refused. It has the machine
// for itself, and few devices: the pacer takes what a busy machine sends for what
// the hub takes, and needs a minute to find out that there is more.
func TestThrottles(t *testing.T) {
	for _, tt := range throttles() {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, each/2) })
	}
}

func (tt *faultCase) check(t *testing.T, each int) {
	t.Helper()
	tt.world.each = each
	hub := tt.world.start(t)
	plan := planText(orElse(tt.defaults, steady))
	if tt.rollout {
		plan = confirmed(planText(orElse(tt.defaults, steady)+", rollout: {waves: [1, 10%, 100%], pause: 10ms}"), "2m")
	}
	r := newRun(t, hub, plan)
	rep, done := r.apply(t.Context(), t)
	if err := done.Cause(); err != nil {
		t.Errorf("the run ended early: %v", err)
	}
	checkReport(t, hub, each, rep)
	checkOutcomes(t, rep, tt.want)
	if tt.rollout {
		checkProof(t, rep)
	}
}

// checkOutcomes fails if other outcomes occur than expected, or fewer.
func checkOutcomes(tb testing.TB, rep spec.Report, want map[string]outcomes) {
	tb.Helper()
	for _, job := range rep.Jobs {
		have := slices.Sorted(maps.Keys(job.Outcomes))
		if diff := cmp.Diff(slices.Sorted(slices.Values(want[job.Name])), have); diff != "" {
			tb.Errorf("outcomes of job %s, %v (-want +have):\n%s", job.Name, job.Outcomes, diff)
		}
	}
}
