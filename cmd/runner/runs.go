package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/render"
	"iothub-runner/internal/results"
	"iothub-runner/internal/state"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// runsFlags are those of all runs commands.
type runsFlags struct {
	talkFlags
	stateDir string
	format   string
	keep     int
	maxAge   string
	maxSize  string
	dryRun   bool
}

func newRuns(env environment) *cobra.Command {
	var f runsFlags
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "list, show and remove the runs of this machine",
		Long: `runs tells of the journals that runs have left on this machine: when each began, how it
ended, and whether it can be gone on with. The journals of all plans take 2 GiB at most;
those of runs that are finished are compressed, and go first.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return listRuns(env, &f) },
	}
	list := &cobra.Command{
		Use: "list", Short: "list the runs of this machine, the newest first", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return listRuns(env, &f) },
	}
	show := &cobra.Command{
		Use: "show RUN", Short: "show how a run went, from its journal", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return showRun(env, &f, args[0]) },
	}
	prune := &cobra.Command{
		Use: "prune", Short: "remove the journals of old runs", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return pruneRuns(env, &f) },
	}
	for _, c := range []*cobra.Command{cmd, list} {
		c.Flags().StringVar(&f.format, "format", "text", "write `FORMAT`: text or json")
	}
	show.Flags().StringVar(&f.format, "format", "text", "write `FORMAT`: "+spec.Join(render.ReportFormats(), "or"))
	prune.Flags().IntVar(&f.keep, "keep", 0, "keep the newest `N` runs of each plan and hub; 0 sets no bound")
	prune.Flags().StringVar(&f.maxAge, "max-age", "", "remove what is older than this `TIME`, such as 720h or 30d")
	prune.Flags().StringVar(&f.maxSize, "max-size", "", "keep so many `BYTES` at most, such as 500MiB or 1GiB")
	prune.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	for _, c := range []*cobra.Command{cmd, list, show, prune} {
		c.Flags().StringVar(&f.stateDir, "state-dir", "", "look for journals below `DIR` (default as apply has it)")
		f.add(c.Flags())
	}
	cmd.AddCommand(list, show, prune)
	return cmd
}

// pastRun is a run of this machine.
type pastRun struct {
	Run       string         `json:"run"`
	Plan      string         `json:"plan"`
	Hub       string         `json:"hub"`
	StartedAt spec.Time      `json:"startedAt"`
	Status    string         `json:"status"` // running, or unfinished for one that was killed
	Targets   int            `json:"targets"`
	Outcomes  map[string]int `json:"outcomes"`
	Resumable bool           `json:"resumable"`
	Bytes     int64          `json:"bytes"`
	Journal   string         `json:"journal"`

	file journal.RunFile
	plan string // the plan's file
}

// runs returns those of this machine, the newest first.
func (f *runsFlags) runs(env environment) ([]pastRun, error) {
	root, err := state.Place{StateDir: f.stateDir, Getenv: env.getenv}.Root()
	if err != nil {
		return nil, err
	}
	files, err := journal.Find(root)
	if err != nil {
		return nil, &exit.Error{Code: exit.Internal, Err: err}
	}
	all := make([]pastRun, 0, len(files))
	for i := range files {
		all = append(all, lookAt(&files[i]))
	}
	return all, nil
}

func lookAt(f *journal.RunFile) pastRun {
	r := pastRun{Run: f.Run, Status: "unreadable", Outcomes: map[string]int{}, Bytes: f.Size, Journal: f.Path, file: *f}
	h, ending, finished, err := f.Look()
	if err != nil {
		return r
	}
	r.Plan, r.Hub, r.StartedAt, r.plan = h.Plan, strings.Join(h.Hubs, ", "), spec.Time{Time: h.StartedAt}, h.File
	r.Resumable = !finished
	switch {
	case f.InUse():
		r.Status, r.Resumable = "running", false
	case ending != nil:
		r.Status, r.Targets, r.Outcomes = ending.Status, ending.Targets, ending.Outcomes
	default:
		r.Status = string(spec.StatusUnfinished)
	}
	return r
}

func listRuns(env environment, f *runsFlags) error {
	all, err := f.runs(env)
	if err != nil {
		return err
	}
	switch f.format {
	case "json":
		out := json.NewEncoder(env.stdout)
		out.SetIndent("", "  ")
		return out.Encode(all)
	case "text":
		return writeRuns(env.stdout, all)
	}
	return exit.Usage(fmt.Sprintf("--format %q: want text or json", f.format), "")
}

func writeRuns(w io.Writer, all []pastRun) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no runs on this machine")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tPLAN\tHUB\tSTATUS\tOUTCOMES\tSIZE\tRESUME")
	for i := range all {
		r := &all[i]
		outcomes := map[spec.Outcome]int{}
		for o, n := range r.Outcomes {
			outcomes[spec.Outcome(o)] = n
		}
		resume := "-"
		if r.Resumable {
			resume = "yes"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Run, r.Plan, r.Hub, r.Status, render.OutcomeList(outcomes), bytesText(r.Bytes), resume)
	}
	return table.Flush()
}

// bytesText is a size for people.
func bytesText(n int64) string {
	const kib = 1 << 10
	switch {
	case n >= kib*kib*kib:
		return fmt.Sprintf("%.1f GiB", float64(n)/(kib*kib*kib))
	case n >= kib*kib:
		return fmt.Sprintf("%.1f MiB", float64(n)/(kib*kib))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/kib)
}

func showRun(env environment, f *runsFlags, id string) error {
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	write := render.ReportFormat(f.format)
	if write == nil {
		return exit.Usage(fmt.Sprintf("--format %q: want %s", f.format, spec.Join(render.ReportFormats(), "or")), "")
	}
	all, err := f.runs(env)
	if err != nil {
		return err
	}
	for i := range all {
		r := &all[i]
		if r.Run != id && (id != "last" || i > 0) {
			continue
		}
		d, err := results.Open([]string{r.Journal}, nil)
		if err != nil {
			return cannotOpen(err)
		}
		defer d.Close()
		if err := write(env.stdout, d); err != nil {
			return &exit.Error{Code: exit.Missed, Err: err}
		}
		talk.Line("journal "+r.Journal, slog.String("event", "journal"), slog.String("file", r.Journal))
		if r.Resumable {
			talk.Line("go on with: runner apply " + render.ShellWord(r.plan) + " --resume " + r.Run)
		}
		return nil
	}
	return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("there is no run %q on this machine", id), Hint: "runner runs lists them; last is the newest"}
}

func pruneRuns(env environment, f *runsFlags) error {
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	age, size, err := f.bounds()
	if err != nil {
		return err
	}
	all, err := f.runs(env)
	if err != nil {
		return err
	}
	freed, n := int64(0), 0
	for _, r := range f.old(all, age, size) {
		gone := f.dryRun
		if !gone {
			if gone, err = r.file.Remove(); err != nil {
				return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("remove %q: %w", r.Journal, err)}
			}
		}
		if gone {
			fmt.Fprintf(env.stdout, "%s\t%s\t%s\n", r.Run, r.Plan, bytesText(r.Bytes))
			freed, n = freed+r.Bytes, n+1
		}
	}
	verb := "removed"
	if f.dryRun {
		verb = "would remove"
	}
	talk.Line(fmt.Sprintf("%s %s, %s", verb, render.Count(n, "run"), bytesText(freed)), slog.String("event", "pruned"), slog.Int("runs", n), slog.Int64("bytes", freed))
	return nil
}

// old are the runs beyond what is to be kept, less those that are going on.
func (f *runsFlags) old(all []pastRun, age time.Duration, size int64) (old []*pastRun) {
	kept, bytes := map[string]int{}, int64(0)
	for i := range all {
		r := &all[i]
		of := r.Hub + "\x00" + r.Plan
		kept[of]++
		bytes += r.Bytes
		beyond := f.keep > 0 && kept[of] > f.keep || age > 0 && time.Since(r.file.Modified) > age || size > 0 && bytes > size
		if beyond && r.Status != "running" {
			old = append(old, r)
		}
	}
	return old
}

// bounds reads what is to be kept.
func (f *runsFlags) bounds() (age time.Duration, size int64, err error) {
	if f.keep <= 0 && f.maxAge == "" && f.maxSize == "" {
		return 0, 0, exit.Usage("nothing says what is to be removed", "give --keep, --max-age or --max-size; --dry-run shows what that comes to")
	}
	if f.maxAge != "" {
		text := f.maxAge
		if days, ok := strings.CutSuffix(text, "d"); ok {
			if n, convErr := strconv.Atoi(days); convErr == nil {
				text = strconv.Itoa(24*n) + "h"
			}
		}
		if age, err = time.ParseDuration(text); err != nil || age <= 0 {
			return 0, 0, exit.Usage(fmt.Sprintf("--max-age %q is no time", f.maxAge), "write it as 720h or 30d")
		}
	}
	if f.maxSize != "" {
		if size, err = parseBytes(f.maxSize); err != nil || size <= 0 {
			return 0, 0, exit.Usage(fmt.Sprintf("--max-size %q is no size", f.maxSize), "write it as 500MiB or 1GiB")
		}
	}
	return age, size, nil
}

func parseBytes(text string) (int64, error) {
	unit := int64(1)
	for ending, n := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, ending); ok {
			text, unit = rest, n
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return int64(n * float64(unit)), err
}

// sayDropped says which journals went to make room for that of a run.
func sayDropped(talk *terminal.Talk, dropped []journal.RunFile) {
	bytes := int64(0)
	for i := range dropped {
		bytes += dropped[i].Size
	}
	if len(dropped) > 0 {
		talk.Line(fmt.Sprintf("removed the journals of %s to keep the room that all take below 2 GiB: %s", render.Count(len(dropped), "old run"), bytesText(bytes)),
			slog.String("event", "dropped"), slog.Int("runs", len(dropped)), slog.Int64("bytes", bytes))
	}
}
