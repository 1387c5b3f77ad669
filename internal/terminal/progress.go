package terminal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/render"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// Live shows a run while it is under way. It is the run's observer.
type Live struct {
	*Talk
	journal string // path to mention; empty for none
	quit    chan struct{}
	done    sync.WaitGroup
}

// Watch returns what shows a run: its observer. Its journal is mentioned, unless
// it is empty.
func Watch(t *Talk, journal string) *Live {
	return &Live{Talk: t, journal: journal, quit: make(chan struct{})}
}

// plainInterval is how often a run says where it stands without a terminal.
const plainInterval = 10 * time.Second

// RunStarted says what will happen when.
func (u *Live) RunStarted(run *runner.Run) {
	if u.journal != "" {
		u.Line("journal "+u.journal, slog.String("event", "journal"), slog.String("file", u.journal))
	}
	u.resumed = run.Resumed()
	if u.resumed != nil {
		u.resuming()
	}
	if u.Progress == "tty" { // the bars say when each job starts
		u.mu.Lock()
		u.bar = newBars(u.Talk, run)
		u.mu.Unlock()
		u.done.Go(func() { u.bar.redraw(u.quit) })
		return
	}
	now := clock.Now()
	for _, j := range run.Progress() {
		if j.Held {
			continue
		}
		if j.ScheduledAt.IsZero() {
			u.Line(fmt.Sprintf("job %s: %s", j.Name, waitsFor(j)), slog.String("event", "jobWaits"), slog.String("job", j.Name))
			continue
		}
		if wait := j.ScheduledAt.Sub(now); wait > 0 {
			u.Line(fmt.Sprintf("job %s: starts in %s", j.Name, render.Round(wait)),
				slog.String("event", "jobScheduled"), slog.String("job", j.Name), slog.Time("at", j.ScheduledAt.UTC()))
		}
	}
	if u.Progress == "plain" {
		u.done.Go(func() { u.report(run) })
	}
}

// resuming says what the run takes over from the one that it goes on with.
func (u *Live) resuming() {
	taken, kept := total(u.resumed.Taken), total(u.resumed.Kept)
	text := "resuming the run of " + u.resumed.Began.UTC().Format(time.RFC3339) + ": takes up " + render.Tally(taken, u.resumed.Taken)
	if u.resumed.More {
		text += ", and those that are not listed yet"
	}
	if kept > 0 {
		text += "; leaves as they are " + render.Tally(kept, u.resumed.Kept)
	}
	u.Line(text, slog.String("event", "resumed"), slog.Any("takenUp", u.resumed.Taken), slog.Any("left", u.resumed.Kept), slog.Bool("more", u.resumed.More))
}

// sinceResumed says how those ended that a resumed run took up, and empty for
// a run that is none.
func (t *Talk) sinceResumed(rep *spec.Report) string {
	if t.resumed == nil {
		return ""
	}
	ended := map[spec.Outcome]int{}
	for o, n := range rep.Summary.Outcomes {
		if n -= t.resumed.Kept[o]; n > 0 {
			ended[o] = n
		}
	}
	if total(ended) == 0 {
		return "; nothing was taken up"
	}
	return "; of those taken up " + render.Tally(total(ended), ended)
}

func total(outcomes map[spec.Outcome]int) (n int) {
	for _, k := range outcomes {
		n += k
	}
	return n
}

// report says every ten seconds where the run stands.
func (u *Live) report(run *runner.Run) {
	tick := time.NewTicker(plainInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.whereabouts(run.Progress())
		case <-u.quit:
			return
		}
	}
}

// whereabouts says in one line where the running jobs stand, the most advanced
// first: nobody reads a line of a hundred jobs.
func (u *Live) whereabouts(jobs []runner.JobProgress) {
	var parts []string
	var attrs []any
	more := 0
	for _, j := range jobs {
		if !j.Started || j.Ended {
			continue
		}
		attrs = append(attrs, slog.Group(j.Name, "done", j.Done, "listed", j.Listed, "listedAll", j.Whole, "inFlight", j.InFlight, "atHub", j.AtHub, "toReport", j.Watched, "away", j.Away, "wave", j.Wave, "outcomes", j.Outcomes))
		if len(parts) == render.Mentioned {
			more++
			continue
		}
		parts = append(parts, whereabout(j))
	}
	if len(parts) == 0 {
		return
	}
	text := strings.Join(parts, "; ")
	if more > 0 {
		text += fmt.Sprintf("; and %d more jobs", more)
	}
	u.timed(text, slog.String("event", "progress"), slog.Group("jobs", attrs...))
}

// whereabout is "job lock: 120 of 500 done (118 succeeded, 2 offline), 64 in flight",
// or "job lock: 0 done, 4000 found so far" while the hub still lists targets.
func whereabout(j runner.JobProgress) string {
	text := fmt.Sprintf("job %s: %s done", j.Name, doneOf(j))
	if list := render.OutcomeList(j.Outcomes); list != "" {
		text += " (" + list + ")"
	}
	if !j.Whole && j.Listed > 0 { // a large hub takes minutes to list, in which nothing else moves
		text += fmt.Sprintf(", %d found so far", j.Listed)
	}
	parts := []string{text}
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(j.InFlight, "in flight")
	add(j.AtHub, "done by the hub")
	add(j.Watched, "to report the change")
	add(j.Away, "offline and waited for")
	if j.Wave > 0 {
		parts = append(parts, fmt.Sprintf("in wave %d of %d", j.Wave, j.Waves))
	}
	return strings.Join(parts, ", ")
}

// doneOf is "120 of 500"; while the hub still lists targets nobody knows the
// total, and it is "120".
func doneOf(j runner.JobProgress) string {
	if !j.Whole {
		return fmt.Sprint(j.Done)
	}
	return fmt.Sprintf("%d of %d", j.Done, j.Listed)
}

// timed says a line of progress with the time before it: logs of cron and CI are
// read the day after. Bars and JSON have times of their own.
func (t *Talk) timed(text string, attrs ...slog.Attr) {
	if t.Progress == "plain" && !t.JSON {
		text = clock.Now().UTC().Format(time.RFC3339) + " " + text
	}
	t.Line(text, attrs...)
}

// JobStarted says so.
func (u *Live) JobStarted(name string) {
	u.timed("job "+name+": started", slog.String("event", "jobStarted"), slog.String("job", name))
}

// WaveStarted says so.
func (u *Live) WaveStarted(job string, w runner.WaveStart) {
	text := fmt.Sprintf("job %s: wave %d of %d", job, w.Wave, w.Waves)
	if w.Hub != "" {
		text += " on hub " + w.Hub
	}
	u.timed(fmt.Sprintf("%s, %s", text, render.Count(w.Targets, "target")), slog.String("event", "waveStarted"), slog.String("job", job),
		slog.Int("wave", w.Wave), slog.Int("waves", w.Waves), slog.Int("targets", w.Targets), slog.String("hub", w.Hub))
}

// RowEnded says how a target has ended.
func (t *Talk) RowEnded(job string, row []byte) {
	t.Log.LogAttrs(context.Background(), slog.LevelDebug, "job "+job+": "+render.RowLine(row), slog.String("event", "row"), slog.String("job", job))
}

// JobEnded says how.
func (u *Live) JobEnded(job spec.JobReport) {
	text := fmt.Sprintf("job %s: %s", job.Name, job.Status)
	var took time.Duration
	if job.StartedAt != nil && job.EndedAt != nil {
		took = job.EndedAt.Sub(job.StartedAt.Time)
		text += " in " + render.Round(took).String()
	}
	switch {
	case job.Listing == spec.ListingIncomplete && job.Targets == 0:
		text += ", its targets were not listed"
	case job.Listing == spec.ListingIncomplete:
		text += ", at least " + render.Tally(job.Targets, job.Outcomes)
	default:
		text += ", " + render.Tally(job.Targets, job.Outcomes)
	}
	if job.Reason != "" && (job.Status == spec.StatusSucceeded || render.BadOutcomes(job.Outcomes) == "") { // else the outcomes are the reason
		text += " (" + job.Reason + ")"
	}
	u.timed(text, slog.String("event", "jobEnded"), slog.String("job", job.Name), slog.String("status", string(job.Status)),
		slog.Int("targets", job.Targets), slog.Any("outcomes", job.Outcomes), slog.Duration("took", took), slog.String("reason", job.Reason))
}

// RunEnded says how the run went.
func (t *Talk) RunEnded(rep *spec.Report) {
	began := rep.Run.StartedAt.Time
	if t.resumed != nil {
		began = t.resumed.At
	}
	took := rep.Run.EndedAt.Sub(began)
	t.Line(fmt.Sprintf("%s in %s, %s%s%s", rep.Run.Status, render.Round(took), atLeast(rep)+render.Tally(rep.Summary.Targets, rep.Summary.Outcomes), render.LetPass(rep), t.sinceResumed(rep)),
		slog.String("event", "runEnded"), slog.String("status", string(rep.Run.Status)), slog.Int("exitCode", rep.Run.ExitCode),
		slog.Int("targets", rep.Summary.Targets), slog.Any("outcomes", rep.Summary.Outcomes), slog.Duration("took", took))
}

// atLeast goes before the number of targets, where some are not known.
func atLeast(rep *spec.Report) string {
	for i := range rep.Jobs {
		if rep.Jobs[i].Listing == spec.ListingIncomplete {
			return "at least "
		}
	}
	return ""
}

// Stop ends the progress. What is said afterwards stands below it.
func (u *Live) Stop() {
	close(u.quit)
	u.done.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bar = nil
}
