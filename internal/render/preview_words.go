package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/preview"
	"iothub-runner/spec"
)

// The words of a preview, which its formats share.

// change is one property of a twin, as it is and as it would be.
type change struct {
	path, before, after string
}

// Values that a property can have without being there.
const (
	absent  = "(none)"
	removed = "(removed)"
)

// changes lists the properties that a group changes, each by itself.
func changes(g *preview.Group) []change {
	var all []change
	if g.Patch == nil {
		return nil
	}
	before := g.Before
	if before == nil {
		before = &spec.Sections{}
	}
	all = appendChanges(all, "desired", gjson.ParseBytes(before.Desired), gjson.ParseBytes(g.Patch.Desired))
	return appendChanges(all, "tags", gjson.ParseBytes(before.Tags), gjson.ParseBytes(g.Patch.Tags))
}

func appendChanges(all []change, path string, before, after gjson.Result) []change {
	if !after.Exists() {
		return all
	}
	if after.IsObject() && before.IsObject() {
		was := map[string]gjson.Result{}
		before.ForEach(func(key, value gjson.Result) bool {
			was[key.Str] = value
			return true
		})
		after.ForEach(func(key, value gjson.Result) bool {
			all = appendChanges(all, path+"."+key.Str, was[key.Str], value)
			return true
		})
		return all
	}
	c := change{path: path, before: plainJSON(before.Raw), after: plainJSON(after.Raw)}
	if before.Type == gjson.Null {
		c.before = absent
	}
	if after.Type == gjson.Null {
		c.after = removed
	}
	return append(all, c)
}

// plainJSON writes characters that a JSON text gives by number as themselves,
// as far as people can see them: "\u003c" is what a hub makes of "<".
func plainJSON(raw string) string {
	if !strings.Contains(raw, `\u`) {
		return raw
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			b.WriteByte(raw[i])
			continue
		}
		if i+6 <= len(raw) && raw[i+1] == 'u' {
			n, err := strconv.ParseUint(raw[i+2:i+6], 16, 32)
			if r := rune(n); err == nil && unicode.IsPrint(r) && r != '"' && r != '\\' {
				b.WriteRune(r)
				i += 5
				continue
			}
		}
		b.WriteString(raw[i : i+2])
		i++
	}
	return b.String()
}

// actionText says what a job does to whom.
func actionText(j *preview.JobForecast) string {
	if j.Type == spec.TypeDirectMethod {
		return "call a direct method"
	}
	return "update twins"
}

// callText is a method call in one line.
func callText(c *preview.CallForecast) string {
	payload := "without payload"
	if c.Payload != nil {
		payload = "with payload " + plainJSON(string(c.Payload))
	}
	return fmt.Sprintf("%s, %s; %s", c.MethodName, payload, timeoutText(c))
}

func timeoutText(c *preview.CallForecast) string {
	connect := "only if the device is connected"
	if c.ConnectTimeoutInSeconds > 0 {
		connect = fmt.Sprintf("waits %d s for the device to connect", c.ConnectTimeoutInSeconds)
	}
	return fmt.Sprintf("%s, and %d s for its answer", connect, c.ResponseTimeoutInSeconds)
}

// countsText says what becomes of the targets of a job.
func countsText(j *preview.JobForecast) string {
	parts := []string{}
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	add(j.Changes, "twin to change", "twins to change")
	add(j.Calls, "call to make", "calls to make")
	add(j.Unchanged, "as wanted already", "as wanted already")
	add(j.Failing, "that cannot be done", "that cannot be done")
	add(j.LeftAlone, "that is left alone", "that are left alone")
	text := Count(j.Targets, "target")
	if cutOff(j) {
		text += ", as many as target.limit lets (a run may meet others, if more match)"
	}
	if len(parts) == 0 {
		return text
	}
	return text + ": " + strings.Join(parts, ", ")
}

// headline sums a preview up. Jobs that would not run come first: nothing to
// do because nothing is wrong, and because something is, are not the same.
func headline(f *preview.Forecast) string {
	stopped, skipped := 0, 0
	for i := range f.Jobs {
		switch j := &f.Jobs[i]; {
		case j.Skipped:
			skipped++
		case j.Stopped+j.Error != "":
			stopped++
		}
	}
	text := changesText(&f.Summary)
	if skipped > 0 {
		text = Count(skipped, "job") + " would be skipped; " + text
	}
	if stopped > 0 {
		text = "**" + Count(stopped, "job") + " would not run**; " + text
	}
	return text
}

// changesText sums up what a preview counts.
func changesText(s *preview.ForecastSummary) string {
	var parts []string
	if s.Changes > 0 {
		parts = append(parts, Count(s.Changes, "twin")+" to change")
	}
	if s.Calls > 0 {
		parts = append(parts, Count(s.Calls, "call")+" to make")
	}
	if len(parts) == 0 {
		return "nothing to do"
	}
	return strings.Join(parts, ", ")
}

// devicesText names some devices of a bundle and counts the others.
func devicesText(b *bundle, most int) string {
	var named []string
	for _, d := range b.devices[:min(most, len(b.devices))] {
		named = append(named, Clip(d, 300))
	}
	text := strings.Join(named, ", ")
	if more := b.count - len(named); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// startText says when a job starts and when its time is over.
func startText(j *preview.JobForecast) string {
	text := "starts " + at(j.StartsAt)
	if len(j.After) > 0 {
		text = "starts after " + Clip(needsText(j), 300) + ", " + at(j.StartsAt) + " at the earliest"
	}
	if j.EndsAt != nil {
		text += ", ends " + at(*j.EndsAt) + " at the earliest"
	}
	if j.Deadline != nil {
		text += ", deadline " + at(*j.Deadline)
	}
	if j.Window != nil {
		text += fmt.Sprintf(", in the window from %s to %s", at(j.Window.From), at(j.Window.To))
	}
	return text
}

// needsText names the jobs that one waits for, and what it wants of them.
func needsText(j *preview.JobForecast) string {
	parts := make([]string, len(j.After))
	for i, name := range j.After {
		parts[i] = name + " succeeds"
		if slices.Contains(j.AfterAny, name) {
			parts[i] = name + " ends"
		}
	}
	return strings.Join(parts, " and ")
}

// cutOff tells whether the targets of a job are as many as its limit lets: there
// may be more that match, and which of them a run meets is for the hub to say.
func cutOff(j *preview.JobForecast) bool { return j.Limit > 0 && j.Targets >= j.Limit }

// confirmText says how long devices are waited for; empty if they are not.
func confirmText(j *preview.JobForecast) string {
	if j.Confirm == "" {
		return ""
	}
	return "each device is given " + j.Confirm + " to report the change"
}

// wavesText says how a rollout goes on; empty if there is none.
func wavesText(j *preview.JobForecast) string {
	if len(j.Waves) == 0 {
		return ""
	}
	var parts, sizes []string
	n := 0
	for i, w := range j.Waves {
		sizes = append(sizes, strconv.Itoa(w.Targets))
		if last := i == len(j.Waves)-1; !last && j.Waves[i+1].Hub == w.Hub {
			continue
		}
		part := "of " + strings.Join(sizes, ", ") + " targets"
		if w.Hub != "" {
			part += " on " + w.Hub
		}
		parts, n, sizes = append(parts, part), len(sizes), nil
	}
	text := Clip(fmt.Sprintf("in %d waves %s", n, strings.Join(parts, " and ")), 300)
	switch j.Pause {
	case spec.PauseManual:
		text += ", each begun by somebody who resumes the run"
	case "", "0s":
	default:
		text += ", with " + j.Pause + " between them"
	}
	return text
}

// firstWaveText names the devices of the first wave; empty if there is none.
func firstWaveText(j *preview.JobForecast) string {
	if len(j.Waves) == 0 || len(j.Waves[0].Devices) == 0 {
		return ""
	}
	first := j.Waves[0]
	text := strings.Join(first.Devices, ", ")
	if more := first.Targets - len(first.Devices); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return Clip("the first wave is "+text, 500)
}

// waveTimesText says when the other waves begin at the earliest; empty if that is
// not known.
func waveTimesText(j *preview.JobForecast) string {
	var times []string
	for i, w := range j.Waves {
		if i > 0 && w.StartsAt != nil && w.Hub == j.Waves[0].Hub {
			times = append(times, at(*w.StartsAt))
		}
	}
	if len(times) == 0 {
		return ""
	}
	return Clip("the next begin at "+strings.Join(times, ", ")+" at the earliest", 300)
}

// at is an absolute time for people; fractions of seconds say nothing here.
func at(t spec.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// loadText says what something asks of the hub, and how long that takes.
func loadText(l *preview.Load, hubs []preview.HubForecast) string {
	names := map[string]string{"queries": "query", "twinReads": "twin read", "twinUpdates": "twin update", "methodCalls": "method call"}
	var parts []string
	total := 0
	for _, class := range []string{"queries", "twinReads", "twinUpdates", "methodCalls"} {
		n := l.Requests[class]
		if n == 0 {
			continue
		}
		total += n
		noun := Count(n, names[class])
		if class == "queries" && n > 1 {
			noun = fmt.Sprintf("%d queries", n)
		}
		parts = append(parts, noun)
	}
	text := Count(total, "request")
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if l.Seconds > 0 {
		text += fmt.Sprintf(", %s at least (%s)", secondsText(l.Seconds), limitText(l, hubs))
	}
	return text
}

// enginesText compares what carries a job out; empty if nobody can tell.
func enginesText(j *preview.JobForecast) string {
	e := j.Engines
	if e == nil {
		return ""
	}
	text := fmt.Sprintf("engine %s; direct takes %s at least, hubJobs %s", e.Engine, secondsText(e.Direct), secondsText(e.HubJobs))
	if e.Rows > 0 {
		text += fmt.Sprintf(" (%s to read its rows)", secondsText(e.Rows))
	}
	return text + fmt.Sprintf("; recommended is %s: %s", e.Advice, e.Reason)
}

func secondsText(s float64) string {
	return Round(time.Duration(s * float64(time.Second))).String()
}

// ClassName is a class of calls as people say it.
func ClassName(calls string) string {
	return map[string]string{
		"queries": "queries", "twinReads": "reads of twins", "twinUpdates": "updates of twins", "methodCalls": "method calls",
		"jobCalls": "calls to its jobs", "jobDevices": "devices of its jobs",
	}[calls]
}

func limitText(l *preview.Load, hubs []preview.HubForecast) string {
	if l.Limit == "rate" {
		return "the job's rate"
	}
	h, on := &hubs[0], ""
	for i := range hubs {
		if hubs[i].Name == l.Hub {
			h, on = &hubs[i], ", on "+l.Hub
		}
	}
	return "what " + hubSize(h) + " takes in " + ClassName(l.Limit) + on
}

// hubNames names the hubs of a forecast and their sizes, each name as write has it.
func hubNames(hubs []preview.HubForecast, write func(name string) string) string {
	names := make([]string, len(hubs))
	for i := range hubs {
		names[i] = write(hubs[i].Name)
		if size := hubSize(&hubs[i]); size != "" {
			names[i] += " (" + size + ")"
		}
	}
	return "hub" + plural(len(hubs)) + " " + strings.Join(names, ", ")
}

// hubSize is "S1 × 2", or "" for a hub of unknown size.
func hubSize(h *preview.HubForecast) string {
	if h.SKU == "" {
		return ""
	}
	return fmt.Sprintf("%s × %d", h.SKU, max(1, h.Units))
}

// quotaText says which part of a day's messages a run takes; empty if that is
// not known.
func quotaText(l *preview.Load) string {
	if l.Quota == 0 {
		return ""
	}
	if l.Hub != "" {
		return fmt.Sprintf("%s, %s of what one of the hubs takes in a day", Count(l.Messages, "message"), percent(l.PerDay))
	}
	return fmt.Sprintf("%s of the %d that the hub takes in a day (%s)", Count(l.Messages, "message"), l.Quota, percent(l.PerDay))
}

func percent(share float64) string {
	if share < 0.001 {
		return "less than 0.1%"
	}
	return fmt.Sprintf("%.1f%%", share*100)
}

// sourceText says where the values came from, and what that means.
func sourceText(f *preview.Forecast) string {
	if f.TwinsFrom == "twins" {
		return "Each twin was read by itself."
	}
	return "Twins are shown as the hub's query index has them, which can be minutes behind (--direct reads each one)."
}

// unknownSize tells whether nothing can be said about time.
func unknownSize(f *preview.Forecast) bool {
	return slices.ContainsFunc(f.Hubs, func(h preview.HubForecast) bool { return h.SKU == "" })
}

// Clip puts a text on one line of so many characters at most. What could steer
// a terminal, or hide a part of the text, is replaced.
func Clip(s string, most int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return unicode.ReplacementChar
	}, s))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

func properties(n int) string {
	if n == 1 {
		return "1 more property"
	}
	return fmt.Sprintf("%d more properties", n)
}

// fateText says how a job that would send nothing ends.
func fateText(j *preview.JobForecast) string {
	if j.Skipped {
		return "would be skipped"
	}
	return "would not run"
}
