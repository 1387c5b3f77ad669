package render

import (
	"bufio"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"time"

	"iothub-runner/internal/fold"
	"iothub-runner/spec"
)

//go:embed page/report.html
var pageHTML string

//go:embed page/report.css
var pageStyle string

//go:embed page/report.js
var pageScript string

// causeDevices is how many devices of a cause the page names.
const causeDevices = 200

// page is what the template shows.
type page struct {
	Run                   *spec.Run
	Verdict, Took, Mood   string
	Total                 bar
	Hubs                  []spec.HubReport
	Causes                []pageCause
	More                  *spec.MoreCauses
	Jobs                  []pageJob
	Sample                string
	Style                 template.CSS
	StyleHash, ScriptHash string
}

// pageCause is a cause with more devices than a report names.
type pageCause struct {
	spec.Cause
	Why  string
	Rest int // devices that are not named
}

// bar is a row of outcomes by their shares.
type bar struct {
	Parts  []barPart
	Spoken string // for who does not see it
}

type barPart struct {
	Outcome     spec.Outcome
	Count       int
	Percent     string
	From, Width float64
}

// fact is a figure with its name.
type fact struct{ Name, Value string }

// reportHTML writes a report as a page of one file that needs no network. The rows are
// gone through twice: once for the pictures, and once for the table.
func reportHTML(w io.Writer, d spec.Document) error {
	rep := d.Head()
	looked, err := lookAt(d)
	if err != nil {
		return err
	}
	sample := newSample(rep)
	p := page{
		Run: &rep.Run, Verdict: Printable(Verdict(rep)), Took: Took(rep), Mood: mood(rep.Run.Status), Total: newBar(rep.Summary.Outcomes),
		Hubs: rep.Summary.Hubs, More: looked.more, Sample: sample.note(),
		Style: template.CSS(pageStyle), StyleHash: hashOf(pageStyle), ScriptHash: hashOf(pageScript), //nolint:gosec // our own
	}
	for _, c := range looked.causes {
		p.Causes = append(p.Causes, pageCause{Cause: c, Why: why(&c), Rest: c.Count - len(c.Devices)})
	}
	for i := range rep.Jobs {
		p.Jobs = append(p.Jobs, newPageJob(i, &rep.Jobs[i], looked.jobs[i]))
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"when": at, "number": thousands, "list": OutcomeList[int],
		"short": func(s string) string { return s[:min(len(s), 12)] },
	}).Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	out := bufio.NewWriterSize(&Escaper{Out: w}, 64<<10)
	if err := t.ExecuteTemplate(out, "head", &p); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	fmt.Fprint(out, `<script type="application/json" id="rows">`)
	if err := sample.write(out, d); err != nil {
		return err
	}
	fmt.Fprintf(out, "</script>\n<script>%s</script>\n</body>\n</html>\n", pageScript)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// hashOf is how a content security policy allows one style or script.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// mood is whether a status is good, bad or still open.
func mood(s spec.Status) string {
	switch s {
	case spec.StatusSucceeded, spec.StatusSkipped:
		return "good"
	case spec.StatusDetached, spec.StatusUnfinished:
		return "open"
	case spec.StatusFailed, spec.StatusStopped, spec.StatusInterrupted, spec.StatusNotStarted:
	}
	return "bad"
}

func newBar(outcomes map[spec.Outcome]int) bar {
	all, b := 0, bar{Spoken: "no targets"}
	for _, n := range outcomes {
		all += n
	}
	from := 0.0
	for _, o := range outcomesInOrder(outcomes) {
		n := outcomes[o]
		width := 1000 * float64(n) / float64(all)
		b.Parts = append(b.Parts, barPart{Outcome: o, Count: n, Percent: percent(float64(n) / float64(all)), From: tidy(from), Width: tidy(width)})
		from += width
	}
	if all > 0 {
		b.Spoken = OutcomeList(outcomes)
	}
	return b
}

// tidy rounds a length in a picture.
func tidy(x float64) float64 { return float64(int(x*100+0.5)) / 100 }

// thousands writes a number in groups of three digits.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// pageJob is what the page shows of a job.
type pageJob struct {
	*spec.JobReport
	Anchor, Mood, What string
	Total              bar
	Facts              []fact
	Charts             []chart
	Waves              []pageWave
	WavesFrom, WavesTo string
}

func newPageJob(i int, job *spec.JobReport, looked *lookedJob) pageJob {
	p := pageJob{JobReport: job, Anchor: fmt.Sprintf("job-%d", i+1), Mood: mood(job.Status), Total: newBar(job.Outcomes), What: "Calls a direct method of"}
	if job.Type == spec.TypeUpdateTwin {
		p.What = "Updates the twins of"
	}
	p.Facts = factsOf(job)
	if looked.Targets > 0 && !looked.First.IsZero() {
		p.Charts = looked.charts(job)
	}
	p.Waves, p.WavesFrom, p.WavesTo = wavesOf(job)
	return p
}

func factsOf(job *spec.JobReport) []fact {
	facts := []fact{{"Targets", thousands(job.Targets)}}
	if job.Listing == spec.ListingIncomplete {
		facts[0].Value = "at least " + facts[0].Value
	}
	add := func(name, value string) { facts = append(facts, fact{name, value}) }
	if job.StartedAt != nil {
		add("Started", at(*job.StartedAt))
		if job.EndedAt != nil {
			add("Took", Round(job.EndedAt.Sub(job.StartedAt.Time)).String())
		}
	} else if !job.ScheduledAt.IsZero() {
		add("Due", at(job.ScheduledAt))
	}
	add("Attempts", thousands(job.Attempts))
	if job.Retries > 0 {
		add("Retries", thousands(job.Retries))
	}
	if job.RatePerSecond > 0 {
		add("Rate", fmt.Sprintf("%g/s", job.RatePerSecond))
	}
	if job.Engine != "" {
		add("Engine", string(job.Engine))
	}
	return facts
}

// pageWave is one wave on the time axis.
type pageWave struct {
	Name, Note, Spoken string
	Mood               spec.Verdict
	From, Width        float64
}

// wavesOf puts the waves of a job on one time axis.
func wavesOf(job *spec.JobReport) (waves []pageWave, from, to string) {
	var first, last time.Time
	for _, w := range job.Waves {
		if w.StartedAt != nil && (first.IsZero() || w.StartedAt.Before(first)) {
			first = w.StartedAt.Time
		}
		for _, t := range []*spec.Time{w.StartedAt, w.EndedAt, job.EndedAt} {
			if t != nil && t.After(last) {
				last = t.Time
			}
		}
	}
	span := max(last.Sub(first), 1)
	for _, w := range job.Waves {
		p := pageWave{Name: w.Wave, Mood: w.Verdict, Note: fmt.Sprintf("%s, %s", Tally(w.Targets, w.Outcomes), w.Verdict)}
		if w.Hub != "" {
			p.Name += " on " + w.Hub
		}
		if w.StartedAt != nil {
			end := last
			if w.EndedAt != nil {
				end = w.EndedAt.Time
			}
			p.From = tidy(1000 * float64(w.StartedAt.Sub(first)) / float64(span))
			p.Width = max(4, tidy(1000*float64(end.Sub(w.StartedAt.Time))/float64(span)))
			p.From = min(p.From, 1000-p.Width)
			p.Note += ", " + Round(end.Sub(w.StartedAt.Time)).String()
		}
		p.Spoken = "wave " + p.Name + ": " + p.Note
		waves = append(waves, p)
	}
	if len(waves) > 0 && !first.IsZero() {
		from, to = at(spec.Time{Time: first}), at(spec.Time{Time: last})
	}
	return waves, from, to
}

// looked is what a page needs to know of all rows before it can show one.
type looked struct {
	jobs   []*lookedJob
	causes []spec.Cause
	more   *spec.MoreCauses
}

// lookAt goes through the rows.
func lookAt(d spec.Document) (*looked, error) {
	rep := d.Head()
	l := &looked{}
	causes := fold.Causes{Examples: causeDevices}
	for i := range rep.Jobs {
		job := newLookedJob(&rep.Jobs[i], rep)
		l.jobs = append(l.jobs, job)
		err := d.Rows(i, func(text []byte) error {
			row := causes.Row(rep.Jobs[i].Name, text)
			job.add(&row)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	l.causes, l.more = causes.Sorted()
	return l, nil
}
