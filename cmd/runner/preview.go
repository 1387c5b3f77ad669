package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// previewFlags are the flags of runner preview.
type previewFlags struct {
	hubFlags
	talkFlags
	fileFlags
	format   string
	out      string
	exitCode bool
	direct   bool
}

func newPreview(env environment) *cobra.Command {
	var f previewFlags
	cmd := &cobra.Command{
		Use:   "preview PLAN",
		Short: "show what a plan would do, and change nothing",
		Long: `preview resolves the targets of a plan and reads their twins. It shows the change
for each device, groups devices with the same change, and says when each job starts,
how many requests it needs and how long they take. It sends nothing to devices.

With --out it also saves a pinned preview. runner apply of that file touches only
those devices, and only if their twins have not changed since.

The exit code is 0, or 5 if apply would stop a job before it sends anything.`,
		Example: `  runner preview plan.yaml
  runner preview --format markdown --exit-code plan.yaml
  runner preview --out pinned.json plan.yaml && runner apply pinned.json`,
		Args: onePlan,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPreview(cmd.Context(), env, &f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "write the preview as `text`, json or markdown (for a pull request)")
	flags.StringVar(&f.out, "out", "", "save a pinned preview in `FILE`, for runner apply")
	flags.BoolVar(&f.exitCode, "exit-code", false, "exit with 2 if the plan would change something")
	flags.BoolVar(&f.direct, "direct", false, "read each twin directly; the query index can be minutes behind")
	f.hubFlags.add(flags)
	f.talkFlags.add(flags)
	f.fileFlags.add(flags)
	completePlan(cmd)
	completeFlag(cmd, "format", oneOf("text", "json", "markdown"))
	return cmd
}

func runPreview(ctx context.Context, env environment, f *previewFlags, file string) error {
	write := render.PreviewFormat(f.format)
	if write == nil {
		return exit.Usage(fmt.Sprintf("--format %q: want text, json or markdown", f.format), "")
	}
	if f.out == "-" {
		return exit.Usage("--out -: stdout is where the preview stands", "name a file, as in --out pinned.json")
	}
	if f.out != "" && file == "-" {
		return exit.Usage("--out needs a plan in a file: apply reads it again", "write the plan to a file first")
	}
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	src, plan, err := f.previewed(env, talk, file)
	if err != nil {
		return err
	}
	env.detach()
	hubs, err := f.openHubs(env, plan, maxPreviewConnections, talk.Log)
	if err != nil {
		return err
	}
	defer hubs.close()
	progress := terminal.NewLooks(talk)
	o := preview.Options{
		Hubs: hubs.named, Runner: version,
		Rehearsal: hubs.emulated, Direct: f.direct, Looked: progress.Looked, Paused: talk.Paused,
	}
	pin, err := f.openPin(src, plan, &o)
	if err != nil {
		return err
	}
	defer pin.discard()
	ctx, stop := terminal.UntilSignal(ctx)
	defer stop()
	forecast, err := preview.Make(ctx, plan, o)
	if err != nil {
		return err
	}
	if err := write(env.stdout, forecast); err != nil {
		return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("write preview: %w", output.Reason(err))}
	}
	if err := refused(forecast); err != nil {
		return err
	}
	if err := pin.save(talk); err != nil {
		return err
	}
	if f.exitCode && forecast.Changes() {
		return &exit.Error{Code: exit.Changes}
	}
	return nil
}

// maxPreviewConnections is how many connections a preview can use at once.
const maxPreviewConnections = 33

// previewed reads the plan.
func (f *previewFlags) previewed(env environment, talk *terminal.Talk, file string) (planSource, *spec.Plan, error) {
	src, err := f.openPlan(env, file)
	if err != nil {
		return src, nil, err
	}
	plan, err := src.load(talk)
	if err == nil {
		err = checkEngine(plan, f.out != "")
	}
	if err != nil {
		return src, nil, err
	}
	return src, plan, selectJobs(plan, f.jobs)
}

// refused is the error of a plan that apply would not carry out as it stands.
func refused(f *preview.Forecast) error {
	if err := f.Stopped(); err != nil {
		if isLate(err) {
			return &exit.Error{Code: exit.Stopped, Err: fmt.Errorf("apply would stop: %w", err), Hint: lateHint}
		}
		hint := "nothing was sent"
		if slices.ContainsFunc(f.Jobs, func(j preview.JobForecast) bool { return j.Stopped == "" && j.Error == "" }) {
			hint += "; apply would carry out the other jobs, and end with 5"
		}
		return &exit.Error{Code: exit.Stopped, Err: fmt.Errorf("apply would stop %w", err), Hint: hint}
	}
	if err := f.Incomplete(); err != nil {
		return &exit.Error{Code: exit.Missed, Err: err, Hint: "nothing was sent"}
	}
	return nil
}

// pinFile is where a pinned preview is written; nil if nobody wants one.
type pinFile struct {
	name    string
	file    *output.File
	preview *preview.PinWriter
}

func (f *previewFlags) openPin(src planSource, plan *spec.Plan, o *preview.Options) (*pinFile, error) {
	if f.out == "" {
		return nil, nil //nolint:nilnil // no file, and no error
	}
	fail := func(err error) error {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--out %q: %w", f.out, output.Reason(err)), Hint: "name a file that can be written"}
	}
	place, err := output.Replaced(f.out)
	if err != nil {
		return nil, fail(err)
	}
	if was, statErr := os.Stat(place); statErr == nil {
		if plan, planErr := os.Stat(src.file); planErr == nil && os.SameFile(was, plan) {
			return nil, fail(errors.New("it is the plan"))
		}
	}
	mode, err := f.fileMode()
	if err != nil {
		return nil, err
	}
	file, err := output.Create(place, mode)
	if err != nil {
		return nil, fail(err)
	}
	p := &pinFile{name: f.out, file: file}
	if p.preview, err = preview.NewPinWriter(file, plan, src.text, *o); err != nil {
		p.discard()
		return nil, fail(err)
	}
	o.Pin = p.preview
	return p, nil
}

// save puts the file where it belongs.
func (p *pinFile) save(talk *terminal.Talk) error {
	if p == nil {
		return nil
	}
	err := p.preview.Close()
	if err == nil {
		err = p.file.Replace()
	}
	if err != nil {
		return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("--out %q: %w", p.name, output.Reason(err))}
	}
	talk.Line(fmt.Sprintf("pinned preview %s; carry it out with: runner apply %s", p.name, render.ShellWord(p.name)), slog.String("event", "pinned"), slog.String("file", p.name))
	return nil
}

func (p *pinFile) discard() {
	if p != nil {
		_ = p.file.Discard() // a temporary file that stays does no harm
	}
}
