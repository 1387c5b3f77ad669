package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// viaHub is how jobs end that the hub carries out: it patches every twin, as wanted
// or not.
func viaHub(once, again, twin outcomes) map[string]outcomes {
	return map[string]outcomes{roleOnce: once, roleAgain: again, roleTwin: twin}
}

// hubJobCases are the faults that a job of the hub can meet: those of devices, those
// of the calls to the Jobs service, those of the queries that list and that read
// rows, and what is not known of the real hub.
func hubJobCases() []faultCase {
	fine := outcomes{spec.OutcomeSucceeded}
	good := viaHub(fine, fine, fine)
	methods := func(more spec.Outcome) map[string]outcomes {
		some := outcomes{spec.OutcomeSucceeded, more}
		return viaHub(some, some, fine)
	}
	var all []faultCase
	add := func(name string, w world, want map[string]outcomes) {
		all = append(all, faultCase{name: name, world: w, want: want})
	}
	add("none", world{}, good)
	add("rejecting", world{group: "shares: {rejecting: {share: 10%, status: 423}}"}, methods(spec.OutcomeRejected))
	add("offline", world{group: "shares: {offline: 10%}"}, methods(spec.OutcomeOffline))
	add("offline for a while", world{group: "shares: {late: {share: 10%, after: 2s}}"}, good)
	add("hanging", world{group: "shares: {hanging: 3%}"}, methods(spec.OutcomeUnanswered))
	add("slower than the timeout", world{group: "shares: {slow: {share: 3%, latency: 6s}}"}, methods(spec.OutcomeUnanswered))
	add("garbage", world{group: "shares: {garbage: 10%}"}, methods(spec.OutcomeUnanswered))
	add("disconnecting", world{group: "shares: {disconnecting: 10%}"}, methods(spec.OutcomeUnanswered))
	for _, fault := range []string{"serverError", "badGateway", "unavailable", "resetBefore", "resetAfter", "unauthorized"} {
		add(fault+" on job calls", world{faults: "{fault: " + fault + ", operations: [job], calls: 1-2}, {fault: " + fault + ", operations: [job], calls: 6}"}, good)
		add(fault+" on pages", world{faults: "{fault: " + fault + ", operations: [query], calls: 3-4}"}, good)
	}
	add("a part whose answer is lost over and over", world{faults: "{fault: resetAfter, operations: [jobPut], calls: 1-4}, {fault: serverError, operations: [jobGet], calls: 1-3}", behaviour: map[string]string{"duplicateJob": "conflict"}}, good)
	add("a part that does not arrive", world{faults: "{fault: resetBefore, operations: [jobPut], calls: 1-9}"}, good)
	add("rows that cannot be read at first", world{faults: "{fault: serverError, operations: [query], calls: 8-16}"}, good)
	add("429 on job calls", world{faults: "{fault: throttled, operations: [job], calls: 1-2, wait: 1s}"}, good)
	add("empty pages", world{faults: "{fault: emptyPage, share: 50%}"}, good)
	for knob, values := range map[string][]string{
		"duplicateJob": {"repeat"}, "jobStatistics": {"atEnd"}, "jobWithFailures": {"failed"}, "badCondition": {"async"},
		"jobLag": {"rows", "statistics", "status"}, "jobShapes": {"odd"},
	} {
		for _, value := range values {
			add(knob+" "+value, world{group: "shares: {rejecting: {share: 10%, status: 423}}", behaviour: map[string]string{knob: value}}, methods(spec.OutcomeRejected))
		}
	}
	doubtful := viaHub(outcomes{spec.OutcomeSucceeded, spec.OutcomeUnanswered}, outcomes{spec.OutcomeSucceeded, spec.OutcomeUnanswered}, outcomes{spec.OutcomeSucceeded, spec.OutcomeUnanswered})
	for _, fault := range []string{"serverError", "unavailable", "badGateway", "resetBefore", "resetAfter"} {
		add(fault+" inside", world{faults: "{fault: " + fault + ", operations: [method, twinWrite], share: 10%}"}, doubtful)
	}
	failed := outcomes{spec.OutcomeSucceeded, spec.OutcomeFailed}
	for _, fault := range []string{"throttled", "unauthorized"} {
		add(fault+" inside", world{faults: "{fault: " + fault + ", operations: [method, twinWrite], share: 10%}"}, viaHub(failed, failed, failed))
	}
	add("a job that breaks", world{behaviour: map[string]string{"jobBreaks": "midway"}}, viaHub(failed, failed, failed))
	add("slow inside", world{faults: "{fault: slow, operations: [method, twinWrite], share: 30%, latency: {uniform: {from: 1ms, to: 2s}}}"}, good)
	add("lost answers", world{faults: "{fault: resetAfter, operations: [job], share: 40%}", behaviour: map[string]string{"duplicateJob": "conflict"}}, good)
	add("a hub that runs one job", world{tier: "S1"}, good)
	return all
}

// TestHubJobs has the hub carry out what the other tests do from here, and holds
// every row against what the devices did.
func TestHubJobs(t *testing.T) {
	t.Parallel()
	for _, rollout := range []bool{false, true} {
		for _, tt := range hubJobCases() {
			if rollout && tt.name == "offline" {
				continue // the wave with the first of them takes all the time there is
			}
			name, defaults := tt.name, "engine: hubJobs, deadline: 2m"
			if tt.name == "offline" {
				defaults = "engine: hubJobs, deadline: 15s"
			}
			if rollout {
				name, defaults = name+", in a rollout", defaults+", rollout: {waves: [1, 10%, 100%]}"
			}
			if tt.world.tier != "" { // ten devices a second
				tt.world.each = 30
			} else {
				tt.world.each = each
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				hub := tt.world.start(t)
				plan := planText(defaults)
				if !strings.Contains(tt.world.group, "hanging") && tt.name != "slower than the timeout" { // a machine that is busy is no device that does not answer
					plan = strings.ReplaceAll(plan, "responseTimeout: 5s", "responseTimeout: 1m")
				}
				rep, done := newRun(t, hub, plan).apply(t.Context(), t)
				if err := done.Cause(); err != nil {
					t.Errorf("the run ended early: %v", err)
				}
				checkHubJobs(t, hub, tt.world.each, rep)
				checkOutcomes(t, rep, tt.want)
			})
		}
	}
}

// TestHubJobsInDoubt loses every answer of the hub to a part, and has it refuse our key
// when it is asked what there is. The hub carries the part out: no row may say that
// nothing happened.
func TestHubJobsInDoubt(t *testing.T) {
	t.Parallel()
	w := world{each: 20, faults: "{fault: badGateway, operations: [jobPut]}, {fault: unauthorized, operations: [jobGet]}"}
	hub := w.start(t)
	rep, done := newRun(t, hub, planText("engine: hubJobs, deadline: 1m")).apply(t.Context(), t)
	if _, ok := errors.AsType[*target.HubError](done.Cause()); !ok {
		t.Errorf("the run ended by %v, want an error of the hub", done.Cause())
	}
	for _, job := range rep.Jobs {
		for i := range job.Devices {
			row := &job.Devices[i]
			if wrong := wrongHubRow(hub, job.Name, row); wrong != "" {
				t.Errorf("job %s, %s: %s", job.Name, row.DeviceID, wrong)
			}
		}
		if acted(hub, job.Name) && job.Outcomes[spec.OutcomeUnanswered] != job.Targets {
			t.Errorf("job %s: %v, want all unanswered", job.Name, job.Outcomes)
		}
	}
}

// acted tells whether a device of a role did anything.
func acted(hub *emulator.Server, role string) bool {
	for id := range hub.EachExecuted {
		if strings.HasPrefix(id, role) {
			return true
		}
	}
	return false
}

// checkHubJobs holds a report against what the hub says that happened.
func checkHubJobs(tb testing.TB, hub *emulator.Server, each int, rep spec.Report) {
	tb.Helper()
	for i := range rep.Jobs {
		job := &rep.Jobs[i]
		checkComplete(tb, each, job)
		for j := range job.Devices {
			row := &job.Devices[j]
			if wrong := wrongHubRow(hub, job.Name, row); wrong != "" {
				text, _ := json.Marshal(row)
				tb.Errorf("job %s, %s: %s\n%s", job.Name, row.DeviceID, wrong, text)
			}
		}
	}
	for id, e := range hub.EachExecuted {
		if strings.HasPrefix(id, roleBystander) {
			tb.Errorf("%s is nobody's target and executed %+v", id, e)
		}
	}
}

func wrongHubRow(hub *emulator.Server, job string, row *spec.Row) string {
	e := hub.Executed(row.DeviceID)
	if job == roleTwin {
		return wrongCount(e.Patches, 1, row.Outcome)
	}
	if wrong := wrongCount(e.Methods, 1, row.Outcome); wrong != "" || row.Outcome != spec.OutcomeSucceeded {
		return wrong
	}
	if want := fmt.Sprintf(`{"door":%q}`, row.DeviceID); row.Method == nil || string(row.Method.Payload) != want {
		return "it has the answer of another device, or none; want " + want
	}
	return ""
}

// TestKillHubJobs kills the program while the hub works for it. Whoever goes on
// finds the jobs of the hub again, and submits none twice.
func TestKillHubJobs(t *testing.T) {
	t.Parallel()
	source := seedOfRuns()
	for n := range *kills {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			t.Parallel()
			t.Logf("to repeat the instants: -seed %d -kills %d", source, *kills)
			chance := rand.New(rand.NewPCG(source, uint64(n)))
			w := killWorld(n%3 == 1)
			defaults := "engine: hubJobs, deadline: 15s"
			if n%2 == 1 {
				defaults += ", rollout: {waves: [1, 10%, 100%], pause: 20ms}"
			}
			if n%4 == 2 {
				w.faults += ", {fault: resetAfter, operations: [job], share: 30%}"
			}
			hub := w.start(t)
			p := newProcess(t, hub, planText(defaults))
			for range 1 + chance.IntN(4) {
				if p.killAt(t.Context(), t, nextInstant(chance, acts(hub), n%3 == 1)); p.ended {
					break
				}
			}
			if !p.ended {
				p.finish(t.Context(), t)
			}
			if p.code != 1 { // some devices are offline
				t.Errorf("exit code %d, want 1\n%s", p.code, p.stderr)
			}
			rep := readReport(t, p.path("report.json"))
			checkHubJobs(t, hub, w.each, rep)
			for _, job := range rep.Jobs {
				for o, n := range job.Outcomes {
					if o != spec.OutcomeSucceeded && o != spec.OutcomeRejected && o != spec.OutcomeOffline {
						t.Errorf("job %s: %d devices are %s", job.Name, n, o)
					}
				}
			}
		})
	}
}

// TestKillWhileRowsAreRead kills the program when the hub has done all there is to do,
// and some of the rows are in the journal.
func TestKillWhileRowsAreRead(t *testing.T) {
	t.Parallel()
	for n := range 6 {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			t.Parallel()
			w := world{each: 300, faults: "{fault: slow, operations: [query], calls: 10-1000, latency: 300ms}"}
			hub := w.start(t)
			p := newProcess(t, hub, planText("engine: hubJobs, deadline: 1m"))
			p.killAt(t.Context(), t, instant{acts: 3 * w.each, after: 500*time.Millisecond + time.Duration(n)*150*time.Millisecond})
			text, _ := os.ReadFile(p.path("journal.ndjson"))
			t.Logf("%d rows at the kill", strings.Count(string(text), `"t":"result"`))
			if !p.ended {
				p.finish(t.Context(), t)
			}
			if p.code != 0 {
				t.Errorf("exit code %d, want 0\n%s", p.code, p.stderr)
			}
			rep := readReport(t, p.path("report.json"))
			checkHubJobs(t, hub, w.each, rep)
			if want := 3 * w.each; rep.Summary.Attempts != want {
				t.Errorf("the report counts %d attempts, want %d", rep.Summary.Attempts, want)
			}
		})
	}
}
