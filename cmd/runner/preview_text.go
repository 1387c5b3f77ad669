package main

import (
	"bufio"
	"fmt"
	"io"

	"iothub-runner/runner"
)

// Bounds of a preview in text.
const (
	textGroups  = 50 // of a job
	textChanges = 30 // of a group
	textDevices = 5
	textValue   = 80
)

// writePreviewText writes a forecast for a terminal.
func writePreviewText(w io.Writer, f *runner.Forecast) error {
	out := bufio.NewWriter(w)
	h := &f.Hubs[0]
	fmt.Fprintf(out, "Plan %s (%s) on hub %s", f.Plan.Name, clip(f.Plan.File, 500), clip(h.Name, 300))
	if size := hubSize(h); size != "" {
		fmt.Fprintf(out, " (%s)", size)
	}
	fmt.Fprintf(out, "\nWhat a run would do that starts at %s. Nothing was sent.\n%s\n", at(f.CreatedAt), sourceText(f))
	for i := range f.Jobs {
		fmt.Fprintln(out)
		textJob(out, &f.Jobs[i], h)
	}
	fmt.Fprintf(out, "\nIn all: %s, %d as wanted already", changesText(&f.Summary), f.Summary.Unchanged)
	if f.Summary.Failing > 0 {
		fmt.Fprintf(out, ", %d that cannot be done", f.Summary.Failing)
	}
	fmt.Fprintf(out, ".\n%s.\n", loadText(&f.Summary.Load, h))
	if text := quotaText(&f.Summary.Load); text != "" {
		fmt.Fprintf(out, "%s.\n", text)
	}
	if unknownSize(f) {
		fmt.Fprintln(out, "How long that takes is not known: the plan does not say how large the hub is (hub.sku, hub.units).")
	}
	for _, warning := range f.Warnings {
		fmt.Fprintf(out, "warning: %s\n", clip(warning, 500))
	}
	return out.Flush()
}

func textJob(out io.Writer, j *runner.JobForecast, h *runner.HubForecast) {
	fmt.Fprintf(out, "job %s: %s of %s\n", j.Name, actionText(j), clip(j.Target, 200))
	switch {
	case j.Stopped != "":
		fmt.Fprintf(out, "  would not run: %s\n", j.Stopped)
		return
	case j.Error != "":
		fmt.Fprintf(out, "  could not be looked at: %s\n", clip(j.Error, 1000))
		return
	}
	fmt.Fprintf(out, "  %s\n  %s\n", startText(j), countsText(j))
	if text := wavesText(j); text != "" {
		fmt.Fprintf(out, "  %s\n", text)
	}
	if j.Targets > 0 {
		fmt.Fprintf(out, "  %s\n", loadText(&j.Load, h))
	}
	for i := range j.Groups {
		if i == textGroups {
			more := 0
			for _, g := range j.Groups[i:] {
				more += g.Count
			}
			fmt.Fprintf(out, "\n  ... and %s in %s (--format json shows them)\n", count(more, "device"), count(len(j.Groups)-i, "more group"))
			break
		}
		fmt.Fprintln(out)
		textGroup(out, &j.Groups[i])
	}
}

func textGroup(out io.Writer, g *runner.Group) {
	fmt.Fprintf(out, "  %s: %s\n", count(g.Count, "device"), devicesText(g, textDevices))
	if g.Various {
		fmt.Fprintf(out, "    each with values of its own; those of %s:\n", clip(g.Devices[0], 300))
	}
	switch {
	case g.Error != "":
		fmt.Fprintf(out, "    ! cannot be done: %s\n", clip(g.Error, 1000))
	case g.Unchanged:
		fmt.Fprintln(out, "    = as wanted already")
	case g.Call != nil:
		fmt.Fprintf(out, "    > %s\n", clip(callText(g.Call), 400))
	}
	all := changes(g)
	width := 0
	for _, c := range all[:min(len(all), textChanges)] {
		width = max(width, len(c.path))
	}
	for i, c := range all {
		if i == textChanges {
			fmt.Fprintf(out, "    ... and %s\n", properties(len(all)-i))
			break
		}
		fmt.Fprintf(out, "    ~ %-*s  %s -> %s\n", width, clip(c.path, textValue), clip(c.before, textValue), clip(c.after, textValue))
	}
}
