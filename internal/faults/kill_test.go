package faults_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"iothub-runner/spec"
)

// concurrency of a job that is killed: what can be under way at that instant.
const concurrency = 16

// killWorld is a fleet of 600 devices, slow enough for a run to be hit at every
// stage.
func killWorld(slowListing bool) world {
	w := world{
		each:   200,
		method: ", latency: {uniform: {from: 1ms, to: 30ms}}",
		group:  "shares: {offline: 3%, rejecting: {share: 3%, status: 423}}",
		faults: "{fault: slow, operations: [twinWrite], latency: {uniform: {from: 1ms, to: 20ms}}}",
	}
	if slowListing {
		w.faults += ", {fault: slow, operations: [query], latency: {uniform: {from: 50ms, to: 150ms}}}"
	}
	return w
}

// TestKill kills the program at random instants, resumes it until it ends, and
// holds the report against what the hub counted. A run is killed one to four
// times, some of them while it lists its targets, some with a journal that is
// synced before each call.
func TestKill(t *testing.T) {
	t.Parallel()
	source := seedOfRuns()
	for n := range *kills {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			t.Parallel()
			t.Logf("to repeat the instants: -seed %d -kills %d", source, *kills)
			chance := rand.New(rand.NewPCG(source, uint64(n)))
			slowListing := n%3 == 1
			w := killWorld(slowListing)
			if n%2 == 1 {
				w.follow = "{after: {uniform: {from: 1ms, to: 500ms}}}"
			}
			hub := w.start(t)
			rollout := n%2 == 1
			durability := "batch"
			if n%3 == 2 {
				durability = "always"
			}
			defaults := fmt.Sprintf("concurrency: %d, retry: {attempts: 2, backoff: 5ms}", concurrency)
			plan := planText(defaults)
			if rollout {
				plan = confirmed(planText(defaults+", rollout: {waves: [1, 10%, 100%], pause: 20ms}"), "2s")
			}
			p := newProcess(t, hub, plan, "--durability", durability)
			for range 1 + chance.IntN(4) {
				at := nextInstant(chance, acts(hub), slowListing)
				p.killAt(t.Context(), t, at)
				t.Logf("%d acts after the kill at %+v", acts(hub), at)
				if p.ended {
					break
				}
			}
			if !p.ended {
				p.finish(t.Context(), t)
			}
			if p.code != 1 { // some devices are offline
				t.Errorf("exit code %d, want 1\n%s", p.code, p.stderr)
			}
			if p.kills == 0 {
				t.Errorf("nothing was killed: the program ended before, in %v", p.took)
			}
			rep := readReport(t, p.path("report.json"))
			checkReport(t, hub, w.each, rep)
			checkDoubts(t, rep, p.kills)
			if rollout {
				checkProof(t, rep)
			}
		})
	}
}

// seedOfRuns is where the chance of a test comes from: -seed, or a new one.
func seedOfRuns() uint64 {
	source := *seed
	for source == 0 {
		source = rand.Uint64()
	}
	return source
}

// nextInstant chooses when to kill a run in which the devices have acted so
// often already. Where little is left to do it is the beginning, when the
// journal is read and written to.
func nextInstant(chance *rand.Rand, acts int, slowListing bool) instant {
	const all = 540 // acts in a whole run, nearly
	after := time.Duration(chance.Int64N(int64(10 * time.Millisecond)))
	left := (all - acts) * 3 / 4
	switch {
	case slowListing && acts == 0, left < 1:
		return instant{after: 10 * after}
	default:
		return instant{acts: acts + chance.IntN(left), after: after}
	}
}

// checkDoubts fails if a run that was killed so often doubts more than what was
// under way, or doubts what can be looked up.
func checkDoubts(tb testing.TB, rep spec.Report, kills int) {
	tb.Helper()
	known := map[string]outcomes{
		roleOnce:  {spec.OutcomeSucceeded, spec.OutcomeRejected, spec.OutcomeOffline, spec.OutcomeUnanswered},
		roleAgain: {spec.OutcomeSucceeded, spec.OutcomeRejected, spec.OutcomeOffline, spec.OutcomeUnanswered},
		roleTwin:  {spec.OutcomeSucceeded, spec.OutcomeUnchanged, spec.OutcomeUnconfirmed},
	}
	for _, job := range rep.Jobs {
		for o, n := range job.Outcomes {
			if !slices.Contains(known[job.Name], o) {
				tb.Errorf("job %s: %d devices are %s", job.Name, n, o)
			}
		}
		if n := job.Outcomes[spec.OutcomeUnanswered]; n > kills*concurrency {
			tb.Errorf("job %s: %d unanswered after %d kills, with %d calls at once: %v", job.Name, n, kills, concurrency, doubts(job))
		}
	}
	for _, row := range rep.Jobs[1].Devices { // the job that may repeat its calls asks again
		if row.Outcome == spec.OutcomeUnanswered && row.Error.Code != codeOffline {
			tb.Errorf("job again: %s was not called again: %+v", row.DeviceID, row.Error)
		}
	}
}

// checkProof fails if a twin job with confirm has patched a device that it does
// not wait for, or gives up one that has reported.
func checkProof(tb testing.TB, rep spec.Report) {
	tb.Helper()
	for _, job := range rep.Jobs {
		for i, w := range job.Waves {
			if w.Verdict != spec.VerdictPassed {
				tb.Errorf("job %s: wave %d: %+v", job.Name, i+1, w)
			}
		}
		if len(job.Waves) != 3 {
			tb.Errorf("job %s has %d waves, want 3", job.Name, len(job.Waves))
		}
		for _, row := range job.Devices {
			if job.Name == roleTwin && row.Outcome == spec.OutcomeSucceeded && row.ConfirmedAt == nil {
				tb.Errorf("%s succeeded without proof", row.DeviceID)
			}
		}
	}
}

// doubts counts why rows are unanswered.
func doubts(job spec.JobReport) map[string]int {
	counted := map[string]int{}
	for _, row := range job.Devices {
		if row.Outcome == spec.OutcomeUnanswered {
			counted[row.Error.Message]++
		}
	}
	return counted
}

// codeOffline is the hub's number for a device that is not online.
const codeOffline = 404103

func readReport(tb testing.TB, path string) spec.Report {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var rep spec.Report
	if err := json.Unmarshal(text, &rep); err != nil {
		tb.Fatal(err)
	}
	return rep
}
