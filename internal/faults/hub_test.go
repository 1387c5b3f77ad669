package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// TestSlowIndex has a second run meet pages that show the twins as they were
// before the first. What it says about them is true all the same: its
// before-values are the first run's, and it patches only what differs.
func TestSlowIndex(t *testing.T) {
	t.Parallel()
	w := world{each: each, indexLag: "1h"}
	hub := w.start(t)
	r := newRun(t, hub, planText(steady))
	rep, _ := r.apply(t.Context(), t)
	checkReport(t, hub, each, rep)

	again := newRun(t, hub, planText(steady))
	rep, _ = again.apply(t.Context(), t)
	if diff := cmp.Diff(map[spec.Outcome]int{spec.OutcomeUnchanged: each}, rep.Jobs[2].Outcomes); diff != "" {
		t.Errorf("the same patch again (-want +have):\n%s", diff)
	}
	up := newRun(t, hub, strings.ReplaceAll(planText(steady), fmt.Sprint("floor: ", wantedFloor), "floor: 1"))
	rep, _ = up.apply(t.Context(), t)
	for _, row := range rep.Jobs[2].Devices {
		before := map[string]any{"desired": map[string]any{"floor": float64(wantedFloor)}}
		if row.Outcome != spec.OutcomeSucceeded {
			t.Errorf("%s is %s: %+v", row.DeviceID, row.Outcome, row.Error)
		} else if wrong := wrongBefore(&row, before); wrong != "" {
			t.Errorf("%s: %s", row.DeviceID, wrong)
		}
		patches := 2
		if strings.HasPrefix(row.DeviceID, "same") {
			patches = 1
		}
		if have := hub.Executed(row.DeviceID).Patches; have != patches {
			t.Errorf("%s was patched %d times, want %d", row.DeviceID, have, patches)
		}
		if have := floorOf(t, hub, row.DeviceID); have != 1 {
			t.Errorf("%s ended on floor %d, want 1", row.DeviceID, have)
		}
	}
}

func floorOf(tb testing.TB, hub *emulator.Server, id string) int {
	tb.Helper()
	text, _ := hub.Twin(id)
	var twin struct {
		Properties struct{ Desired struct{ Floor int } }
	}
	if err := json.Unmarshal(text, &twin); err != nil {
		tb.Fatal(err)
	}
	return twin.Properties.Desired.Floor
}

// TestSkewedClock applies a plan to a hub whose clock is ahead of ours, by less
// than a token lives.
func TestSkewedClock(t *testing.T) {
	t.Parallel()
	w := world{each: each}
	hub := w.start(t)
	hub.SetSkew(40 * time.Minute)
	rep, done := newRun(t, hub, planText(steady)).apply(t.Context(), t)
	if err := done.Cause(); err != nil {
		t.Errorf("the run ended early: %v", err)
	}
	checkReport(t, hub, each, rep)
	checkOutcomes(t, rep, good())
}

// trigger is an observer that does something once devices have acted often
// enough.
type trigger struct {
	do   func()
	once sync.Once
}

// RunStarted does nothing.
func (*trigger) RunStarted(*runner.Run) {}

// JobStarted does nothing.
func (*trigger) JobStarted(string) {}

// WaveStarted does nothing.
func (*trigger) WaveStarted(string, runner.WaveStart) {}

// JobEnded sets it off.
func (t *trigger) JobEnded(spec.JobReport) { t.once.Do(t.do) }

// TestTokensRefused has the hub refuse all tokens in the middle of a run: it
// ends, what was not sent says so, and a later run goes on from there. No other
// test may start a program meanwhile: for a moment that would have the journal
// open too, and with it the lock.
func TestTokensRefused(t *testing.T) {
	w := world{each: each, method: ", latency: 20ms"}
	emulated := w.start(t)
	r := newRun(t, emulated, planText("concurrency: 8, retry: {attempts: 3, backoff: 5ms}"))
	// The patches take no time, so their job ends while the calls go on.
	r.watcher = &trigger{do: func() { emulated.SetSkew(48 * time.Hour) }}
	rep, done := r.apply(t.Context(), t)
	cause, ok := errors.AsType[*target.HubError](done.Cause())
	if !ok {
		t.Fatalf("the run ended with %v, want a hub that refuses us", done.Cause())
	}
	if refusal, ok := errors.AsType[*hub.Error](cause); !ok || refusal.StatusCode != http.StatusUnauthorized {
		t.Errorf("cause = %v, want a 401", cause)
	}
	checkRows(t, emulated, rep)
	if n := len(rep.Jobs[0].Devices); n == each && rep.Summary.Outcomes[spec.OutcomeNotReached] == 0 {
		t.Errorf("outcomes %v: the run was to end before it had reached all", rep.Summary.Outcomes)
	}
	lost := rep.Summary.Outcomes[spec.OutcomeFailed] // those that were refused

	emulated.SetSkew(0)
	r.watcher = nil
	rep, done = r.resume(t.Context(), t)
	if err := done.Cause(); err != nil {
		t.Errorf("the resumed run ended early: %v", err)
	}
	checkReport(t, emulated, each, rep)
	if n := rep.Summary.Outcomes[spec.OutcomeFailed]; n != lost || rep.Summary.Outcomes[spec.OutcomeNotReached] != 0 {
		t.Errorf("outcomes of the resumed run: %v, want none not reached and %d failed", rep.Summary.Outcomes, lost)
	}
}

// TestThrottledTier asks more of an S1 hub than it takes, so that it holds calls
// back. Once it has, its clock goes faster, so that nobody has to wait for long.
func TestThrottledTier(t *testing.T) {
	t.Parallel()
	// The hub takes 40 steps of 4 KB a second: 400 at once,
	// which is 50 of these calls. There are 100.
	const steps, few = 8, 50
	w := world{each: few, tier: "S1"}
	hub := w.start(t)
	hurry, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for hurry.Err() == nil {
			<-tick.C
			if heldBack(t, hub) == 0 {
				continue
			}
			if err := hub.Advance(200 * time.Millisecond); err != nil {
				t.Error(err)
			}
		}
	})
	plan := strings.ReplaceAll(planText("concurrency: 100, retry: {attempts: 2, backoff: 5ms}"),
		"lockTime: 10m", "lockTime: "+strings.Repeat("m", steps<<12-100))
	rep, run := newRun(t, hub, plan).apply(t.Context(), t)
	stop()
	done.Wait()
	if err := run.Cause(); err != nil {
		t.Errorf("the run ended early: %v", err)
	}
	checkReport(t, hub, few, rep)
	checkOutcomes(t, rep, good())
	if heldBack(t, hub) == 0 {
		t.Error("the hub held no call back: nothing was tested")
	}
}

// heldBack is how many calls the hub says that it delayed or refused.
func heldBack(tb testing.TB, hub *emulator.Server) (n int) {
	tb.Helper()
	w := httptest.NewRecorder()
	hub.AdminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/status", nil))
	var status struct {
		Throttles map[string]struct{ Delayed, Refused int }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil {
		tb.Fatal(err)
	}
	for _, c := range status.Throttles {
		n += c.Delayed + c.Refused
	}
	return n
}
