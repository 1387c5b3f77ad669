// Package schedule says when a job begins: its due time, its window, and what
// happens when its time has already passed. It is pure: every function takes the
// time that it is to judge by.
package schedule

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"iothub-runner/spec"
)

// LateAfter is how far a job's time may lie in the past as the run starts
// before ifLate speaks. Whoever starts a run at the minute that stands in the
// plan, as cron does, is in time: a program takes a moment to start.
const LateAfter = time.Minute

// LateError means that the time of a job had passed when the run started, and
// that the plan does not let it be late: no job begins.
type LateError struct {
	Job  string
	At   time.Time
	Now  time.Time // when the run started, or was resumed
	More int       // other jobs that are late as well
}

// Error gives both times.
func (e *LateError) Error() string {
	text := "job " + e.Job + " is late: " + passed(e.At, e.Now) + ", and ifLate is fail"
	switch {
	case e.More == 1:
		text += "; 1 more job is late as well"
	case e.More > 1:
		text += fmt.Sprintf("; %d more jobs are late as well", e.More)
	}
	return text
}

// passed says by how much a time has passed.
func passed(at, now time.Time) string {
	return fmt.Sprintf("its at, %s, had passed by %s when the run started at %s",
		at.UTC().Format(time.RFC3339), now.Sub(at).Truncate(time.Second), now.UTC().Format(time.RFC3339))
}

// Hold is why a job does not begin, and how it ends therefore.
type Hold struct {
	Status spec.Status
	Err    error
}

// Outcome is how the targets end that the plan names.
func (h Hold) Outcome() spec.Outcome {
	if h.Status == spec.StatusSkipped {
		return spec.OutcomeSkipped
	}
	return spec.OutcomeNotReached
}

// Holds are the jobs that do not begin, by name.
type Holds map[string]Hold

// HoldLate tells which jobs do not begin because a time has passed before now.
// It is known before anything is asked of a hub, and the same for a run and a
// preview. Jobs that had begun in an earlier run are not late any more; begun is
// nil if there was none. The error is not nil if the plan lets no job begin.
func HoldLate(plan *spec.Plan, now time.Time, begun func(job string) bool) (Holds, *LateError) {
	held := Holds{}
	var late *LateError
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		if job.At.IsZero() || now.Sub(job.At) <= LateAfter || begun != nil && begun(job.Name) {
			continue
		}
		switch job.IfLate {
		case spec.LateRun:
		case spec.LateSkip:
			held[job.Name] = Hold{spec.StatusSkipped, errors.New(passed(job.At, now) + ", and ifLate is skip")}
		case spec.LateFail:
			held[job.Name] = Hold{spec.StatusStopped, errors.New(passed(job.At, now) + ", and ifLate is fail")}
			if late == nil {
				late = &LateError{Job: job.Name, At: job.At, Now: now}
			} else {
				late.More++
			}
		}
	}
	held.skipDependents(plan, begun)
	if late == nil {
		return held, nil
	}
	for i := range plan.Jobs {
		name := plan.Jobs[i].Name
		if _, ok := held[name]; !ok && (begun == nil || !begun(name)) {
			held[name] = Hold{spec.StatusNotStarted, fmt.Errorf("no job begins, because job %s is late", late.Job)}
		}
	}
	return held, late
}

// skipDependents skips the jobs that need the success of a skipped one: there
// is nothing that they could build on, and it is as the plan wants it.
func (held Holds) skipDependents(plan *spec.Plan, begun func(job string) bool) {
	for more := true; more; {
		more = false
		for i := range plan.Jobs {
			job := &plan.Jobs[i]
			if _, ok := held[job.Name]; ok || begun != nil && begun(job.Name) {
				continue
			}
			for _, need := range job.Needs {
				if need.If != spec.NeedAlways && held[need.Job].Status == spec.StatusSkipped {
					held[job.Name] = Hold{spec.StatusSkipped, fmt.Errorf("it needs job %s, which is skipped", need.Job)}
					more = true
					break
				}
			}
		}
	}
}

// Later returns the later of two times.
func Later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Due returns when a job is to begin that may begin at start: that is when the
// run starts, or when the jobs that it needs have ended. A time of its own that
// has passed by then makes it begin at once; whether that is too late is
// judged as the run starts, and HoldLate does it.
func Due(start time.Time, job *spec.Job) time.Time {
	if !job.At.IsZero() {
		return Later(start, job.At)
	}
	return start.Add(job.Delay)
}

// Begins returns when a job begins that is due at a time: then, or when its window
// opens next; and when that closes, zero if the job has none.
func Begins(job *spec.Job, due time.Time) (begins, closes time.Time) {
	if job.Window == nil {
		return due, time.Time{}
	}
	opens, closes := NextOpening(job.Window, due)
	return Later(due, opens), closes
}

// NextOpening returns the first span of a window that ends after t. On a day on
// which the clocks skip all of it there is none. It is empty if there is none
// within a fortnight, which no valid window has.
func NextOpening(w *spec.Window, t time.Time) (from, to time.Time) {
	local := t.In(w.Location)
	for day := -1; day < 15; day++ { // the one that opened yesterday may still be open
		y, m, d := local.Date()
		closes := d + day
		if w.To <= w.From {
			closes++
		}
		from, to = clock(y, m, d+day, w.From, w.Location), clock(y, m, closes, w.To, w.Location)
		if to.After(t) && to.After(from) && opensOn(w, time.Date(y, m, d+day, 0, 0, 0, 0, time.UTC).Weekday()) {
			return from, to
		}
	}
	return time.Time{}, time.Time{}
}

func opensOn(w *spec.Window, day time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, day)
}

// clock returns a time of day.
func clock(y int, m time.Month, d int, sinceMidnight time.Duration, in *time.Location) time.Time {
	wall := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Add(sinceMidnight)
	at, _ := spec.Local(wall, in)
	return at
}

// DueInRun returns when a job is to begin in a run that started, and may have been
// resumed, at these times; resumed is zero if it was not. The original time stands
// while it is still to come.
func DueInRun(job *spec.Job, started, resumed time.Time) time.Time {
	return Later(Due(started, job), resumed)
}

// Deadline returns when the time budget of a job ends that was due at a time; zero
// if it has none. In a resumed run it counts from the resumption, or there would be
// no point in one.
func Deadline(job *spec.Job, due time.Time) time.Time {
	if job.Deadline <= 0 {
		return time.Time{}
	}
	return due.Add(job.Deadline)
}
