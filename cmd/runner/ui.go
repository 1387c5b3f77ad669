package main

// The rules of the terminal:
//
//   - Results go to stdout, talk to stderr; they never mix.
//   - A line of talk begins with "runner: ". With --log-format json it is one
//     JSON object instead, and so is everything else on stderr.
//   - A command that does not succeed says so last, in one line that begins
//     with "runner: error: ", and below it, where there is something to be
//     done, in one that begins with "runner: hint: ". Whoever reads nothing
//     but that line knows what happened.
//   - Only a terminal gets lines that are drawn again. Elsewhere a run says
//     where it stands every ten seconds, in one line.
//   - --quiet leaves that line and the findings in a plan that is invalid.

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

	"iothub-runner/internal/render"
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
	flags.StringVar(&f.progress, "progress", "auto", "progress on stderr, `HOW`: auto, tty, plain or none")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing on stderr but errors")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log every request to the hub (never a secret)")
	flags.StringVar(&f.logFormat, "log-format", "text", "`FORMAT` of everything on stderr: text or json")
}

func (c *connection) add(flags *pflag.FlagSet) {
	flags.StringVar(&c.stringFile, "connection-string-file", "", "read the hub's connection string from `FILE` (- is stdin) instead of "+connectionStringVar)
	flags.StringVar(&c.caFile, "ca-file", "", "trust the certificate authorities in `FILE` (PEM) as well as the system's")
}

// talk is what the program says on stderr. It is safe for concurrent use.
type talk struct {
	env      environment
	log      *slog.Logger // for the parts that log; silent when quiet
	events   *slog.Logger // with --log-format json
	quiet    bool
	progress string // tty, plain or none

	mu  sync.Mutex
	bar *bars // draws below the lines; nil if there are none

	resumed *runner.Resumption // set before the run begins; nil unless it goes on with another
}

func newTalk(env environment, f talkFlags) (*talk, error) {
	t := &talk{env: env, quiet: f.quiet, progress: f.progress}
	if f.logFormat != "text" && f.logFormat != "json" {
		return nil, usageError(fmt.Sprintf("--log-format %q: want text or json", f.logFormat), "")
	}
	switch f.progress {
	case "auto":
		t.progress = "plain"
		if isTerminal(env.stderr) && env.getenv("CI") == "" && env.getenv("TERM") != "dumb" {
			t.progress = "tty"
		}
	case "tty", "plain", "none":
	default:
		return nil, usageError(fmt.Sprintf("--progress %q: want auto, tty, plain or none", f.progress), "")
	}
	if env.json && t.progress == "tty" {
		t.progress = "plain" // bars are no JSON
	}
	if t.quiet {
		t.progress = "none"
	}
	t.startLog(f.verbose)
	return t, nil
}

// startLog makes the log of requests. Its lines are talk like all others.
func (t *talk) startLog(verbose bool) {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	out := &lockedTalk{t: t}
	if t.env.json {
		t.events = newJSONLog(out, level)
		t.log = t.events
	} else {
		t.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: forPeople}))
	}
	if t.quiet && !verbose {
		t.log = slog.New(slog.DiscardHandler)
	}
}

func newJSONLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inMilliseconds}))
}

// inMilliseconds keeps durations in the unit of the report.
func inMilliseconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"Ms", float64(a.Value.Duration().Microseconds())/1000)
	}
	return a
}

// forPeople leaves out what a line of talk has in front anyway.
func forPeople(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) > 0:
	case a.Key == slog.TimeKey:
		return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000"))
	case a.Key == slog.LevelKey && a.Value.Any() == slog.LevelDebug:
		return slog.Attr{}
	}
	return a
}

func isTerminal(stream any) bool {
	if w, ok := stream.(io.Writer); ok {
		stream = below(w)
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// lockedTalk lets the log and the lines take turns.
type lockedTalk struct{ t *talk }

// Write writes one log record.
func (l *lockedTalk) Write(p []byte) (int, error) {
	n := len(p)
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	if !l.t.env.json {
		p = append([]byte("runner: "), p...)
	}
	if _, err := l.t.out().Write([]byte(render.Lines(string(p)))); err != nil {
		return 0, err
	}
	return n, nil
}

// out is where lines go: above the bars when there are any.
func (t *talk) out() io.Writer {
	if t.bar != nil {
		return t.bar
	}
	return t.env.stderr
}

// line says one line, unless the program is to be quiet. The attributes are
// for those who read it as JSON.
func (t *talk) line(text string, attrs ...slog.Attr) {
	if t.quiet {
		return
	}
	if t.env.json {
		t.events.LogAttrs(context.Background(), slog.LevelInfo, text, attrs...)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out(), "runner: %s\n", render.Lines(text))
}

// findings shows what a plan's check has found; warnings only if not quiet.
func (t *talk) findings(all spec.Diagnostics) {
	if t.quiet && !all.HasErrors() {
		return
	}
	if !t.env.json {
		fmt.Fprint(t.env.stderr, render.Lines(all.String()))
		return
	}
	for _, d := range all {
		level := slog.LevelError
		if d.Severity == spec.SeverityWarning {
			level = slog.LevelWarn
		}
		t.events.Log(context.Background(), level, d.Summary, "file", d.File, "line", d.Pos.Line, "column", d.Pos.Column, "rule", d.Rule, "hint", d.Hint)
	}
}

// tally is "3 targets: 2 succeeded, 1 offline".
func tally[N int | int64](targets N, outcomes map[spec.Outcome]N) string {
	text := fmt.Sprintf("%d target%s", targets, plural(targets))
	if list := outcomeList(outcomes); list != "" {
		text += ": " + list
	}
	return text
}

// outcomeList is "2 succeeded, 1 offline".
func outcomeList[N int | int64](outcomes map[spec.Outcome]N) string {
	var parts []string
	for _, o := range spec.Outcomes() {
		if n := outcomes[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

func plural[N int | int64](n N) string {
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
