package runner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/preview"
	"iothub-runner/internal/schedule"
	"iothub-runner/spec"
)

// lateBy gives a job a time that lies so far in the past, and says what then.
func lateBy(d time.Duration, p spec.LatePolicy) func(*spec.Job) {
	at := time.Now().Add(-d)
	return func(j *spec.Job) { j.At, j.IfLate = at, p }
}

// summed is how jobs ended: status by name.
func summed(rep spec.Report) map[string]spec.Status {
	all := map[string]spec.Status{}
	for _, j := range rep.Jobs {
		all[j.Name] = j.Status
	}
	return all
}

// A job whose time has passed as the run starts is late from the first instant
// beyond a minute on. A preview says the same as a run does.
func TestIfLate(t *testing.T) {
	tests := []struct {
		by     time.Duration
		policy spec.LatePolicy
		status spec.Status // of the job
		other  spec.Status // of one without a time
	}{
		{-time.Minute, spec.LateFail, spec.StatusSucceeded, spec.StatusSucceeded},
		{0, spec.LateFail, spec.StatusSucceeded, spec.StatusSucceeded},
		{time.Minute, spec.LateFail, spec.StatusSucceeded, spec.StatusSucceeded},
		{time.Minute + 1, spec.LateFail, spec.StatusStopped, spec.StatusNotStarted},
		{time.Minute, spec.LateSkip, spec.StatusSucceeded, spec.StatusSucceeded},
		{time.Minute + 1, spec.LateSkip, spec.StatusSkipped, spec.StatusSucceeded},
		{time.Minute + 1, spec.LateRun, spec.StatusSucceeded, spec.StatusSucceeded},
		{24 * time.Hour, spec.LateRun, spec.StatusSucceeded, spec.StatusSucceeded},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s by %s", tt.policy, tt.by), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(3)...)
				jobs := []spec.Job{
					method("lock", lateBy(tt.by, tt.policy), named("device-000001", "device-000002"), deadline(time.Minute)),
					method("other"),
				}
				f := g.preview(preview.Options{}, jobs...)
				res := g.apply(context.Background(), jobs...)
				want := map[string]spec.Status{"lock": tt.status, "other": tt.other}
				if diff := cmp.Diff(want, summed(res.report)); diff != "" {
					t.Errorf("statuses of the jobs (-want +have):\n%s", diff)
				}
				checkLate(t, f, res)
				if sent := len(g.hub.of(opInvoke, "")); sent != f.Summary.Calls {
					t.Errorf("%d calls, the preview says %d", sent, f.Summary.Calls)
				}
				rows := map[spec.Status]spec.Outcome{
					spec.StatusSucceeded: spec.OutcomeSucceeded, spec.StatusStopped: spec.OutcomeNotReached, spec.StatusSkipped: spec.OutcomeSkipped,
				}
				wantOutcomes(t, res.job(t, "lock"), tt.status, map[spec.Outcome]int{rows[tt.status]: 2})
			})
		})
	}
}

// checkLate holds what a preview says of jobs that would not run against what a
// run did.
func checkLate(tb testing.TB, f *preview.Forecast, res result) {
	tb.Helper()
	for i, job := range res.report.Jobs {
		held := job.Status != spec.StatusSucceeded
		if held != (f.Jobs[i].Stopped != "") || held && f.Jobs[i].Stopped != job.Reason {
			tb.Errorf("job %s is %s: %q, the preview says %q", job.Name, job.Status, job.Reason, f.Jobs[i].Stopped)
		}
		if f.Jobs[i].Skipped != (job.Status == spec.StatusSkipped) {
			tb.Errorf("job %s is %s, skipped in the preview: %t", job.Name, job.Status, f.Jobs[i].Skipped)
		}
		if f.Jobs[i].Targets != job.Targets && held {
			tb.Errorf("job %s has %d rows, the preview says %d", job.Name, job.Targets, f.Jobs[i].Targets)
		}
	}
	if diff := cmp.Diff(fmt.Sprint(f.Stopped()), fmt.Sprint(res.run.Cause())); diff != "" {
		tb.Errorf("why the run ended (-preview +run):\n%s", diff)
	}
}

// Nothing is asked of a hub, but for whether it is there, when the plan lets no
// job begin; and the words give all that one needs.
func TestLateRunSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		now := time.Now()
		jobs := []spec.Job{method("first"), method("lock", lateBy(3*time.Hour, spec.LateFail)), update("u", `{"a":1}`, "", lateBy(time.Hour, spec.LateFail))}
		f := g.preview(preview.Options{}, jobs...)
		res := g.apply(context.Background(), jobs...)
		if n := len(g.hub.calls); n != 2 {
			t.Errorf("%d requests, want one to see whether the hub is there, of each: %+v", n, g.hub.calls)
		}
		want := &schedule.LateError{Job: "lock", At: now.Add(-3 * time.Hour), Now: now, More: 1}
		if diff := cmp.Diff(error(want), res.run.Cause()); diff != "" {
			t.Errorf("Cause() (-want +have):\n%s", diff)
		}
		text := "job lock is late: its at, 1999-12-31T21:00:00Z, had passed by 3h0m0s when the run started at 2000-01-01T00:00:00Z, and ifLate is fail; 1 more job is late as well"
		if have := fmt.Sprint(res.run.Cause()); have != text {
			t.Errorf("Cause() = %s\nwant %s", have, text)
		}
		if res.report.Run.Status != spec.StatusStopped || res.report.Run.Reason != text {
			t.Errorf("the run is %s: %s", res.report.Run.Status, res.report.Run.Reason)
		}
		checkLate(t, f, res)
		wantStatuses := map[string]spec.Status{"first": spec.StatusNotStarted, "lock": spec.StatusStopped, "u": spec.StatusStopped}
		if diff := cmp.Diff(wantStatuses, summed(res.report)); diff != "" {
			t.Errorf("statuses (-want +have):\n%s", diff)
		}
		if at := res.job(t, "lock").ScheduledAt; !at.Equal(want.At) {
			t.Errorf("lock was scheduled at %v, want %v", at, want.At)
		}
	})
}

// What needs the success of a skipped job is skipped with it; what only comes
// after it runs.
func TestNeedsOfASkippedJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		jobs := []spec.Job{
			method("last", needs("lock", spec.NeedSucceeded)),
			method("lock", needs("move", spec.NeedSucceeded), delay(time.Minute)),
			method("after", needs("move", spec.NeedAlways), delay(time.Minute)),
			update("move", `{"floor":3}`, "", lateBy(time.Hour, spec.LateSkip)),
		}
		f := g.preview(preview.Options{}, jobs...)
		res := g.apply(context.Background(), jobs...)
		checkLate(t, f, res)
		want := map[string]spec.Status{
			"last": spec.StatusSkipped, "lock": spec.StatusSkipped, "after": spec.StatusSucceeded, "move": spec.StatusSkipped,
		}
		if diff := cmp.Diff(want, summed(res.report)); diff != "" {
			t.Errorf("statuses (-want +have):\n%s", diff)
		}
		if res.run.Status() != spec.StatusSucceeded || res.run.Cause() != nil {
			t.Errorf("the run is %s: %v, want it succeeded: what the plan skips is no miss", res.run.Status(), res.run.Cause())
		}
		if got := res.job(t, "last").Reason; got != "it needs job lock, which is skipped" {
			t.Errorf("reason of last: %q", got)
		}
		if got := res.job(t, "after").StartedAt.Sub(g.hub.begin); got != time.Minute {
			t.Errorf("after started %v after the run, want its delay", got)
		}
	})
}

// A job that starts late is due when the run starts: its deadline counts from
// then, or it could never be reached.
func TestLateJobHasItsWholeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2)...)
		g.hub.takes[opInvoke] = 20 * time.Second
		res := g.apply(context.Background(), method("m", serial, lateBy(time.Hour, spec.LateRun), deadline(30*time.Second)))
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 2})
		if at := res.job(t, "m").ScheduledAt; !at.Equal(g.hub.begin) {
			t.Errorf("scheduled at %v, want the start of the run", at)
		}
	})
}

// A job that waits for others is not late by that: at and needs are two
// conditions, and it starts when both are met.
func TestTimeThatPassesWhileOthersRun(t *testing.T) {
	for _, tt := range []struct {
		name        string
		takes, want time.Duration
	}{
		{"ends before", 10 * time.Minute, 30 * time.Minute},
		{"ends after", 2 * time.Hour, 2 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(1)...)
				g.hub.takes[opPatch] = tt.takes
				res := g.apply(context.Background(), update("move", `{"floor":3}`, ""),
					method("lock", needs("move", spec.NeedSucceeded), lateBy(-30*time.Minute, spec.LateFail), deadline(time.Minute)))
				wantOutcomes(t, res.job(t, "lock"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
				if got := g.hub.starts(opInvoke, ""); len(got) != 1 || got[0] != tt.want {
					t.Errorf("called after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// A run that goes on is late by the same rule, but for jobs that had begun:
// these go on.
func TestResumedRunIsLate(t *testing.T) {
	for _, tt := range []struct {
		policy spec.LatePolicy
		want   map[string]spec.Status
		ran    int // calls of the job whose time passed in between
	}{
		{spec.LateFail, map[string]spec.Status{"begun": spec.StatusSucceeded, "lock": spec.StatusStopped, "other": spec.StatusNotStarted}, 0},
		{spec.LateSkip, map[string]spec.Status{"begun": spec.StatusSucceeded, "lock": spec.StatusSkipped, "other": spec.StatusSucceeded}, 0},
		{spec.LateRun, map[string]spec.Status{"begun": spec.StatusSucceeded, "lock": spec.StatusSucceeded, "other": spec.StatusSucceeded}, 2},
	} {
		t.Run(string(tt.policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(2)...)
				g.hub.takes[opInvoke] = time.Minute
				jobs := []spec.Job{
					method("begun", serial, lateBy(-time.Minute, spec.LateFail)),
					method("lock", lateBy(-time.Hour, tt.policy)),
					method("other", delay(2*time.Hour)),
				}
				g.apply(interruptAt(t, 90*time.Second), jobs...) // begun has called one device
				<-time.NewTimer(3*time.Hour - time.Since(g.hub.begin)).C
				res := g.apply(context.Background(), jobs...)
				if diff := cmp.Diff(tt.want, summed(res.report)); diff != "" {
					t.Errorf("statuses (-want +have):\n%s", diff)
				}
				_, late := errors.AsType[*schedule.LateError](res.run.Cause())
				if late != (tt.policy == spec.LateFail) {
					t.Errorf("Cause() = %v", res.run.Cause())
				}
				if n := g.hub.ran("begun", device("device-000001")); n != 1 {
					t.Errorf("begun called its second device %d times, want once", n)
				}
				if n := g.hub.ran("lock", device("device-000000")) + g.hub.ran("lock", device("device-000001")); n != tt.ran {
					t.Errorf("lock made %d calls, want %d", n, tt.ran)
				}
			})
		})
	}
}

// The run of a pinned preview that was in time may be late itself.
func TestPinnedRunIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2)...)
		job := method("lock", lateBy(-time.Minute, spec.LateFail))
		file := g.pin(job)
		<-time.NewTimer(3 * time.Minute).C
		res := g.applyPinned(file, job)
		if res.run.Status() != spec.StatusStopped || !strings.HasPrefix(fmt.Sprint(res.run.Cause()), "job lock is late: ") {
			t.Errorf("the run is %s: %v", res.run.Status(), res.run.Cause())
		}
		if n := len(g.hub.of(opInvoke, "")); n != 0 {
			t.Errorf("%d calls, want none", n)
		}
	})
}

// A job that was cut off before it had found any device had begun all the same.
func TestResumedJobHadBegunWithNothingDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2)...)
		g.fail(opQuery, "", refused(throttled(time.Hour)))
		job := method("lock", lateBy(0, spec.LateFail))
		g.apply(interruptAt(t, 5*time.Minute), job)
		res := g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "lock"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 2})
	})
}

// A preview says when a job cannot start at its time, because others take longer.
func TestPreviewOfATimeThatOthersOverrun(t *testing.T) {
	for _, tt := range []struct {
		at       time.Duration
		starts   time.Duration
		warnings []string
	}{
		{9 * time.Second, 10 * time.Second, []string{"job lock is due at 2000-01-01T00:00:09Z, but what it needs ends at 2000-01-01T00:00:10Z at the earliest: it starts then"}},
		{10 * time.Second, 10 * time.Second, []string{}},
		{time.Hour, time.Hour, []string{}},
	} {
		t.Run(tt.at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(10)...)
				slow := func(j *spec.Job) { j.Rate = 1 } // ten devices in ten seconds
				f := g.preview(preview.Options{},
					method("lock", needs("move", spec.NeedSucceeded), lateBy(-tt.at, spec.LateFail), deadline(time.Minute)),
					update("move", `{"floor":3}`, "", slow))
				if diff := cmp.Diff(tt.warnings, f.Warnings); diff != "" {
					t.Errorf("warnings (-want +have):\n%s", diff)
				}
				start, end := f.Jobs[0].StartsAt.Sub(f.CreatedAt.Time), f.Jobs[0].Deadline.Sub(f.CreatedAt.Time)
				if start != tt.starts || end != tt.starts+time.Minute {
					t.Errorf("lock starts after %v and has until %v, want %v and a minute more", start, end, tt.starts)
				}
			})
		})
	}
}
