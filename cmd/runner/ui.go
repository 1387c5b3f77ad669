package main

// The rules of the terminal:
//
//   - Results go to stdout, talk to stderr; they never mix.
//   - A line of talk begins with "runner: ". With --log-format json it is one
//     JSON object instead, and so is everything else on stderr.
//   - Errors come last: "runner: error: …", then "runner: hint: …".
//   - Only a terminal gets lines that are drawn again. Elsewhere a running job
//     says where it stands every ten seconds and no more often.
//   - --quiet leaves errors and findings.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"iothub-runner/runner"
	"iothub-runner/spec"
)

// talkFlags say how much is said on stderr, and how.
type talkFlags struct {
	progress  string
	quiet     bool
	verbose   bool
	logFormat string
}

func (f *talkFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.progress, "progress", "auto", "progress on stderr: `auto`, tty, plain or none")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing on stderr but errors")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log every request to the hub (never a secret)")
	flags.StringVar(&f.logFormat, "log-format", "text", "format of everything on stderr: `text` or json")
}

func (c *connection) add(flags *pflag.FlagSet) {
	flags.StringVar(&c.stringFile, "connection-string-file", "", "read the hub's connection string from `FILE` (- is stdin) instead of "+connectionStringVar)
	flags.StringVar(&c.caFile, "ca-file", "", "trust the certificate authorities in `FILE` (PEM) as well as the system's")
}

// talk is what the program says on stderr. It is safe for concurrent use.
type talk struct {
	env      environment
	log      *slog.Logger
	json     bool
	quiet    bool
	progress string // tty, plain or none

	mu  sync.Mutex
	bar *bars // draws below the lines; nil if there are none
}

func newTalk(env environment, f talkFlags) (*talk, error) {
	t := &talk{env: env, quiet: f.quiet, progress: f.progress}
	switch f.logFormat {
	case "text":
	case "json":
		t.json = true
	default:
		return nil, usageError(fmt.Sprintf("--log-format %q: text or json", f.logFormat), "runner apply --help")
	}
	switch f.progress {
	case "auto":
		t.progress = "plain"
		if !t.json && isTerminal(env.stderr) && env.getenv("CI") == "" && env.getenv("TERM") != "dumb" {
			t.progress = "tty"
		}
	case "tty", "plain", "none":
	default:
		return nil, usageError(fmt.Sprintf("--progress %q: auto, tty, plain or none", f.progress), "runner apply --help")
	}
	if t.quiet {
		t.progress = "none"
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	out := &lockedTalk{t: t}
	if t.json {
		t.log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	} else {
		t.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	}
	return t, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// lockedTalk lets the log and the lines take turns.
type lockedTalk struct{ t *talk }

// Write writes one log record.
func (l *lockedTalk) Write(p []byte) (int, error) {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	return l.t.out().Write(p)
}

// out is where lines go: above the bars when there are any.
func (t *talk) out() io.Writer {
	if t.bar != nil {
		return t.bar.container
	}
	return t.env.stderr
}

// line says one line, unless the program is to be quiet.
func (t *talk) line(format string, args ...any) {
	if t.quiet {
		return
	}
	t.say(slog.LevelInfo, fmt.Sprintf(format, args...))
}

func (t *talk) say(level slog.Level, text string) {
	if t.json {
		t.log.Log(context.Background(), level, text)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out(), "runner: %s\n", text)
}

// findings shows what a plan's check has found, errors even when quiet.
func (t *talk) findings(all spec.Diagnostics) {
	if t.quiet && !all.HasErrors() {
		return
	}
	if t.json {
		for _, d := range all {
			t.log.Error("finding", "file", d.File, "line", d.Pos.Line, "column", d.Pos.Column, "rule", d.Rule, "message", d.Summary, "hint", d.Hint)
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprint(t.env.stderr, all.String())
}

// ended says how the run went, in one line.
func (t *talk) ended(rep spec.Report) {
	took := rep.Run.EndedAt.Sub(rep.Run.StartedAt.Time)
	text := fmt.Sprintf("%s: %s in %s", rep.Run.Status, tally(rep.Summary.Targets, rep.Summary.Outcomes), round(took))
	if rep.Run.Reason != "" {
		text += " (" + rep.Run.Reason + ")"
	}
	if rep.Run.ExitCode == exitHub || rep.Run.ExitCode == exitInternal {
		t.say(slog.LevelError, "error: "+rep.Run.Reason)
	}
	t.line("%s", text)
}

// tally is "3 targets: 2 succeeded, 1 offline".
func tally(targets int, outcomes map[spec.Outcome]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d target%s", targets, plural(targets))
	sep := ": "
	for _, o := range spec.Outcomes() {
		if n := outcomes[o]; n > 0 {
			fmt.Fprintf(&b, "%s%d %s", sep, n, o)
			sep = ", "
		}
	}
	return b.String()
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// round keeps three digits or so: nobody reads nanoseconds.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// ui shows a run while it is under way. It is the run's observer.
type ui struct {
	*talk
	journal string // path to mention; empty for none
	quit    chan struct{}
	done    sync.WaitGroup
}

func startUI(t *talk, journal string) *ui {
	return &ui{talk: t, journal: journal, quit: make(chan struct{})}
}

// plainInterval is how often a job says where it stands without a terminal.
const plainInterval = 10 * time.Second

// RunStarted says what will happen when.
func (u *ui) RunStarted(run *runner.Run) {
	if u.journal != "" {
		u.line("journal %s", u.journal)
	}
	now := time.Now()
	for _, j := range run.Progress() {
		if wait := j.ScheduledAt.Sub(now); wait > 0 {
			u.line("job %s: starts in %s", j.Name, round(wait+time.Millisecond))
		}
	}
	switch u.progress {
	case "tty":
		u.mu.Lock()
		u.bar = newBars(u.env.stderr, run, u.env.getenv("NO_COLOR") == "")
		u.mu.Unlock()
		u.done.Go(func() { u.bar.redraw(u.quit) })
	case "plain":
		u.done.Go(func() { u.report(run) })
	}
}

// report says every ten seconds where the running jobs stand.
func (u *ui) report(run *runner.Run) {
	tick := time.NewTicker(plainInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-u.quit:
			return
		}
		for _, j := range run.Progress() {
			if j.Started && !j.Ended {
				u.line("job %s: %d of %d listed devices done, %d in flight%s", j.Name, j.Done, j.Listed, j.InFlight, outcomeList(j))
			}
		}
	}
}

func outcomeList(j runner.JobProgress) string {
	var b strings.Builder
	for _, o := range spec.Outcomes() {
		if n := j.Outcomes[o]; n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, o)
		}
	}
	return b.String()
}

// JobStarted says so.
func (u *ui) JobStarted(name string) { u.line("job %s: started", name) }

// JobEnded says how.
func (u *ui) JobEnded(job spec.JobReport) {
	text := fmt.Sprintf("job %s: %s, %s", job.Name, job.Status, tally(job.Targets, job.Outcomes))
	if job.StartedAt != nil && job.EndedAt != nil {
		text += " in " + round(job.EndedAt.Sub(job.StartedAt.Time)).String()
	}
	if job.Reason != "" {
		text += " (" + job.Reason + ")"
	}
	u.line("%s", text)
}

// stop ends the progress. What is said afterwards stands below it.
func (u *ui) stop() {
	close(u.quit)
	u.done.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bar = nil
}
