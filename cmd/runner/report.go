package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/render"
	"iothub-runner/internal/results"
	"iothub-runner/spec"
)

// reportFlags are the flags of runner report.
type reportFlags struct {
	talkFlags
	fileFlags
	format string
	out    string
}

func newReport(env environment) *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "report FILE...",
		Short: "show the report of a run, or its journal, in another form",
		Long: `report reads the JSON report of a run, or its journal, and writes it in another form: as a
page for people (html), for a pull request (markdown), for test systems (junit), for a
spreadsheet (csv), or as lines of JSON (ndjson). A journal may be that of a run which is
still going on or was killed. Several files are the reports of all shards of a run.`,
		Example: `  runner report report.json
  runner report --format html --out report.html report.json
  runner report --format json shard-*.json > whole.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exit.Usage("no report given", "name the file: runner report report.json")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runReport(env, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "write `FORMAT`: "+spec.Join(render.ReportFormats(), "or")+" (default: what the name of --out says, or text)")
	flags.StringVar(&f.out, "out", "-", "write to `FILE` (- is stdout)")
	f.talkFlags.add(flags)
	f.fileFlags.add(flags)
	completeFlag(cmd, "format", oneOf(render.ReportFormats()...))
	return cmd
}

func runReport(env environment, f *reportFlags, files []string) error {
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	format := f.format
	switch {
	case format == "" && f.out == "-":
		format = "text"
	case format == "":
		format = render.FormatOf(f.out)
	}
	write := render.ReportFormat(format)
	if write == nil {
		return exit.Usage(fmt.Sprintf("--format %q: want %s", f.format, spec.Join(render.ReportFormats(), "or")), "")
	}
	if f.out != "-" && slices.Contains(files, f.out) {
		return exit.Usage(fmt.Sprintf("--out %q is a file that is read", f.out), "name another file")
	}
	d, err := results.Open(files, env.stdin)
	if err != nil {
		return cannotOpen(err)
	}
	defer d.Close()
	mode, err := f.fileMode()
	if err != nil {
		return err
	}
	out, err := output.Open(env.stdout, []string{format + "=" + f.out}, "", mode)
	if err != nil {
		return err
	}
	defer out.Discard()
	if err := out.Write(d, nil); err != nil {
		return &exit.Error{Code: exit.Missed, Err: err}
	}
	for _, name := range out.Names {
		talk.Line("report "+name, slog.String("event", "report"), slog.String("file", name))
	}
	return nil
}

// cannotOpen says why a file is not the result of a run.
func cannotOpen(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("no such file: %w", output.Reason(err)), Hint: "name the JSON report of a run, or its journal"}
	}
	hint := "name the JSON report of a run, or its journal"
	if strings.Contains(err.Error(), "shard") {
		hint = "name the reports of all shards of one run"
	}
	return &exit.Error{Code: exit.Invalid, Err: err, Hint: hint}
}
