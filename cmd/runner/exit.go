package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// The exit codes, one cause each. They are part of what runner promises:
// scripts branch on them, so a code never changes its meaning.
const (
	exitOK       = 0   // every job met its criteria
	exitMissed   = 1   // finished, but a job missed its criteria or the report its file
	exitChanges  = 2   // preview --exit-code: changes pending
	exitInvalid  = 3   // plan invalid or wrong usage; nothing was sent
	exitHub      = 4   // hub unreachable, unauthorised or the wrong one
	exitStopped  = 5   // stopped by a safety rule, window or deadline
	exitLocked   = 6   // another run of this plan on this hub holds the lock
	exitMismatch = 7   // pinned preview or resumed plan no longer matches
	exitInternal = 70  // internal error; a panic must not look like code 2
	exitSIGHUP   = 129 // its terminal was closed; report written
	exitSIGINT   = 130 // interrupted; report written
	exitSIGTERM  = 143
)

// failure is an error with its exit code and, if there is one, a hint.
type failure struct {
	code int
	err  error
	hint string
}

// Error returns what went wrong.
func (f *failure) Error() string {
	if f.err == nil {
		return "the plan would change something"
	}
	return f.err.Error()
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

func usageError(message, hint string) error {
	return &failure{code: exitInvalid, err: errors.New(message), hint: hint}
}

// see points to the help of a command.
func see(command string) string { return "see " + command + " --help" }

// exitCode says what went wrong and returns the code for it. What nobody has
// given a code is a failure of ours.
func exitCode(env environment, err error) int {
	if err == nil {
		return exitOK
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = classify(err)
	}
	if f.code == exitChanges { // an answer that was asked for
		return f.code
	}
	complain(env, f)
	return f.code
}

// complain is the last word of a command that did not succeed: one line that
// says what went wrong and, if something can be done about it, one that says
// what.
func complain(env environment, f *failure) {
	text := f.err.Error()
	if e, ok := errors.AsType[*fleet.Error](f.err); ok && len(e.Findings) > 0 {
		if !env.json {
			fmt.Fprintln(env.stderr, render.Lines(e.Error()))
		}
		text = fmt.Sprintf("the fleet file %s is invalid: %s", e.Findings[0].File, count(len(e.Findings), "error"))
		if env.json {
			text += ": " + e.Error()
		}
	}
	if env.json {
		attrs := []any{slog.Int("exitCode", f.code)}
		if f.hint != "" {
			attrs = append(attrs, slog.String("hint", f.hint))
		}
		newJSONLog(&render.Escaper{Out: env.stderr}, slog.LevelInfo).Error(text, attrs...)
		return
	}
	fmt.Fprintf(env.stderr, "runner: error: %s\n", render.Lines(strings.ReplaceAll(text, "\n", "; ")))
	if f.hint != "" {
		fmt.Fprintf(env.stderr, "runner: hint: %s\n", render.Lines(f.hint))
	}
}

// classify gives an error that came before anything was sent its code.
func classify(err error) *failure {
	if e, ok := errors.AsType[*runner.InterruptedError](err); ok {
		return &failure{code: e.ExitCode, err: err, hint: "nothing was sent"}
	}
	if e, ok := errors.AsType[*target.WrongHubError](err); ok {
		return &failure{code: exitHub, err: err, hint: "nothing was sent; " + wrongHubHint(e)}
	}
	if errors.Is(err, errOutputClosed) {
		return &failure{code: exitStopped, err: err, hint: "write the report to a file with --report"}
	}
	if e, ok := errors.AsType[*schedule.NeedError](err); ok {
		return &failure{code: exitInvalid, err: err, hint: fmt.Sprintf("nothing was sent; name --job %s as well", e.Need)}
	}
	if _, ok := errors.AsType[*preview.PinMismatchError](err); ok {
		return &failure{code: exitMismatch, err: err, hint: "nothing was sent; preview the plan again with --out, and apply that"}
	}
	if e, ok := errors.AsType[*target.HubError](err); ok {
		return &failure{code: exitHub, err: err, hint: hubHint(e)}
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Op == "write" { // a full disk is no fault of ours
		return &failure{code: exitMissed, err: err}
	}
	return &failure{code: exitInternal, err: fmt.Errorf("internal error: %w", err), hint: bugHint}
}

func wrongHubHint(e *target.WrongHubError) string {
	if e.Pinned {
		return "apply it on the hub that it was made on, or preview the plan on this one with --out"
	}
	return "use the connection string of the plan's hub, or change hub.hostName in the plan"
}

const bugHint = "this is a fault of runner, not of your plan; please report it with these lines"

// codeOfRun returns the exit code of a run that has ended.
func codeOfRun(r *runner.Run) int {
	cause := r.Cause()
	if _, ok := errors.AsType[*target.HubError](cause); ok {
		return exitHub
	}
	if _, ok := errors.AsType[*runner.JournalError](cause); ok {
		return exitInternal
	}
	if errors.Is(cause, errOutputClosed) {
		return exitStopped
	}
	switch r.Status() {
	case spec.StatusSucceeded:
		return exitOK
	case spec.StatusFailed:
		return exitMissed
	case spec.StatusStopped:
		return exitStopped
	case spec.StatusInterrupted, spec.StatusNotStarted, spec.StatusSkipped:
	}
	if e, ok := errors.AsType[*runner.InterruptedError](cause); ok {
		return e.ExitCode
	}
	return exitInternal
}
