package runner

import (
	"time"

	"iothub-runner/spec"
)

// Observer is told of a run while it is under way. Its methods are called from
// the goroutines of the run, and a run waits for them.
type Observer interface {
	// RunStarted is called once, before anything is sent. From then on run's
	// Progress may be read at any time.
	RunStarted(run *Run)
	JobStarted(name string)
	// WaveStarted is called when a wave of a job's rollout begins.
	WaveStarted(job string, w WaveStart)
	// JobEnded is called with the job's report less its rows.
	JobEnded(job spec.JobReport)
}

// WaveStart is a wave that begins.
type WaveStart struct {
	Hub         string // whose it is; empty for all hubs together
	Wave, Waves int    // this one, from 1, of so many
	Targets     int
}

// Observers are told of a run one after the other.
type Observers []Observer

// RunStarted tells all.
func (all Observers) RunStarted(run *Run) {
	for _, o := range all {
		o.RunStarted(run)
	}
}

// JobStarted tells all.
func (all Observers) JobStarted(name string) {
	for _, o := range all {
		o.JobStarted(name)
	}
}

// WaveStarted tells all.
func (all Observers) WaveStarted(job string, w WaveStart) {
	for _, o := range all {
		o.WaveStarted(job, w)
	}
}

// JobEnded tells all.
func (all Observers) JobEnded(job spec.JobReport) {
	for _, o := range all {
		o.JobEnded(job)
	}
}

// JobProgress is where a job stands.
type JobProgress struct {
	Name        string
	ScheduledAt time.Time // zero while the job waits for others
	Needs       []spec.Need
	Held        bool // it will not begin; JobEnded says why
	Started     bool
	Ended       bool
	Listed      int64
	Whole       bool // all targets are listed, so Listed is the total
	InFlight    int64
	AtHub       int64     // that the hub's Jobs service has done, and whose rows are still to be read
	Watched     int64     // whose change was accepted, and who are to report it
	Away        int64     // who are offline, and waited for
	Wave, Waves int64     // the wave that began last, of so many; 0 without a rollout
	Opens       time.Time // when the next wave may begin; zero if that is not known
	Pacing      int64     // attempts that wait for the hub's pace
	Rating      int64     // and that wait for the job's own rate
	Most        int64     // attempts that may be under way at once
	Attempts    int64     // that were made
	Done        int64
	Outcomes    map[spec.Outcome]int64
}

// Progress returns where each job stands.
func (r *Run) Progress() []JobProgress {
	all := make([]JobProgress, len(r.jobs))
	for i, j := range r.jobs {
		p := JobProgress{
			Name: j.job().Name, Needs: j.job().Needs, Held: j.held != nil,
			Started: j.started.Load(), Ended: j.ended.Load(),
			Listed: j.ledger.counters.listed.Load(), Whole: j.ledger.counters.whole.Load(), InFlight: j.ledger.counters.inFlight.Load(),
			AtHub: j.ledger.counters.atHub.Load(), Watched: j.ledger.counters.watched.Load(), Away: j.ledger.counters.away.Load(),
			Wave: j.ledger.counters.wave.Load(), Waves: j.ledger.counters.waves.Load(),
			Pacing: j.ledger.counters.pacing.Load(), Rating: j.ledger.counters.rating.Load(), Most: int64(j.job().Concurrency * len(r.pools)), Attempts: j.ledger.counters.attempts.Load(),
			Outcomes: map[spec.Outcome]int64{},
		}
		if at := j.ledger.counters.opens.Load(); at != 0 {
			p.Opens = time.Unix(0, at)
		}
		if at := j.dueNanos.Load(); at != 0 {
			p.ScheduledAt = time.Unix(0, at)
		}
		for k, o := range spec.Outcomes() {
			if n := j.ledger.counters.outcomes[k].Load(); n > 0 {
				p.Outcomes[o] = n
				p.Done += n
			}
		}
		all[i] = p
	}
	return all
}

// silent is the observer that nobody gave.
type silent struct{}

// RunStarted does nothing, like the rest of silent.
func (silent) RunStarted(*Run) {}

// JobStarted does nothing.
func (silent) JobStarted(string) {}

// WaveStarted does nothing.
func (silent) WaveStarted(string, WaveStart) {}

// JobEnded does nothing.
func (silent) JobEnded(spec.JobReport) {}
