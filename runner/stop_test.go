package runner_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

func interrupted() error { return &runner.InterruptedError{Signal: "SIGINT", ExitCode: 130} }

// interruptAt cancels as a signal would, at a time of the bubble.
func interruptAt(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	timer := time.AfterFunc(d, func() { cancel(interrupted()) })
	tb.Cleanup(func() {
		timer.Stop()
		cancel(nil)
	})
	return ctx
}

func wantInterrupted(tb testing.TB, res result) {
	tb.Helper()
	if res.err != nil {
		tb.Fatalf("Apply: %v", res.err)
	}
	cause, ok := errors.AsType[*runner.InterruptedError](res.run.Cause())
	if !ok || cause.ExitCode != 130 {
		tb.Errorf("Cause() = %v, want the interruption", res.run.Cause())
	}
	if got := res.run.Status(); got != spec.StatusInterrupted {
		tb.Errorf("Status() = %s, want interrupted", got)
	}
}

func TestInterruptBeforeTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(interrupted())
		res := g.apply(ctx, method("m"))
		if _, ok := errors.AsType[*runner.InterruptedError](res.err); !ok {
			t.Errorf("Apply: %v, want the interruption", res.err)
		}
		if n := len(g.hub.of(opInvoke, "")); n != 0 {
			t.Errorf("%d calls, want none", n)
		}
	})
}

func TestInterruptBeforeAJobIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2")
		res := g.apply(interruptAt(t, 5*time.Second),
			method("now"), method("later", delay(10*time.Second), named("door-1", "door-2", "door-1"), func(j *spec.Job) {
				j.Target.Exclude = idList([]string{"door-2"})
			}))
		wantInterrupted(t, res)
		wantOutcomes(t, res.job(t, "now"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 2})
		later := res.job(t, "later")
		wantOutcomes(t, later, spec.StatusNotStarted, map[spec.Outcome]int{spec.OutcomeNotReached: 1})
		if later.StartedAt != nil || later.EndedAt != nil {
			t.Errorf("started %v, ended %v: the job did neither", later.StartedAt, later.EndedAt)
		}
		if got := res.report.Run.EndedAt.Sub(g.hub.begin); got != 5*time.Second {
			t.Errorf("the run ended after %v, want 5s", got)
		}
	})
}

func TestInterruptDuringTheListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(30)...)
		g.hub.pageSize = 10
		g.hub.takes[opQuery] = 2 * time.Second
		res := g.apply(interruptAt(t, 5*time.Second), method("m"))
		wantInterrupted(t, res)
		// Pages come at 2s and 4s; the third is cut off.
		wantOutcomes(t, res.job(t, "m"), spec.StatusInterrupted, map[spec.Outcome]int{spec.OutcomeSucceeded: 20})
	})
}

func TestInterruptDuringAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.takes[opInvoke] = 20 * time.Second
		res := g.apply(interruptAt(t, 30*time.Second), method("m", func(j *spec.Job) { j.Concurrency = 3 }))
		wantInterrupted(t, res)
		wantOutcomes(t, res.job(t, "m"), spec.StatusInterrupted, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 6, spec.OutcomeNotReached: 4,
		})
		if got := res.report.Run.EndedAt.Sub(g.hub.begin); got != 40*time.Second {
			t.Errorf("the run ended after %v, want 40s: what was in flight ends by itself", got)
		}
		if n := len(g.hub.of(opInvoke, "")); n != 6 {
			t.Errorf("%d calls, want 6", n)
		}
	})
}

func TestInterruptDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		wait := func(err *hub.Error) fault { return refused(hinted(err, time.Hour)) }
		g.hub.on(opInvoke, "device-000000", 0, wait(offline()))
		g.hub.on(opInvoke, "device-000001", 0, wait(kind(hub.KindNotSent)))
		g.hub.on(opInvoke, "device-000002", 0, fault{err: hinted(noAnswer(), time.Hour), acts: true})
		res := g.apply(interruptAt(t, time.Minute), method("m", idempotent))
		wantInterrupted(t, res)
		wantOutcomes(t, res.job(t, "m"), spec.StatusInterrupted, map[spec.Outcome]int{
			spec.OutcomeNotReached: 2, spec.OutcomeUnanswered: 1, spec.OutcomeSucceeded: 1,
		})
		if row := res.row(t, "m", "device-000000"); row.Attempts != 1 || errorKind(row) != "offline" || len(row.History) != 1 {
			t.Errorf("row = %+v, want the attempt that was made and how it ended", row)
		}
		if got := res.report.Run.EndedAt.Sub(g.hub.begin); got != time.Minute {
			t.Errorf("the run ended after %v, want 1m", got)
		}
	})
}

func TestInterruptWhileTheHubThrottles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		g.hub.on(opInvoke, "device-000001", 1, refused(throttled(time.Hour)))
		res := g.apply(interruptAt(t, time.Minute), method("m", serial))
		wantInterrupted(t, res)
		wantOutcomes(t, res.job(t, "m"), spec.StatusInterrupted, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 1, spec.OutcomeNotReached: 3,
		})
	})
}

// The second signal, or the end of the grace period, cuts what is in flight.
func TestEndOfWorkCutsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(5)...)
		g.hub.takes[opInvoke] = time.Hour
		g.hub.takes[opPatch] = time.Hour
		work, cut := context.WithCancel(context.Background())
		timer := time.AfterFunc(40*time.Second, cut)
		defer timer.Stop()
		g.options = runner.Options{Work: work}
		two := func(j *spec.Job) { j.Concurrency = 2 }
		res := g.apply(interruptAt(t, 30*time.Second),
			method("m", two), method("again", idempotent, two), update("u", `{"floor":3}`, "", two))
		wantInterrupted(t, res)
		for _, name := range []string{"m", "again", "u"} {
			wantOutcomes(t, res.job(t, name), spec.StatusInterrupted, map[spec.Outcome]int{
				spec.OutcomeUnanswered: 2, spec.OutcomeNotReached: 3,
			})
		}
		if row := res.row(t, "u", "device-000000"); row.Twin == nil || string(row.Twin.Before.Desired) != `{"floor":null}` {
			t.Errorf("row = %+v, want the before-values of the patch that may have been applied", row)
		}
		if got := res.report.Run.EndedAt.Sub(g.hub.begin); got != 40*time.Second {
			t.Errorf("the run ended after %v, want 40s", got)
		}
	})
}

func TestDeadlineLeavesTheRestNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.takes[opInvoke] = 20 * time.Second
		res := g.apply(context.Background(),
			method("m", serial, delay(10*time.Second), deadline(30*time.Second)), method("other"))
		wantOutcomes(t, res.job(t, "m"), spec.StatusStopped, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 2, spec.OutcomeNotReached: 8,
		})
		if got := res.job(t, "m").EndedAt.Sub(g.hub.begin); got != 50*time.Second {
			t.Errorf("the job ended after %v, want 50s: the deadline begins nothing and cuts nothing", got)
		}
		wantOutcomes(t, res.job(t, "other"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 10})
		if res.run.Cause() != nil || res.run.Status() != spec.StatusStopped {
			t.Errorf("Cause() = %v, Status() = %s, want nil and stopped", res.run.Cause(), res.run.Status())
		}
	})
}

// A job that did not come to know its target cannot have met its criteria.
func TestDeadlineDuringTheListingIsNoSuccess(t *testing.T) {
	tests := []struct {
		name  string
		pages []fault
		want  map[spec.Outcome]int
	}{
		{"some listed and done", []fault{{}, refused(throttled(time.Hour))}, map[spec.Outcome]int{spec.OutcomeSucceeded: 10}},
		{"none listed", []fault{refused(throttled(time.Hour))}, map[spec.Outcome]int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(30)...)
				g.hub.pageSize = 10
				g.fail(opQuery, "", tt.pages...)
				res := g.apply(context.Background(), method("m", deadline(30*time.Second)))
				wantOutcomes(t, res.job(t, "m"), spec.StatusStopped, tt.want)
			})
		})
	}
}

func TestDeadlineFindsOfflineDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		g.hub.on(opInvoke, "device-000001", 0, refused(hinted(offline(), 7*time.Second)))
		g.hub.on(opInvoke, "device-000002", 0, refused(hinted(offline(), 7*time.Second)))
		res := g.apply(context.Background(), method("m", whenOffline(spec.OfflineWait), deadline(time.Minute)))
		wantOutcomes(t, res.job(t, "m"), spec.StatusFailed, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 2, spec.OutcomeOffline: 2,
		})
		if got := res.job(t, "m").EndedAt.Sub(g.hub.begin); got != time.Minute {
			t.Errorf("the job ended after %v, want 1m", got)
		}
	})
}
