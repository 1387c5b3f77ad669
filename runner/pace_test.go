package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/spec"
)

func TestConcurrencyIsReachedAndNeverExceeded(t *testing.T) {
	for _, bound := range []int{1, 3, 64} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, devices(200)...)
			g.hub.takes[opInvoke] = time.Second
			res := g.apply(context.Background(), method("m", func(j *spec.Job) { j.Concurrency = bound }))
			if peak := g.hub.peak[opInvoke]; peak != bound {
				t.Errorf("concurrency %d: %d calls at once", bound, peak)
			}
			rounds := (200 + bound - 1) / bound
			if took := res.report.Run.EndedAt.Sub(g.hub.begin); took != time.Duration(rounds)*time.Second {
				t.Errorf("concurrency %d: 200 calls of 1s took %v, want %ds", bound, took, rounds)
			}
		})
	}
}

func TestJobsDoNotShareTheirConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(20)...)
		g.hub.takes[opInvoke] = time.Second
		g.apply(context.Background(), method("a", func(j *spec.Job) { j.Concurrency = 4 }),
			method("b", func(j *spec.Job) { j.Concurrency = 5 }))
		if peak := g.hub.peak[opInvoke]; peak != 9 {
			t.Errorf("%d calls at once, want 4 and 5", peak)
		}
	})
}

func TestRateIsKept(t *testing.T) {
	tests := []struct {
		name string
		rate float64
		gap  time.Duration
	}{
		{"40 a second", 40, 25 * time.Millisecond},
		{"one in four seconds", 0.25, 4 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(100)...)
				g.hub.takes[opInvoke] = 30 * time.Millisecond
				g.apply(context.Background(), method("m", func(j *spec.Job) { j.Rate = tt.rate }))
				starts := g.hub.starts(opInvoke, "")
				for i, at := range starts {
					// The limiter counts in floating point: it may be off by a nanosecond.
					if want := time.Duration(i) * tt.gap; at.Round(time.Microsecond) != want {
						t.Fatalf("call %d at %v, want %v", i, at, want)
					}
				}
				if len(starts) != 100 {
					t.Errorf("%d calls, want 100", len(starts))
				}
			})
		})
	}
}

// A retry is a call like any other, for a rate.
func TestRateCountsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.hub.on(opInvoke, "device-000000", 1, refused(offline()))
		g.apply(context.Background(), method("m", func(j *spec.Job) { j.Rate = 1 }))
		want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}
		if diff := cmp.Diff(want, g.hub.starts(opInvoke, "")); diff != "" {
			t.Errorf("times of the calls (-want +have):\n%s", diff)
		}
	})
}

// What the hub refused for one device it would refuse for the next.
func TestThrottlingHoldsEveryCallOfItsClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(5)...)
		g.hub.on(opInvoke, "device-000001", 1, refused(throttled(20*time.Second)))
		res := g.apply(context.Background(),
			method("a", serial),
			method("b", serial, delay(5*time.Second), named("device-000000", "device-000002")),
			update("u", `{"floor":3}`, "", delay(6*time.Second)))
		if starts := g.hub.starts(opInvoke, ""); starts[0] != 0 || starts[2] != 20*time.Second {
			t.Errorf("calls at %v, want none between the refused one and 20s: the hold is the hub's, not the job's", starts)
		}
		for _, at := range g.hub.starts(opInvoke, "")[2:] {
			if at < 20*time.Second {
				t.Errorf("a call at %v, and the hub had asked for 20s", at)
			}
		}
		for _, at := range g.hub.starts(opPatch, "") {
			if at != 6*time.Second {
				t.Errorf("a patch at %v, want 6s: methods were throttled, not patches", at)
			}
		}
		if got := res.report.Summary.ThrottledMs; got < 20_000 || got > 22_000 {
			t.Errorf("throttledMs = %d, want 20000 and a little for the pace after that", got)
		}
		wantOutcomes(t, res.job(t, "a"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 5})
	})
}

// After a 429 the rate that the plan sets is still the rate.
func TestRateIsKeptAfterThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(40)...)
		g.hub.takes[opInvoke] = 100 * time.Millisecond
		g.hub.on(opInvoke, "device-000005", 1, refused(throttled(30*time.Second)))
		g.apply(context.Background(), method("m", func(j *spec.Job) { j.Rate, j.Concurrency = 10, 32 }))
		starts := g.hub.starts(opInvoke, "")
		for i := range starts[1:] {
			if gap := starts[i+1] - starts[i]; gap.Round(time.Microsecond) < 100*time.Millisecond {
				t.Errorf("calls %d and %d are %v apart, want 100ms", i, i+1, gap)
			}
		}
	})
}
