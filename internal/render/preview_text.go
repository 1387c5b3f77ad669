package render

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"iothub-runner/internal/preview"
)

// Bounds of a preview in text.
const (
	textGroups  = 50 // of a job
	textChanges = 30 // of a group
	textDevices = 5
	textValue   = 80
)

// PreviewText writes a forecast for a terminal.
func PreviewText(w io.Writer, f *preview.Forecast) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "Plan %s (%s) on %s", f.Plan.Name, Clip(f.Plan.File, 500), hubNames(f.Hubs, func(name string) string { return Clip(name, 300) }))
	fmt.Fprintf(out, "\nWhat a run would do that starts at %s. Nothing was sent.\n%s\n", at(f.CreatedAt), sourceText(f))
	for i := range f.Jobs {
		fmt.Fprintln(out)
		textJob(out, &f.Jobs[i], f.Hubs)
	}
	fmt.Fprintf(out, "\nIn all: %s, %d as wanted already", changesText(&f.Summary), f.Summary.Unchanged)
	if f.Summary.Failing > 0 {
		fmt.Fprintf(out, ", %d that cannot be done", f.Summary.Failing)
	}
	fmt.Fprintf(out, ".\n%s.\n", loadText(&f.Summary.Load, f.Hubs))
	if text := quotaText(&f.Summary.Load); text != "" {
		fmt.Fprintf(out, "%s.\n", text)
	}
	if unknownSize(f) {
		fmt.Fprintln(out, "How long that takes is not known: the plan does not say how large the hub is (hub.sku, hub.units).")
	}
	for _, warning := range f.Warnings {
		fmt.Fprintf(out, "warning: %s\n", Clip(warning, 500))
	}
	return out.Flush()
}

func textJob(out io.Writer, j *preview.JobForecast, hubs []preview.HubForecast) {
	fmt.Fprintf(out, "job %s: %s of %s\n", j.Name, actionText(j), Clip(j.Target, 200))
	switch {
	case j.Stopped != "":
		fmt.Fprintf(out, "  %s: %s\n", fateText(j), j.Stopped)
		return
	case j.Error != "":
		fmt.Fprintf(out, "  could not be looked at: %s\n", Clip(j.Error, 1000))
		return
	}
	fmt.Fprintf(out, "  %s\n  %s\n", startText(j), countsText(j))
	for _, text := range []string{confirmText(j), wavesText(j), firstWaveText(j), waveTimesText(j)} {
		if text != "" {
			fmt.Fprintf(out, "  %s\n", text)
		}
	}
	if j.Targets > 0 {
		fmt.Fprintf(out, "  %s\n", loadText(&j.Load, hubs))
	}
	if text := enginesText(j); text != "" {
		fmt.Fprintf(out, "  %s\n", text)
	}
	all := bundles(j.Groups)
	for i := range all {
		if i == textGroups {
			more, groups := 0, 0
			for _, b := range all[i:] {
				more, groups = more+b.count, groups+b.groups
			}
			fmt.Fprintf(out, "\n  ... and %s in %s (--format json shows them)\n", Count(more, "device"), Count(groups, "more group"))
			break
		}
		fmt.Fprintln(out)
		textBundle(out, &all[i])
	}
}

func textBundle(out io.Writer, b *bundle) {
	fmt.Fprintf(out, "  %s: %s\n", Count(b.count, "device"), devicesText(b, textDevices))
	switch {
	case len(b.errors.list) > 0:
		fmt.Fprintf(out, "    ! cannot be done: %s\n", b.errors.text(clipped(1000)))
		return
	case b.unchanged:
		fmt.Fprintln(out, "    = as wanted already")
		return
	case b.call != nil && b.various:
		fmt.Fprintf(out, "    > %s, with a payload for each device; %s\n", Clip(b.call.MethodName, 100), timeoutText(b.call))
	case b.call != nil:
		fmt.Fprintf(out, "    > %s\n", Clip(callText(b.call), 400))
		return
	}
	width := 0
	for _, part := range b.parts[:min(len(b.parts), textChanges)] {
		width = max(width, len(part.path))
	}
	for i, part := range b.parts {
		if i == textChanges {
			fmt.Fprintf(out, "    ... and %s\n", properties(len(b.parts)-i))
			break
		}
		if b.call != nil {
			fmt.Fprintf(out, "      %-*s  %s\n", width, Clip(part.path, textValue), part.after.text(clipped(textValue)))
			continue
		}
		fmt.Fprintf(out, "    ~ %-*s  %s -> %s\n", width, Clip(part.path, textValue), part.before.text(clipped(textValue)), part.after.text(clipped(textValue)))
	}
}

// clipped shows a text on one line of so many characters at most.
func clipped(most int) func(string) string {
	return func(s string) string { return Clip(s, most) }
}

// PreviewFormat returns what writes a forecast in a format, nil if there is no
// such format.
func PreviewFormat(name string) func(io.Writer, *preview.Forecast) error {
	switch name {
	case "text":
		return PreviewText
	case "markdown":
		return PreviewMarkdown
	case "json":
		return func(w io.Writer, f *preview.Forecast) error {
			out := json.NewEncoder(w)
			out.SetEscapeHTML(false)
			out.SetIndent("", "  ")
			return out.Encode(f)
		}
	}
	return nil
}
