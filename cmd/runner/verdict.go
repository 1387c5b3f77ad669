package main

import (
	"errors"
	"slices"
	"strings"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/render"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/state"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// verdict puts a run that did not succeed into one line, with a hint what to do
// about it. The report tells the rest.
func verdict(rep *spec.Report, cause error, seeWhy string, record *state.Record) *exit.Error {
	f := &exit.Error{Code: rep.Run.ExitCode, Err: cause}
	switch {
	case f.Code == exit.Hub:
		if e, ok := errors.AsType[*target.HubError](cause); ok {
			f.Hint = hubHint(e)
		}
	case f.Code == exit.SIGINT || f.Code == exit.SIGTERM || f.Code == exit.SIGHUP:
		f.Hint = render.Untouched(rep) + goOn(record)
	case f.Code == exit.Internal:
		f.Hint = "nothing is sent that cannot be recorded; make room for the journal" + goOn(record)
	case isLate(cause):
		f.Hint = lateHint
		if record.Past != nil {
			f.Hint = "the jobs that had begun went on; to go on with other jobs alone, name them with --job"
		}
	case rep.Summary.Attempts == 0:
		f.Err, f.Hint = errors.New(render.MissedJobs(rep)), "nothing was sent"
	case f.Code == exit.Stopped:
		f.Err = errors.New(render.MissedJobs(rep))
		f.Hint = render.Untouched(rep) + goOn(record)
		if ruled(rep) && record.Shown != "" {
			f.Hint = render.Untouched(rep) + "; once the cause is repaired, go on with " + again(record) + " --only failed,offline,notReached"
		}
	default:
		f.Err, f.Hint = errors.New(render.MissedJobs(rep)), render.MissedHint(rep, seeWhy)
	}
	if f.Err == nil {
		f.Err = errors.New(render.MissedJobs(rep))
	}
	return f
}

// ruled tells whether the rule of a rollout has stopped a job. It holds as long as
// the devices count that made it speak, so these have to be done again.
func ruled(rep *spec.Report) bool {
	return slices.ContainsFunc(rep.Jobs, func(j spec.JobReport) bool {
		return slices.ContainsFunc(j.Waves, func(w spec.WaveReport) bool { return w.Verdict == spec.VerdictStopped })
	})
}

// lateHint says what can be done about a job whose time has passed, in the same
// words for apply and preview.
const lateHint = "nothing was sent; with ifLate: run a late job starts at once, with ifLate: skip it is left out"

func isLate(err error) bool {
	_, ok := errors.AsType[*schedule.LateError](err)
	return ok
}

// goOn says how to go on with a run, if its journal is kept.
func goOn(record *state.Record) string {
	if record.Shown == "" {
		return ""
	}
	return "; go on with " + again(record)
}

// again is the command that goes on with a run, empty without a journal.
func again(record *state.Record) string {
	if record.Shown == "" {
		return ""
	}
	words := []string{"runner apply"}
	for _, arg := range append(record.Flags, record.Plan, "--resume", record.Shown) {
		words = append(words, render.ShellWord(arg))
	}
	return strings.Join(words, " ")
}
