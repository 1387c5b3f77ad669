// Package terminal is what the program says on stderr: lines, a log, and live
// progress.
//
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
//   - --quiet leaves that line, the causes above it and the findings in a plan that
//     is invalid.
package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/term"

	"iothub-runner/internal/render"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// Manner is how a program talks.
type Manner struct {
	Getenv   func(string) string
	Progress string // auto, tty, plain or none
	JSON     bool   // everything on stderr is JSON
	Quiet    bool
	Verbose  bool
}

// Talk is what the program says on stderr. It is safe for concurrent use.
type Talk struct {
	stderr   io.Writer
	getenv   func(string) string
	JSON     bool
	Log      *slog.Logger // for the parts that log; silent when quiet
	events   *slog.Logger // with --log-format json
	quiet    bool
	Verbose  bool
	Progress string // tty, plain or none

	mu  sync.Mutex
	bar *bars // draws below the lines; nil if there are none

	resumed *runner.Resumption // set before the run begins; nil unless it goes on with another
}

// New says on stderr what it is told, as how says; each of JSON lines is one
// object.
func New(stderr io.Writer, how Manner) *Talk {
	t := &Talk{stderr: stderr, getenv: how.Getenv, JSON: how.JSON, quiet: how.Quiet, Verbose: how.Verbose, Progress: how.Progress}
	if t.Progress == "auto" {
		t.Progress = "plain"
		if IsTerminal(stderr) && how.Getenv("CI") == "" && how.Getenv("TERM") != "dumb" {
			t.Progress = "tty"
		}
	}
	if t.JSON && t.Progress == "tty" {
		t.Progress = "plain" // bars are no JSON
	}
	if t.quiet {
		t.Progress = "none"
	}
	t.startLog(how.Verbose)
	return t
}

// Colors tells whether people want colours.
func (t *Talk) Colors() bool { return t.getenv("NO_COLOR") == "" }

// startLog makes the log of requests. Its lines are talk like all others.
func (t *Talk) startLog(verbose bool) {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	out := &lockedTalk{t: t}
	if t.JSON {
		t.events = NewJSONLog(out, level)
		t.Log = t.events
	} else {
		t.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: forPeople}))
	}
	if t.quiet && !verbose {
		t.Log = slog.New(slog.DiscardHandler)
	}
}

// NewJSONLog makes a log of JSON objects.
func NewJSONLog(w io.Writer, level slog.Level) *slog.Logger {
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

// IsTerminal tells whether a stream leads to a terminal.
func IsTerminal(stream any) bool {
	if w, ok := stream.(io.Writer); ok {
		stream = Below(w)
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// lockedTalk lets the log and the lines take turns.
type lockedTalk struct{ t *Talk }

// Write writes one log record.
func (l *lockedTalk) Write(p []byte) (int, error) {
	n := len(p)
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	if !l.t.JSON {
		p = append([]byte("runner: "), p...)
	}
	if _, err := l.t.out().Write([]byte(render.Lines(string(p)))); err != nil {
		return 0, err
	}
	return n, nil
}

// out is where lines go: above the bars when there are any.
func (t *Talk) out() io.Writer {
	if t.bar != nil {
		return t.bar
	}
	return t.stderr
}

// Line says one line, unless the program is to be quiet. The attributes are
// for those who read it as JSON.
func (t *Talk) Line(text string, attrs ...slog.Attr) {
	if t.quiet {
		return
	}
	if t.JSON {
		t.events.LogAttrs(context.Background(), slog.LevelInfo, text, attrs...)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out(), "runner: %s\n", render.Lines(text))
}

// Digest says a line also to who wants quiet: it belongs to the error that follows.
func (t *Talk) Digest(text string, attrs ...slog.Attr) {
	if t.JSON {
		if t.events.Enabled(context.Background(), slog.LevelInfo) {
			t.events.LogAttrs(context.Background(), slog.LevelInfo, text, attrs...)
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out(), "runner: %s\n", render.Lines(text))
}

// Findings shows what a plan's check has found; warnings only if not quiet.
func (t *Talk) Findings(all spec.Diagnostics) {
	if t.quiet && !all.HasErrors() {
		return
	}
	if !t.JSON {
		fmt.Fprint(t.stderr, render.Lines(all.String()))
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
