package runner_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/spec"
)

// In synctest it is midnight UTC on 1 January 2000, a Saturday.

func window(from, to time.Duration, days ...time.Weekday) func(*spec.Job) {
	return func(j *spec.Job) {
		j.Window = &spec.Window{From: from, To: to, Days: days, Timezone: "UTC", Location: time.UTC}
	}
}

// Attempts begin only inside the window; what is left goes on when it opens again.
func TestJobsStayInTheirWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.takes[opInvoke] = 11 * time.Minute
		job := method("m", serial, window(2*time.Hour, 3*time.Hour))
		res := g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "m"), spec.StatusStopped, map[spec.Outcome]int{spec.OutcomeSucceeded: 6, spec.OutcomeNotReached: 4})
		if have, want := res.job(t, "m").Reason, "the window closed at 2000-01-01T03:00:00Z; it opens next at 2000-01-02T02:00:00Z; 4 of 10 targets are left"; have != want {
			t.Errorf("reason %q, want %q", have, want)
		}
		if at := res.job(t, "m").ScheduledAt.Sub(g.hub.begin); at != 2*time.Hour {
			t.Errorf("due after %v, want 2h", at)
		}
		res = g.apply(context.Background(), job) // at once, hours before the window opens
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 10})
		starts := g.hub.starts(opInvoke, "")
		slices.Sort(starts)
		for i, at := range starts {
			want := 2*time.Hour + time.Duration(i)*11*time.Minute
			if i >= 6 {
				want = 26*time.Hour + time.Duration(i-6)*11*time.Minute
			}
			if at != want {
				t.Errorf("call %d began after %v, want %v", i, at, want)
			}
		}
	})
}

// A window that closes when all is done stops nothing, and one that is open lets
// the job begin at once.
func TestWindowThatIsWideEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.takes[opInvoke] = 2 * time.Hour
		res := g.apply(context.Background(), method("m", window(23*time.Hour, time.Hour)))
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
		if at := g.hub.starts(opInvoke, "")[0]; at != 0 {
			t.Errorf("called after %v, want at once", at)
		}
	})
}

// Devices that are offline when the window closes are waited for in the next one.
func TestOfflineDevicesWaitForTheNextWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2")
		night := []func(*spec.Job){window(2*time.Hour, 3*time.Hour), whenOffline(spec.OfflineWait), func(j *spec.Job) {
			j.Retry.Backoff, j.Retry.MaxBackoff = time.Minute, 10*time.Minute
		}}
		g.hub.on(opInvoke, "door-1", 0, refused(offline()))
		res := g.apply(context.Background(), method("m", night...))
		wantOutcomes(t, res.job(t, "m"), spec.StatusStopped, map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeNotReached: 1})
		g.hub.on(opInvoke, "door-1", 0, fault{})
		res = g.apply(context.Background(), method("m", night...))
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 2})
		if starts := g.hub.starts(opInvoke, "door-1"); starts[len(starts)-1] != 26*time.Hour {
			t.Errorf("called again after %v, want 26h", starts[len(starts)-1])
		}
	})
}

// A pause that ends after the window has closed ends in the next one.
func TestWavesOverTwoNights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		job := method("m", window(2*time.Hour, 3*time.Hour), inWaves(2*time.Hour, "1", "100%"))
		res := g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "100% 3 notStarted notReached=3")
		res = g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "100% 3 passed succeeded=3")
		starts := g.hub.starts(opInvoke, "")
		if last := slices.Max(starts); last != 26*time.Hour {
			t.Errorf("the second wave began after %v, want 26h", last)
		}
	})
}

func TestJobThatNeedsAnotherWaitsForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.takes[opInvoke] = time.Hour
		res := g.apply(context.Background(), method("first"), method("second", needs("first", spec.NeedSucceeded), window(2*time.Hour, 4*time.Hour)))
		if at := res.job(t, "second").StartedAt.Sub(g.hub.begin); at != 2*time.Hour {
			t.Errorf("begun after %v, want 2h", at)
		}
	})
}
