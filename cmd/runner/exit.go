package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/exit"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/internal/terminal"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// see points to the help of a command.
func see(command string) string { return "see " + command + " --help" }

// exitCode says what went wrong and returns the code for it. What nobody has
// given a code is a failure of ours.
func exitCode(env environment, err error) int {
	if err == nil {
		return exit.OK
	}
	f, ok := errors.AsType[*exit.Error](err)
	if !ok {
		f = classify(err)
	}
	if f.Code == exit.Changes { // an answer that was asked for
		return f.Code
	}
	complain(env, f)
	return f.Code
}

// complain is the last word of a command that did not succeed: one line that
// says what went wrong and, if something can be done about it, one that says
// what.
func complain(env environment, f *exit.Error) {
	text := f.Err.Error()
	if e, ok := errors.AsType[*fleet.Error](f.Err); ok && len(e.Findings) > 0 {
		if !env.json {
			fmt.Fprintln(env.stderr, render.Lines(e.Error()))
		}
		text = fmt.Sprintf("the fleet file %s is invalid: %s", e.Findings[0].File, render.Count(len(e.Findings), "error"))
		if env.json {
			text += ": " + e.Error()
		}
	}
	if env.json {
		attrs := []any{slog.Int("exitCode", f.Code)}
		if f.Hint != "" {
			attrs = append(attrs, slog.String("hint", f.Hint))
		}
		terminal.NewJSONLog(&render.Escaper{Out: env.stderr}, slog.LevelInfo).Error(text, attrs...)
		return
	}
	fmt.Fprintf(env.stderr, "runner: error: %s\n", render.Lines(strings.ReplaceAll(text, "\n", "; ")))
	if f.Hint != "" {
		fmt.Fprintf(env.stderr, "runner: hint: %s\n", render.Lines(f.Hint))
	}
}

// classify gives an error that came before anything was sent its code.
func classify(err error) *exit.Error {
	if e, ok := errors.AsType[*runner.InterruptedError](err); ok {
		return &exit.Error{Code: e.ExitCode, Err: err, Hint: "nothing was sent"}
	}
	if e, ok := errors.AsType[*target.WrongHubError](err); ok {
		return &exit.Error{Code: exit.Hub, Err: err, Hint: "nothing was sent; " + wrongHubHint(e)}
	}
	if errors.Is(err, terminal.ErrOutputClosed) {
		return &exit.Error{Code: exit.Stopped, Err: err, Hint: "write the report to a file with --report"}
	}
	if e, ok := errors.AsType[*schedule.NeedError](err); ok {
		return &exit.Error{Code: exit.Invalid, Err: err, Hint: fmt.Sprintf("nothing was sent; name --job %s as well", e.Need)}
	}
	if _, ok := errors.AsType[*preview.PinMismatchError](err); ok {
		return &exit.Error{Code: exit.Mismatch, Err: err, Hint: "nothing was sent; preview the plan again with --out, and apply that"}
	}
	if e, ok := errors.AsType[*target.HubError](err); ok {
		return &exit.Error{Code: exit.Hub, Err: err, Hint: hubHint(e)}
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Op == "write" { // a full disk is no fault of ours
		return &exit.Error{Code: exit.Missed, Err: err}
	}
	return &exit.Error{Code: exit.Internal, Err: fmt.Errorf("internal error: %w", err), Hint: bugHint}
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
		return exit.Hub
	}
	if _, ok := errors.AsType[*runner.JournalError](cause); ok {
		return exit.Internal
	}
	if errors.Is(cause, terminal.ErrOutputClosed) {
		return exit.Stopped
	}
	switch r.Status() {
	case spec.StatusSucceeded, spec.StatusDetached:
		return exit.OK
	case spec.StatusFailed:
		return exit.Missed
	case spec.StatusStopped:
		return exit.Stopped
	case spec.StatusInterrupted, spec.StatusNotStarted, spec.StatusSkipped, spec.StatusUnfinished:
	}
	if e, ok := errors.AsType[*runner.InterruptedError](cause); ok {
		return e.ExitCode
	}
	return exit.Internal
}
