package runner

import (
	"errors"
	"fmt"
	"time"

	"iothub-runner/spec"
)

// lateAfter is how far a job's time may lie in the past as the run starts
// before ifLate speaks. Whoever starts a run at the minute that stands in the
// plan, as cron does, is in time: a program takes a moment to start.
const lateAfter = time.Minute

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

// hold is why a job does not begin, and how it ends therefore.
type hold struct {
	status spec.Status
	err    error
}

// outcome is how the targets end that the plan names.
func (h hold) outcome() spec.Outcome {
	if h.status == spec.StatusSkipped {
		return spec.OutcomeSkipped
	}
	return spec.OutcomeNotReached
}

// holds are the jobs that do not begin, by name.
type holds map[string]hold

// holdLate tells which jobs do not begin because a time has passed before now.
// It is known before anything is asked of a hub, and the same for a run and a
// preview. Jobs that had begun in an earlier run are not late any more; begun is
// nil if there was none. The error is not nil if the plan lets no job begin.
func holdLate(plan *spec.Plan, now time.Time, begun func(job string) bool) (holds, *LateError) {
	held := holds{}
	var late *LateError
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		if job.At.IsZero() || now.Sub(job.At) <= lateAfter || begun != nil && begun(job.Name) {
			continue
		}
		switch job.IfLate {
		case spec.LateRun:
		case spec.LateSkip:
			held[job.Name] = hold{spec.StatusSkipped, errors.New(passed(job.At, now) + ", and ifLate is skip")}
		case spec.LateFail:
			held[job.Name] = hold{spec.StatusStopped, errors.New(passed(job.At, now) + ", and ifLate is fail")}
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
			held[name] = hold{spec.StatusNotStarted, fmt.Errorf("no job begins, because job %s is late", late.Job)}
		}
	}
	return held, late
}

// skipDependents skips the jobs that need the success of a skipped one: there
// is nothing that they could build on, and it is as the plan wants it.
func (held holds) skipDependents(plan *spec.Plan, begun func(job string) bool) {
	for more := true; more; {
		more = false
		for i := range plan.Jobs {
			job := &plan.Jobs[i]
			if _, ok := held[job.Name]; ok || begun != nil && begun(job.Name) {
				continue
			}
			for _, need := range job.Needs {
				if need.If != spec.NeedAlways && held[need.Job].status == spec.StatusSkipped {
					held[job.Name] = hold{spec.StatusSkipped, fmt.Errorf("it needs job %s, which is skipped", need.Job)}
					more = true
					break
				}
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
