package terminal

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"iothub-runner/internal/render"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// look is what the terminal can show.
type look struct {
	color   bool
	unicode bool
}

// stopwatch notes when a job was first seen running and first seen ended.
type stopwatch struct{ from, to time.Time }

func (s *stopwatch) note(j runner.JobProgress, now time.Time) {
	if j.Started && s.from.IsZero() {
		s.from = now
	}
	if j.Ended && s.to.IsZero() {
		s.to = now
	}
}

// elapsed is how long the job has been running, or ran.
func (s *stopwatch) elapsed(now time.Time) time.Duration {
	switch {
	case s.from.IsZero():
		return 0
	case s.to.IsZero():
		return now.Sub(s.from)
	}
	return s.to.Sub(s.from)
}

// cells are what a line says of a job beside its name and bar.
type cells struct {
	done  string // or where it stands, for a job without devices yet
	time  string
	tally string
}

// drawBars draws the jobs as lines of at most width columns and in at most so
// many rows. When not all of them fit, running jobs come first, and the last
// Line counts the others.
//
// The bar's width hangs on the terminal's alone: one that made room for the
// text beside it would tremble.
func drawBars(jobs []runner.JobProgress, clocks []stopwatch, now time.Time, l look, width, rows int) []string {
	shown := fit(jobs, rows)
	texts := make([]cells, len(jobs))
	names, dones, times := 0, 0, 0
	for _, i := range shown {
		texts[i] = describe(jobs[i], &clocks[i], now)
		names = max(names, utf8.RuneCountInString(jobs[i].Name))
		if texts[i].time != "" {
			dones, times = max(dones, len(texts[i].done)), max(times, len(texts[i].time))
		}
	}
	names = min(names, max(8, width/3))
	lines := make([]string, 0, rows)
	for _, i := range shown {
		name, text := padded(jobs[i].Name, names)+"  ", texts[i].join(dones, times)
		n := barWidth(width)
		if n == 0 {
			lines = append(lines, clipLine(name+text, width))
			continue
		}
		bar := l.bar(jobs[i], clocks[i].elapsed(now), n) + "  "
		lines = append(lines, name+bar+clipLine(text, width-names-2-n-2))
	}
	if hidden := len(jobs) - len(shown); hidden > 0 {
		ended := 0
		for i := range jobs {
			if jobs[i].Ended {
				ended++
			}
		}
		lines = append(lines, clipLine(fmt.Sprintf("and %s; %d of %d ended", render.Count(hidden, "more job"), ended, len(jobs)), width))
	}
	return lines
}

// join puts the cells side by side, so that those of several lines are flush.
func (c cells) join(dones, times int) string {
	if c.time == "" {
		return c.done
	}
	return strings.TrimRight(padded(c.done, dones)+"  "+padded(c.time, times)+"  "+c.tally, " ")
}

// barWidth is the width of a bar on a terminal; on a narrow one there is none.
func barWidth(width int) int {
	if width < 60 {
		return 0
	}
	return min(width/4, 40)
}

// fit chooses the jobs to show, in the order of the plan.
func fit(jobs []runner.JobProgress, rows int) []int {
	all := make([]int, len(jobs))
	for i := range all {
		all[i] = i
	}
	if len(jobs) <= rows {
		return all
	}
	urgency := func(j runner.JobProgress) int {
		switch {
		case j.Started && !j.Ended:
			return 0
		case !j.Started && !j.Ended:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(all, func(a, b int) int { return urgency(jobs[a]) - urgency(jobs[b]) })
	all = all[:rows-1]
	slices.Sort(all)
	return all
}

func padded(name string, width int) string {
	if n := utf8.RuneCountInString(name); n <= width {
		return name + strings.Repeat(" ", width-n)
	}
	return clipLine(name, width)
}

// clipLine cuts plain text to a width.
func clipLine(text string, width int) string {
	switch {
	case utf8.RuneCountInString(text) <= width:
		return text
	case width < 1:
		return ""
	}
	return string([]rune(text)[:width-1]) + "…"
}

// describe says where a job stands.
func describe(j runner.JobProgress, clock *stopwatch, now time.Time) cells {
	switch {
	case j.Ended && !j.Started:
		return cells{done: "not started"}
	case !j.Started && j.ScheduledAt.IsZero():
		return cells{done: waitsFor(j)}
	case !j.Started:
		if wait := j.ScheduledAt.Sub(now); wait > 0 {
			return cells{done: startsAt(j.ScheduledAt, now)}
		}
		return cells{done: "starting"}
	case j.Listed == 0 && !j.Ended:
		return cells{done: "looking for devices"}
	}
	c := cells{done: doneOf(j), time: clock.elapsed(now).Round(time.Second).String()}
	if left := remaining(j, clock.elapsed(now)); left > 0 {
		c.time = left.Round(time.Second).String() + " left"
	}
	c.tally = joined(worst(j.Outcomes), gateText(j, now), speed(j, clock, now), best(j.Outcomes))
	return c
}

func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// startsAt is "starts 02:00, in 3h12m"; what is near needs no clock.
func startsAt(at, now time.Time) string {
	wait := at.Sub(now)
	if wait < time.Hour {
		return "starts in " + inSeconds(wait)
	}
	layout := "15:04"
	if at.YearDay() != now.YearDay() || at.Year() != now.Year() {
		layout = "Jan 2 15:04"
	}
	return fmt.Sprintf("starts %s, in %s", at.Format(layout), strings.TrimSuffix(wait.Round(time.Minute).String(), "0s"))
}

// inSeconds is a time to wait, which is not over before it is.
func inSeconds(wait time.Duration) string {
	return (wait + time.Second - 1).Truncate(time.Second).String()
}

// gateText is "wave 2 of 3", with when the next one may begin if somebody waits for it.
func gateText(j runner.JobProgress, now time.Time) string {
	if j.Waves == 0 || j.Ended {
		return ""
	}
	text := fmt.Sprintf("wave %d of %d", j.Wave, j.Waves)
	if wait := j.Opens.Sub(now); !j.Opens.IsZero() && wait > 0 {
		text += ", the next in " + inSeconds(wait)
	}
	return text
}

// speed is "40/s, bound by the hub's throttle": how fast the job goes, and what keeps it
// from going faster.
func speed(j runner.JobProgress, clock *stopwatch, now time.Time) string {
	took := clock.elapsed(now)
	if j.Ended || j.Attempts == 0 || took < time.Second {
		return ""
	}
	text := fmt.Sprintf("%.3g/s", float64(j.Attempts)/took.Seconds())
	switch {
	case j.Rating > 0:
		text += ", bound by its rate"
	case j.Pacing > 0 && j.Pacing*2 >= j.InFlight:
		text += ", bound by the hub's throttle"
	case j.InFlight >= j.Most && j.Most > 0:
		text += ", bound by the devices' latency"
	}
	return text
}

// worst are the outcomes that need a look. They come first: what a narrow terminal cuts
// off is what needs nobody's attention.
func worst(outcomes map[spec.Outcome]int64) string { return listOf(outcomes, false) }

// best are the others.
func best(outcomes map[spec.Outcome]int64) string { return listOf(outcomes, true) }

func listOf(outcomes map[spec.Outcome]int64, good bool) string {
	some := map[spec.Outcome]int64{}
	for o, n := range outcomes {
		if render.Good(o) == good {
			some[o] = n
		}
	}
	return render.OutcomeList(some)
}

// remaining guesses how long the job still takes; 0 when a guess would be idle.
func remaining(j runner.JobProgress, elapsed time.Duration) time.Duration {
	if j.Ended || !j.Whole || j.Done == 0 || elapsed < 3*time.Second || j.Done == j.Listed {
		return 0
	}
	return time.Duration(float64(elapsed) * float64(j.Listed-j.Done) / float64(j.Done))
}

// bar draws the bar. As long as nobody knows how many targets there are, a
// piece of it wanders to and fro instead.
func (l look) bar(j runner.JobProgress, elapsed time.Duration, width int) string {
	full, rest := "=", " "
	left, right := "[", "]"
	if l.unicode {
		full, rest, left, right = "━", "─", "", ""
	}
	inner := width - len(left) - len(right)
	from, to := 0, 0
	switch {
	case !j.Started:
	case j.Listed == 0 && (j.Ended || j.Whole):
		to = inner
	case j.Ended || j.Whole:
		to = int(int64(inner) * (j.Done - j.Outcomes[spec.OutcomeNotReached]) / j.Listed)
	default:
		from, to = wander(elapsed, inner)
	}
	return left + l.dim(strings.Repeat(rest, from)) + l.paint(j, strings.Repeat(full, to-from)) + l.dim(strings.Repeat(rest, inner-to)) + right
}

// wander returns the piece of a bar that is lit when no total is known.
func wander(elapsed time.Duration, inner int) (from, to int) {
	piece := max(2, inner/5)
	way := inner - piece
	at := int(elapsed/redrawInterval) % (2 * way)
	if at > way {
		at = 2*way - at
	}
	return at, at + piece
}

const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	plain  = "\x1b[0m"
)

// paint colours the part of a bar that is done: green as long as all is well.
func (l look) paint(j runner.JobProgress, s string) string {
	if !l.color || s == "" {
		return s
	}
	for o, n := range j.Outcomes {
		if n > 0 && !render.Good(o) {
			return yellow + s + plain
		}
	}
	return green + s + plain
}

func (l look) dim(s string) string {
	if !l.color || s == "" {
		return s
	}
	return faint + s + plain
}

// visibleWidth is the number of columns that a line takes, less the sequences
// that steer the terminal.
func visibleWidth(line string) int {
	n := 0
	for {
		before, rest, found := strings.Cut(line, "\x1b[")
		n += utf8.RuneCountInString(before)
		if !found {
			return n
		}
		line = strings.TrimLeft(rest, "0123456789;")
		if line != "" {
			line = line[1:]
		}
	}
}

// waitsFor names the jobs that another one waits for.
func waitsFor(j runner.JobProgress) string {
	names := make([]string, len(j.Needs))
	for i, need := range j.Needs {
		names[i] = need.Job
	}
	return "waits for " + strings.Join(names, ", ")
}
