package runner_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/preview"
	"iothub-runner/spec"
)

func tolerate(failed, offline spec.Share) func(*spec.Job) {
	return func(j *spec.Job) { j.Tolerate = spec.Tolerate{Failed: failed, Offline: offline} }
}

func number(n int) spec.Share { return spec.Share{Count: n} }

func share(percent float64) spec.Share { return spec.Share{Percent: percent, Relative: true} }

// missing makes devices of a method job miss: so many in each way.
func (g *rig) missing(failed, offlineOnes, silent int) {
	next := 0
	for _, way := range []struct {
		n   int
		err *hub.Error
	}{{failed, kind(hub.KindInvalid)}, {offlineOnes, offline()}, {silent, noAnswer()}} {
		for range way.n {
			g.hub.on(opInvoke, fmt.Sprintf("device-%06d", next), 0, refused(way.err))
			next++
		}
	}
}

// Misses that the plan tolerates do not make a job fail, up to the share and
// not beyond it; what it let pass stands in its reason.
func TestTolerate(t *testing.T) {
	tests := []struct {
		name                    string
		targets                 int
		failed, offline, silent int // targets that end so
		tolerate                func(*spec.Job)
		status                  spec.Status
		reason                  string
	}{
		{name: "nothing to tolerate", targets: 10, tolerate: tolerate(number(1), share(10)), status: spec.StatusSucceeded},
		{name: "nothing tolerated", targets: 10, offline: 1, tolerate: tolerate(number(0), number(0)), status: spec.StatusFailed, reason: "1 of 10 targets did not succeed"},
		{name: "at the share", targets: 20, offline: 2, tolerate: tolerate(number(0), share(10)), status: spec.StatusSucceeded, reason: "2 offline tolerated"},
		{name: "beyond the share", targets: 20, offline: 3, tolerate: tolerate(number(0), share(10)), status: spec.StatusFailed, reason: "3 of 20 targets did not succeed: 3 offline where tolerate.offline is 10%"},
		{name: "a share is not rounded up", targets: 19, offline: 2, tolerate: tolerate(number(0), share(10)), status: spec.StatusFailed, reason: "2 of 19 targets did not succeed: 2 offline where tolerate.offline is 10%"},
		{name: "nor down to nothing", targets: 19, offline: 1, tolerate: tolerate(number(0), share(10)), status: spec.StatusSucceeded, reason: "1 offline tolerated"},
		{name: "at the count", targets: 10, failed: 3, tolerate: tolerate(number(3), number(0)), status: spec.StatusSucceeded, reason: "3 failed tolerated"},
		{name: "beyond the count", targets: 10, failed: 4, tolerate: tolerate(number(3), share(100)), status: spec.StatusFailed, reason: "4 of 10 targets did not succeed: 4 failed where tolerate.failed is 3"},
		{name: "each kind by itself", targets: 10, failed: 1, offline: 1, tolerate: tolerate(number(2), number(0)), status: spec.StatusFailed, reason: "2 of 10 targets did not succeed: 1 offline where tolerate.offline is 0"},
		{name: "both", targets: 10, failed: 1, offline: 2, tolerate: tolerate(number(1), share(20)), status: spec.StatusSucceeded, reason: "1 failed and 2 offline tolerated"},
		{name: "all of them", targets: 4, failed: 2, offline: 2, tolerate: tolerate(share(100), share(100)), status: spec.StatusSucceeded, reason: "2 failed and 2 offline tolerated"},
		{name: "unanswered is never tolerated", targets: 4, silent: 1, tolerate: tolerate(share(100), share(100)), status: spec.StatusFailed, reason: "1 of 4 targets did not succeed: 1 unanswered, which is never tolerated"},
		{name: "and counts as failed", targets: 4, failed: 1, silent: 1, tolerate: tolerate(number(1), number(0)), status: spec.StatusFailed, reason: "2 of 4 targets did not succeed: 2 failed where tolerate.failed is 1, 1 unanswered, which is never tolerated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(tt.targets)...)
				g.missing(tt.failed, tt.offline, tt.silent)
				jobs := []spec.Job{method("lock", attempts(1), tt.tolerate), update("mark", "", `{"locked":true}`, needs("lock", spec.NeedSucceeded))}
				res := g.apply(context.Background(), jobs...)
				lock := res.job(t, "lock")
				if lock.Status != tt.status || lock.Reason != tt.reason || res.run.Status() != tt.status {
					t.Errorf("lock is %s: %q, the run %s; want %s: %q", lock.Status, lock.Reason, res.run.Status(), tt.status, tt.reason)
				}
				if marked := len(g.hub.of(opPatch, "")) > 0; marked != (tt.status == spec.StatusSucceeded) {
					t.Errorf("the job that needs it ran: %t", marked)
				}
				again := g.apply(context.Background(), jobs...).job(t, "lock")
				if again.Status != tt.status || again.Reason != tt.reason {
					t.Errorf("resumed, lock is %s: %q", again.Status, again.Reason)
				}
			})
		})
	}
}

// A rejected call counts as failed, and a skipped device is no miss.
func TestTolerateCountsOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.answer = func(c call) hub.Answer {
			status := map[string]int{"device-000001": 500, "device-000002": 404}[c.target.DeviceID]
			return hub.Answer{Status: max(status, 200), Payload: []byte("null")}
		}
		g.hub.on(opInvoke, "device-000003", 0, refused(offline()))
		job := method("lock", whenOffline(spec.OfflineSkip), tolerate(share(20), number(0)))
		res := g.apply(context.Background(), job)
		lock := res.job(t, "lock")
		wantOutcomes(t, lock, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 7, spec.OutcomeRejected: 2, spec.OutcomeSkipped: 1})
		if lock.Reason != "2 failed tolerated" {
			t.Errorf("reason %q", lock.Reason)
		}
	})
}

// Offline devices that a deadline gives up are tolerated; those that it did not
// reach are not.
func TestTolerateAtADeadline(t *testing.T) {
	for _, tt := range []struct {
		name   string
		serial bool
		status spec.Status
	}{{"all were tried", false, spec.StatusSucceeded}, {"one was not reached", true, spec.StatusStopped}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(2)...)
				g.hub.on(opInvoke, "device-000000", 0, refused(offline()))
				g.hub.takes[opInvoke] = 40 * time.Second
				job := method("lock", whenOffline(spec.OfflineWait), deadline(30*time.Second), tolerate(share(100), share(100)))
				if tt.serial {
					job.Concurrency = 1
				}
				res := g.apply(context.Background(), job)
				if got := res.job(t, "lock"); got.Status != tt.status {
					t.Errorf("lock is %s (%s): %v, want %s", got.Status, got.Reason, got.Outcomes, tt.status)
				}
			})
		})
	}
}

// What a preview knows to fail counts as in a run: it says what would not start
// then.
func TestPreviewOfAJobThatWouldFail(t *testing.T) {
	tests := []struct {
		name     string
		change   func(*spec.Job)
		need     spec.NeedIf
		warnings []string
		stopped  string // of the job that needs it
	}{
		{name: "a device is unknown", change: named("a", "nobody"), need: spec.NeedSucceeded, warnings: []string{
			"job move would fail: 1 of its 2 targets cannot be done; what needs its success would not start: lock",
		}},
		{name: "and that does not matter", change: named("a", "nobody"), need: spec.NeedAlways, warnings: []string{
			"job move would fail: 1 of its 2 targets cannot be done",
		}},
		{name: "and that is tolerated", change: func(j *spec.Job) {
			named("a", "nobody")(j)
			tolerate(share(50), number(0))(j)
		}, need: spec.NeedSucceeded, warnings: []string{}},
		{name: "nobody is there", change: func(j *spec.Job) { j.Target.Expect.Min = 9 }, need: spec.NeedSucceeded, warnings: []string{}, stopped: "it needs job move: it would not succeed"},
		{name: "and that does not matter either", change: func(j *spec.Job) { j.Target.Expect.Min = 9 }, need: spec.NeedAlways, warnings: []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t, "a")
			f := g.preview(preview.Options{},
				method("lock", needs("move", tt.need)), update("move", `{"floor":3}`, "", tt.change))
			if diff := cmp.Diff(tt.warnings, f.Warnings); diff != "" {
				t.Errorf("warnings (-want +have):\n%s", diff)
			}
			if got := f.Jobs[0].Stopped; got != tt.stopped {
				t.Errorf("lock would not run: %q, want %q", got, tt.stopped)
			}
		})
	}
}
