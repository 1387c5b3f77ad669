package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/render"
	"iothub-runner/internal/state"
	"iothub-runner/internal/undo"
	"iothub-runner/spec"
)

// undoFlags are the flags of runner undo.
type undoFlags struct {
	talkFlags
	out   string
	jobs  []string
	only  []string
	force bool
	hub   string
}

func newUndo(env environment) *cobra.Command {
	var f undoFlags
	cmd := &cobra.Command{
		Use:   "undo REPORT|JOURNAL",
		Short: "write a plan that puts back what a run changed",
		Long: `undo writes a plan that restores the twins which a run changed: each key that it patched,
with the value of before, and nothing else. Methods cannot be undone.

It writes two files, the plan and the values. Look at them, preview the plan and apply it
like any other. A twin that somebody has changed since the run is left alone.`,
		Example: `  runner undo report.json
  runner preview undo-lock-building-43.yaml
  runner apply undo-lock-building-43.yaml`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return runUndo(env, &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", ".", "write the files to `DIR`")
	flags.StringArrayVar(&f.jobs, "job", nil, "undo only the job of this `NAME` (may be repeated)")
	flags.StringSliceVar(&f.only, "only", nil, "undo only devices with these `OUTCOMES`, such as succeeded")
	flags.StringVar(&f.hub, "hub", "", "undo the changes on the hub with this `NAME`, of a run on several")
	flags.BoolVar(&f.force, "force", false, "replace existing files")
	f.add(flags)
	return cmd
}

func runUndo(env environment, f *undoFlags, file string) error {
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	only, err := state.ParseOnly(f.only)
	if err != nil {
		return err
	}
	u, err := undo.Read(file, undo.Options{Jobs: f.jobs, Only: only, Hub: f.hub})
	if err != nil {
		return cannotUndo(file, err)
	}
	for _, left := range []struct {
		n   int
		why string
	}{
		{u.InDoubt, "may have been changed, nobody knows: look at them"},
		{u.Hidden, "had secrets, which are written down nowhere: restore them by hand"},
	} {
		if left.n > 0 {
			talk.Line(render.Count(left.n, "twin")+" "+left.why, slog.String("event", "left"), slog.Int("twins", left.n))
		}
	}
	if u.Twins() == 0 {
		return &exit.Error{Code: exit.Missed, Err: undo.ErrNothing, Hint: "nothing was written"}
	}
	return f.write(u, func(name string) {
		talk.Line(fmt.Sprintf("wrote %s, which restores %s; see what it does with runner preview %s", name, render.Count(u.Twins(), "twin"), render.ShellWord(name)),
			slog.String("event", "undo"), slog.String("file", name), slog.Int("twins", u.Twins()))
	})
}

// write writes the values first: a plan without them is none.
func (f *undoFlags) write(u *undo.Undo, wrote func(name string)) error {
	if err := os.MkdirAll(f.out, 0o700); err != nil {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--out %q: %w", f.out, output.Reason(err))}
	}
	rows, plan := u.Name()+".ndjson", filepath.Join(f.out, u.Name()+".yaml")
	for _, part := range []struct {
		path string
		text func(io.Writer) error
	}{
		{filepath.Join(f.out, rows), u.WriteRows},
		{plan, func(w io.Writer) error { return u.WritePlan(w, rows) }},
	} {
		if err := f.file(part.path, part.text); err != nil {
			return err
		}
	}
	wrote(plan)
	return nil
}

func (f *undoFlags) file(path string, write func(io.Writer) error) error {
	if _, err := os.Stat(path); err == nil && !f.force {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("%q is there already", path), Hint: "name another folder with --out, or replace the files with --force"}
	}
	file, err := output.Create(path, 0o600)
	if err == nil {
		err = errors.Join(write(file), file.Replace())
	}
	if err != nil {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("write %q: %w", path, output.Reason(err)), Hint: "name a folder that can be written with --out"}
	}
	return nil
}

// cannotUndo says what is wrong with a report or a journal.
func cannotUndo(file string, err error) error {
	e := &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("undo %q: %w", file, output.Reason(err)), Hint: "name the JSON report of a run, or its journal"}
	if no, ok := errors.AsType[*undo.NoJobError](err); ok {
		e.Hint = "its jobs are " + spec.Join(no.Have, "and")
	}
	if no, ok := errors.AsType[*undo.HubsError](err); ok {
		e.Hint = "name one with --hub: " + spec.Join(no.Have, "or")
	}
	return e
}
