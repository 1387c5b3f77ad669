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
	// JobEnded is called with the job's report less its rows.
	JobEnded(job spec.JobReport)
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
	AtHub       int64 // that the hub's Jobs service has done, and whose rows are still to be read
	Watched     int64 // whose change was accepted, and who are to report it
	Away        int64 // who are offline, and waited for
	Wave, Waves int64 // the wave that began last, of so many; 0 without a rollout
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
			Outcomes: map[spec.Outcome]int64{},
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

// JobEnded does nothing.
func (silent) JobEnded(spec.JobReport) {}
