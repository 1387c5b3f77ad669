package runner

import (
	"cmp"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/fold"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// Document is what the journal of a run tells of it, which may still be going on or
// have been killed. It knows no more of the plan than that: the target of a job, its
// waves' sizes and its rate stand in a report alone. The journal is read from in.
func (p *Past) Document(in io.ReaderAt) (spec.Document, error) {
	h := &p.Header
	d := &pastDocument{past: p, head: spec.Report{
		Schema: spec.ReportSchema,
		Run: spec.Run{
			ID: h.Run, Plan: spec.PlanRef{Name: h.Plan, File: h.File, SHA256: h.SHA256, Inputs: p.Inputs()},
			Hub: strings.Join(h.Hubs, ", "), Engine: string(spec.EngineDirect), Runner: h.Runner, StartedAt: spec.Time{Time: h.StartedAt},
			Status: spec.StatusUnfinished,
		},
		Summary: spec.Summary{Outcomes: map[spec.Outcome]int{}},
	}}
	if shard, ok := spec.ParseShard(h.Shard); ok {
		d.head.Run.Shard = &shard
	}
	for name := range p.jobs {
		d.names = append(d.names, name)
	}
	slices.SortFunc(d.names, func(a, b string) int { return cmp.Compare(p.jobs[a].place, p.jobs[b].place) })
	var causes fold.Causes
	for _, name := range d.names {
		d.rows = append(d.rows, p.rowsOf(name, in))
		if err := d.add(name, &causes); err != nil {
			return nil, err
		}
	}
	d.head.Summary.Causes, d.head.Summary.MoreCauses = causes.Sorted()
	if p.over {
		d.conclude()
	}
	return d, nil
}

func (p *Past) rowsOf(name string, in io.ReaderAt) *rowReader {
	return &rowReader{all: p.jobs[name].cohort, in: in, lines: journal.NewRowReader(in), hubs: p.Header.Hubs, dead: func() error { return nil }, byHub: len(p.jobs[name].parts) > 0}
}

// pastDocument is a report out of a journal.
type pastDocument struct {
	past  *Past
	head  spec.Report
	names []string
	rows  []*rowReader
}

// Head returns the report less its rows.
func (d *pastDocument) Head() *spec.Report { return &d.head }

// Rows yields those of a job.
func (d *pastDocument) Rows(job int, yield func(row []byte) error) error {
	return d.rows[job].each(yield)
}

// add adds up the rows of the next job.
func (d *pastDocument) add(name string, causes *fold.Causes) error {
	job, past := fold.NewJob(), d.past.jobs[name]
	rep := spec.JobReport{Name: name, Status: spec.StatusUnfinished, Type: spec.TypeUpdateTwin, Waves: past.report()}
	err := d.Rows(len(d.rows)-1, func(text []byte) error {
		row := causes.Row(name, text)
		job.Add(&row)
		return nil
	})
	if err != nil {
		return err
	}
	if job.Method {
		rep.Type = spec.TypeDirectMethod
	}
	if past.status != "" {
		rep.Status = past.status
	}
	if !past.listed {
		rep.Listing = spec.ListingIncomplete
	}
	job.Report(&rep, &d.head.Summary)
	rep.ScheduledAt = spec.Time{Time: past.startedAt}
	rep.StartedAt, rep.EndedAt = optionalTime(past.startedAt), optionalTime(past.endedAt)
	if job.Applied.TotalCount() > 0 {
		applied := fold.Latencies(job.Applied)
		rep.TimeToApplyMs = &applied
	}
	end := past.endedAt
	if end.IsZero() {
		end = job.Last
	}
	rep.RatePerSecond = perSecond(job.Attempts, end.Sub(past.startedAt))
	if end.After(d.head.Run.EndedAt.Time) {
		d.head.Run.EndedAt.Time = end
	}
	d.head.Jobs = append(d.head.Jobs, rep)
	return nil
}

// conclude says how a run ended whose journal says that it did.
func (d *pastDocument) conclude() {
	var all []spec.Status
	for i := range d.head.Jobs {
		all = append(all, d.head.Jobs[i].Status)
	}
	d.head.Run.Status = spec.Worst(append(all, spec.StatusSucceeded)...)
}

// report tells of the waves, less how many targets each has: the plan says that.
func (p *pastWaves) report() []spec.WaveReport {
	all := []spec.WaveReport{}
	for _, hub := range slices.Sorted(maps.Keys(p.waves)) {
		for i, w := range p.waves[hub] {
			r := spec.WaveReport{Wave: waveOf(i+1, hub), StartedAt: optionalTime(w.began), EndedAt: optionalTime(w.passed), Outcomes: map[spec.Outcome]int{}, Verdict: spec.VerdictUnfinished}
			if r.EndedAt != nil {
				r.Verdict = spec.VerdictPassed
			}
			all = append(all, r)
		}
	}
	return all
}

func perSecond(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return math.Round(float64(n)/took.Seconds()*10) / 10
}
