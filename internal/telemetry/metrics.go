// Package telemetry tells other systems how a run goes: a metrics file, OpenTelemetry,
// and notifications. What becomes of that never changes the run.
package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"iothub-runner/runner"
	"iothub-runner/spec"
)

// figure is one of the figures of a run.
type figure struct {
	name, help string
	counter    bool
	labels     []string
	points     func(s *state) []point
}

// point is a value and those of its labels.
type point struct {
	labels []string
	value  float64
}

// state is a run as it stands.
type state struct {
	info spec.Run
	jobs []runner.JobProgress
	rep  *spec.Report // of a run that has ended; nil before
}

// one is a figure without labels.
func one(value func(s *state) float64) func(*state) []point {
	return func(s *state) []point { return []point{{value: value(s)}} }
}

// ended is a figure that there is once the run has ended.
func ended(value func(rep *spec.Report) float64) func(*state) []point {
	return func(s *state) []point {
		if s.rep == nil {
			return nil
		}
		return []point{{value: value(s.rep)}}
	}
}

// each is a figure of each job.
func each(value func(j *runner.JobProgress) float64) func(*state) []point {
	return func(s *state) (all []point) {
		for i := range s.jobs {
			all = append(all, point{labels: []string{s.jobs[i].Name}, value: value(&s.jobs[i])})
		}
		return all
	}
}

// figures are all figures of a run, named as Prometheus' conventions want.
func figures() []figure {
	job := []string{"job"}
	return []figure{
		{"runner_run_info", "The run that the other figures are of.", false, []string{"run", "plan", "hub", "version"}, func(s *state) []point {
			return []point{{labels: []string{s.info.ID, s.info.Plan.Name, s.info.Hub, s.info.Runner}, value: 1}}
		}},
		{"runner_run_start_timestamp_seconds", "When the run began, in Unix time.", false, nil, one(func(s *state) float64 { return unix(s.info.StartedAt.Time) })},
		{"runner_run_running", "1 while the run goes on.", false, nil, one(func(s *state) float64 { return flag(s.rep == nil) })},
		{"runner_run_end_timestamp_seconds", "When the run ended, in Unix time.", false, nil, ended(func(rep *spec.Report) float64 { return unix(rep.Run.EndedAt.Time) })},
		{"runner_run_exit_code", "The exit code of the run.", false, nil, ended(func(rep *spec.Report) float64 { return float64(rep.Run.ExitCode) })},
		{"runner_run_throttled_seconds_total", "Time that calls waited because the hub refused them.", true, nil, ended(func(rep *spec.Report) float64 { return float64(rep.Summary.ThrottledMs) / 1000 })},
		{"runner_job_targets", "Targets of the job, as far as they are listed.", false, job, each(func(j *runner.JobProgress) float64 { return float64(j.Listed) })},
		{"runner_job_targets_ended", "Targets of the job that have ended, by how.", false, []string{"job", "outcome"}, func(s *state) (all []point) {
			for i := range s.jobs {
				for _, o := range spec.Outcomes() {
					all = append(all, point{labels: []string{s.jobs[i].Name, string(o)}, value: float64(s.jobs[i].Outcomes[o])})
				}
			}
			return all
		}},
		{"runner_job_attempts_total", "Attempts that the job has made in this process.", true, job, each(func(j *runner.JobProgress) float64 { return float64(j.Attempts) })},
		{"runner_job_in_flight", "Attempts of the job that are under way, or wait for their turn.", false, job, each(func(j *runner.JobProgress) float64 { return float64(j.InFlight) })},
		{"runner_job_wave", "The wave of the job's rollout that began last; 0 without one.", false, job, each(func(j *runner.JobProgress) float64 { return float64(j.Wave) })},
	}
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// look is what watches a run for its figures. It is a [runner.Observer].
type look struct {
	mu  sync.Mutex
	run *runner.Run
	rep *spec.Report
}

// RunStarted notes the run.
func (l *look) RunStarted(run *runner.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run = run
}

// JobStarted does nothing: the figures are asked for.
func (l *look) JobStarted(string) {}

// WaveStarted does nothing.
func (l *look) WaveStarted(string, runner.WaveStart) {}

// JobEnded does nothing.
func (l *look) JobEnded(spec.JobReport) {}

// state returns the run as it stands; nil before it has begun.
func (l *look) state() *state {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil {
		return nil
	}
	return &state{info: l.run.Info(), jobs: l.run.Progress(), rep: l.rep}
}

// File writes the figures of a run to a file, for the textfile collector of
// Prometheus' node exporter: at the start, every 15 seconds and at the end. It is a
// [runner.Observer].
type File struct {
	look

	path     string
	registry *prometheus.Registry
	failed   func(error)
	quit     chan struct{}
	done     sync.WaitGroup
}

// fileInterval is how often the file is written anew.
const fileInterval = 15 * time.Second

// NewFile returns what writes a file. That it cannot is told to failed.
func NewFile(path string, failed func(error)) *File {
	f := &File{path: path, registry: prometheus.NewRegistry(), failed: failed, quit: make(chan struct{})}
	f.registry.MustRegister(f)
	return f
}

// RunStarted begins to write the file.
func (f *File) RunStarted(run *runner.Run) {
	f.look.RunStarted(run)
	f.write()
	f.done.Go(func() {
		tick := time.NewTicker(fileInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f.write()
			case <-f.quit:
				return
			}
		}
	})
}

// End writes the file for the last time.
func (f *File) End(rep *spec.Report) {
	close(f.quit)
	f.done.Wait()
	f.mu.Lock()
	f.rep = rep
	f.mu.Unlock()
	f.write()
}

func (f *File) write() {
	if err := prometheus.WriteToTextfile(f.path, f.registry); err != nil {
		f.failed(err)
	}
}

// Describe is for Prometheus' registry: the figures are not known beforehand.
func (f *File) Describe(chan<- *prometheus.Desc) {}

// Collect hands out the figures as they stand.
func (f *File) Collect(out chan<- prometheus.Metric) {
	s := f.state()
	if s == nil {
		return
	}
	constant := prometheus.Labels{"plan": s.info.Plan.Name}
	for _, m := range figures() {
		kind, labels := prometheus.GaugeValue, constant
		if m.counter {
			kind = prometheus.CounterValue
		}
		if m.name == "runner_run_info" {
			labels = nil // it has the plan among its own
		}
		desc := prometheus.NewDesc(m.name, m.help, m.labels, labels)
		for _, p := range m.points(s) {
			out <- prometheus.MustNewConstMetric(desc, kind, p.value, p.labels...)
		}
	}
}
