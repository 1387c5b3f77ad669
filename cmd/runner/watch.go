package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/render"
	"iothub-runner/internal/state"
	"iothub-runner/internal/telemetry"
	"iothub-runner/internal/terminal"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// stepSummaryVar names the file whose Markdown GitHub shows with a job's step.
const stepSummaryVar = "GITHUB_STEP_SUMMARY"

// watchers are all that look on while a run is under way.
type watchers struct {
	observers runner.Observers
	live      *terminal.Live
	events    *render.Events // nil without --output ndjson
	rowEnded  []func(job string, row []byte)
	otlp      *telemetry.OTLP          // nil without --otlp
	ends      []func(rep *spec.Report) // of whoever tells others, all at once
	over      bool                     // they were told
}

// watchers returns who is to look on.
func (f *applyFlags) watchers(ctx context.Context, env environment, talk *terminal.Talk, record *state.Record, hubs *openedHubs) (*watchers, error) {
	w := &watchers{live: terminal.Watch(talk, record.Shown)}
	w.observers = append(w.observers, w.live)
	if talk.Verbose {
		w.rowEnded = append(w.rowEnded, talk.RowEnded)
	}
	if f.output == "ndjson" {
		w.events = render.NewEvents(env.stdout)
		w.observers = append(w.observers, &eventWatch{events: w.events})
		w.rowEnded = append(w.rowEnded, func(job string, row []byte) {
			_ = w.events.Row(job, row) // who does not read does not keep the run from going on
		})
	}
	return w, f.tell.watch(ctx, w, f, env, talk, hubs)
}

// within is what makes the context of a job's calls; nil for nothing.
func (w *watchers) within() func(ctx context.Context, job string) context.Context {
	if w.otlp == nil {
		return nil
	}
	return w.otlp.Within
}

// close ends what a run has not ended that never began.
func (w *watchers) close() {
	if w.otlp != nil && !w.over {
		_ = w.otlp.Close() // there is nothing to tell
	}
}

// rows is who is told of each row; nil for nobody.
func (w *watchers) rows() func(job string, row []byte) {
	if len(w.rowEnded) == 0 {
		return nil
	}
	return func(job string, row []byte) {
		for _, told := range w.rowEnded {
			told(job, row)
		}
	}
}

// end tells of the end of the run.
func (w *watchers) end(rep *spec.Report) {
	if w.events != nil {
		_ = w.events.End(rep) // as for the rows
	}
	w.over = true
	var told sync.WaitGroup
	for _, end := range w.ends {
		told.Go(func() { end(rep) })
	}
	told.Wait()
}

// eventWatch writes events to stdout.
type eventWatch struct{ events *render.Events }

// RunStarted writes the head of the run's report.
func (e *eventWatch) RunStarted(run *runner.Run) {
	info := run.Info()
	e.events.Run(&info)
	_ = e.events.Flush()
}

// JobStarted writes an event.
func (e *eventWatch) JobStarted(name string) {
	e.events.JobStarted(name)
	_ = e.events.Flush()
}

// WaveStarted writes an event.
func (e *eventWatch) WaveStarted(job string, w runner.WaveStart) {
	e.events.WaveStarted(job, w.Hub, w.Wave, w.Waves, w.Targets)
	_ = e.events.Flush()
}

// JobEnded writes an event.
func (e *eventWatch) JobEnded(job spec.JobReport) {
	e.events.Job(&job)
	_ = e.events.Flush()
}

// openReports opens the places of the report. Events take stdout from it.
func (f *applyFlags) openReports(env environment, plan string, mode os.FileMode) (*output.Files, error) {
	stdout := env.stdout
	switch f.output {
	case "report":
	case "ndjson":
		stdout = nil
	default:
		return nil, exit.Usage(fmt.Sprintf("--output %q: want report or ndjson", f.output), "")
	}
	return output.Open(stdout, f.reports, plan, mode)
}

// stepSummary adds the result to the summary of a CI job. Where that cannot be, the run
// went as it went all the same.
func (f *applyFlags) stepSummary(env environment, talk *terminal.Talk, d spec.Document) {
	name := env.getenv(stepSummaryVar)
	if name == "" || f.noSummary {
		return
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the CI names it
	if err == nil {
		err = render.ReportFormat("markdown")(file, d)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		talk.Log.Warn(stepSummaryVar + ": " + output.Reason(err).Error())
	}
}

// digestCauses is how many causes stand above the error of a run.
const digestCauses = 3

// digest says what most of the devices have in common that did not go well.
func digest(talk *terminal.Talk, rep *spec.Report) {
	causes := slices.Clone(rep.Summary.Causes)
	slices.SortStableFunc(causes, func(a, b spec.Cause) int { return cmp.Compare(b.Count, a.Count) })
	for i := range causes[:min(len(causes), digestCauses)] {
		c := &causes[i]
		talk.Digest(render.CauseLine(c), slog.String("event", "cause"), slog.String("job", c.Job), slog.String("outcome", string(c.Outcome)), slog.Int("count", c.Count))
	}
}
