package render

import (
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"iothub-runner/internal/fold"
	"iothub-runner/spec"
)

// chart is a picture of columns. Its texts stand beside it and not in it, so that they
// keep their size on every screen; its colours come from the page's style, so that they
// follow the theme.
type chart struct {
	Title, Note, Spoken string
	Top                 string // what the full height stands for
	Ticks               []string
	Bars                []column
	Line                string // where a limit is; empty for none
}

type column struct {
	X, Y, W, H   float64
	Class, Title string
}

const (
	chartWidth  = 1000
	chartHeight = 200
	chartBins   = 60
)

// lookedJob adds up the rows of a job for its pictures.
type lookedJob struct {
	*fold.Job

	from     time.Time
	bin      time.Duration
	ended    [chartBins]map[spec.Outcome]int
	attempts [chartBins]int
}

func newLookedJob(job *spec.JobReport, rep *spec.Report) *lookedJob {
	l := &lookedJob{Job: fold.NewJob(), from: rep.Run.StartedAt.Time}
	end := rep.Run.EndedAt.Time
	if job.StartedAt != nil {
		l.from = job.StartedAt.Time
	}
	if job.EndedAt != nil {
		end = job.EndedAt.Time
	}
	l.bin = max(time.Millisecond, (end.Sub(l.from)+chartBins-1)/chartBins)
	return l
}

// add takes in a row.
func (l *lookedJob) add(r *fold.Row) {
	l.Add(r)
	if r.Began.IsZero() {
		return
	}
	i := min(max(0, int(r.Ended.Sub(l.from)/l.bin)), chartBins-1)
	if l.ended[i] == nil {
		l.ended[i] = map[spec.Outcome]int{}
	}
	l.ended[i][r.Outcome]++
	l.attempts[i] += r.Attempts
}

// charts are the pictures of a job.
func (l *lookedJob) charts(job *spec.JobReport) []chart {
	all := []chart{l.overTime(), l.rates(job)}
	if c, ok := distribution("Latency", "of attempts that were answered", l.Latency); ok {
		all = append(all, c)
	}
	if c, ok := distribution("Time to apply", "from the change until the device reported it", l.Applied); ok {
		all = append(all, c)
	}
	return all
}

// ticks are the times below a chart.
func (l *lookedJob) ticks() []string {
	const clock = "15:04:05"
	span := l.bin * chartBins
	layout := clock
	if span > 24*time.Hour {
		layout = "01-02 15:04"
	} else if span < 10*time.Second {
		layout = clock + ".000"
	}
	var all []string
	for i := range 3 {
		all = append(all, l.from.Add(span*time.Duration(i)/2).UTC().Format(layout))
	}
	return all
}

// overTime shows how the targets ended, and when.
func (l *lookedJob) overTime() chart {
	top := 1
	for _, n := range l.ended {
		sum := 0
		for _, k := range n {
			sum += k
		}
		top = max(top, sum)
	}
	c := chart{Title: "Outcomes over time", Note: fmt.Sprintf("targets that ended in %v", Round(l.bin)), Top: thousands(top), Ticks: l.ticks(), Spoken: "Outcomes over time: " + OutcomeList(l.Outcomes)}
	for i, n := range l.ended {
		y := float64(chartHeight)
		for _, o := range outcomesInOrder(n) {
			h := float64(chartHeight) * float64(n[o]) / float64(top)
			y -= h
			c.Bars = append(c.Bars, bin(i, y, h, string(o), fmt.Sprintf("%s: %s %s", l.clockAt(i), thousands(n[o]), o)))
		}
	}
	return c
}

func (l *lookedJob) clockAt(i int) string {
	return l.from.Add(l.bin * time.Duration(i)).UTC().Format("15:04:05")
}

// rates shows attempts a second, and the throttle that the hub publishes.
func (l *lookedJob) rates(job *spec.JobReport) chart {
	top, limit := 0.1, job.PublishedPerSecond
	for _, n := range l.attempts {
		top = max(top, float64(n)/l.bin.Seconds())
	}
	c := chart{Title: "Attempts a second", Ticks: l.ticks()}
	if limit > 0 {
		top = max(top, limit*1.1)
		c.Note, c.Line = fmt.Sprintf("the dashed line is what the hub takes: %g/s", limit), fmt.Sprintf("%.1f", chartHeight*(1-limit/top))
	}
	c.Top = figure(top)
	c.Spoken = fmt.Sprintf("Attempts a second: %g on average, at most %s", job.RatePerSecond, figure(top))
	for i, n := range l.attempts {
		rate := float64(n) / l.bin.Seconds()
		if h := chartHeight * rate / top; h > 0 {
			c.Bars = append(c.Bars, bin(i, chartHeight-h, h, "rate", fmt.Sprintf("%s: %s/s", l.clockAt(i), figure(rate))))
		}
	}
	return c
}

func figure(x float64) string {
	if x >= 100 {
		return thousands(int(math.Round(x)))
	}
	return fmt.Sprintf("%.3g", x)
}

func bin(i int, y, h float64, class, title string) column {
	const step, gap = float64(chartWidth) / chartBins, 1.5
	return column{X: tidy(float64(i) * step), Y: tidy(y), W: tidy(step - gap), H: tidy(h), Class: class, Title: title}
}

// distribution shows how long something took, in bins that grow by the same factor.
func distribution(title, what string, h *hdrhistogram.Histogram) (c chart, ok bool) {
	if h.TotalCount() == 0 {
		return c, false
	}
	const bins = 30
	low, high := float64(max(1, h.Min())), float64(h.Max()+1)
	factor := math.Pow(high/low, 1.0/bins)
	if factor < 1.0001 {
		factor = 1.0001
	}
	var counts [bins]int64
	top := int64(1)
	for _, b := range h.Distribution() {
		if b.Count == 0 {
			continue
		}
		i := min(max(0, int(math.Log(float64(max(1, b.From))/low)/math.Log(factor))), bins-1)
		counts[i] += b.Count
		top = max(top, counts[i])
	}
	quantiles := fold.Latencies(h)
	c = chart{Title: title, Top: thousands(int(top)), Note: fmt.Sprintf("%s; half within %s, 99%% within %s", what, duration(quantiles.P50), duration(quantiles.P99))}
	c.Spoken = title + ": " + c.Note
	c.Ticks = []string{duration(int64(low)), duration(int64(math.Round(low * math.Pow(factor, bins/2)))), duration(int64(high))}
	const step, gap = float64(chartWidth) / bins, 2.0
	for i, n := range counts {
		if n == 0 {
			continue
		}
		height := max(2, chartHeight*float64(n)/float64(top))
		from := low * math.Pow(factor, float64(i))
		c.Bars = append(c.Bars, column{X: tidy(float64(i) * step), Y: tidy(chartHeight - height), W: step - gap, H: tidy(height), Class: "latency", Title: fmt.Sprintf("%s to %s: %s", duration(int64(from)), duration(int64(from*factor)), thousands(int(n)))})
	}
	return c, true
}

// duration writes milliseconds as people do.
func duration(ms int64) string { return Round(time.Duration(ms) * time.Millisecond).String() }
