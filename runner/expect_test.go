package runner_test

import (
	"context"
	"testing"
	"testing/synctest"

	"iothub-runner/spec"
)

// The listing may be over before anybody has counted its last page. More
// targets than expected are too many all the same, and nothing is sent.
func TestMoreThanExpectedOnTheLastPage(t *testing.T) {
	for _, to := range []func(*spec.Job){
		aimed(func(x *spec.Target) { x.Expect.Max = 3 }),
		func(j *spec.Job) {
			named(devices(4)...)(j)
			j.Target.Expect.Max = 3
		},
	} {
		for range 100 { // which comes first is up to the scheduler
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(4)...)
				res := g.apply(context.Background(), method("lock", to))
				wantOutcomes(t, res.job(t, "lock"), spec.StatusStopped, map[spec.Outcome]int{spec.OutcomeNotReached: 4})
				if got, want := res.job(t, "lock").Reason, "the target matched at least 4 devices, expect.max is 3"; got != want {
					t.Errorf("reason %q, want %q", got, want)
				}
				if n := len(g.hub.of(opInvoke, "")); n > 0 {
					t.Errorf("%d calls, want none", n)
				}
			})
		}
	}
}
