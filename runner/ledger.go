package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/mask"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/rollout"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// ledger is what is known of the targets of one job: who they are, what was sent
// for each, and what became of it. The journal has it first. Its fields up to the
// counters are set before the job begins and not written after; the counters may
// be read at any time; the rest belongs to the goroutine that carries the job
// out.
type ledger struct {
	plan    string // its name
	roster  target.Roster
	journal *journal.Writer
	mask    *mask.Mask
	pins    *pins          // nil unless the run is of a pinned preview
	past    *pastJob       // nil unless an earlier run knew the job
	picked  []spec.Outcome // of the past, what to take up again; empty for what was not ended

	taken, kept [cohort.Outcomes]int // targets of the past that are done again, and that are not
	more        bool                 // others of its targets are still to be listed
	resumed     uint32               // targets of the cohort that a run before this one listed

	observer Observer
	rowEnded func(job string, row []byte) // nil if nobody wants to know

	counters counters

	lost  []error // why a hub cannot be used any more, by its place in the plan
	short []bool  // of which hubs the listing is not whole
	tally []tally // by hub

	whole    bool // the cohort is listed in full, but for hubs that are lost
	unlisted bool // it is not, and this run lists no more
	// listedHere says that this run has seen the whole listing; a resumed one need not.
	listedHere bool
	latency    *hdrhistogram.Histogram // in microseconds
	applied    *hdrhistogram.Histogram // how long devices took to report a change, in milliseconds
	settled    int                     // targets that ended in this run
	attempts   int
	before     int // attempts of the past, which are in attempts as well
	retries    int
}

// counters are what a ledger tells of a job while that is under way.
type counters struct {
	listed   atomic.Int64
	inFlight atomic.Int64
	atHub    atomic.Int64 // have been done by the hub's Jobs service, by its own count
	watched  atomic.Int64 // are to report a change
	away     atomic.Int64 // are offline, and waited for
	wave     atomic.Int64 // that began last, from 1
	waves    atomic.Int64 // of so many; 0 without a rollout
	opens    atomic.Int64 // when the next one may begin, in nanoseconds since 1970; 0 for not known
	pacing   atomic.Int64 // attempts that wait for the hub's pace
	rating   atomic.Int64 // and that wait for the job's own rate
	attempts atomic.Int64
	whole    atomic.Bool
	outcomes [cohort.Outcomes]atomic.Int64 // in the order of spec.Outcomes
}

// tally counts the targets of one hub.
type tally struct {
	outcomes [cohort.Outcomes]int
	settled  int // in this run
	left     int // that failed because the hub is lost
}

// count notes that a target of a hub has ended.
func (l *ledger) count(pool int, o spec.Outcome) {
	l.tally[pool].outcomes[cohort.OutcomeIndex(o)]++
	l.counters.outcomes[cohort.OutcomeIndex(o)].Add(1)
}

// newLatency counts how long attempts take, in microseconds up to an hour.
func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 2)
}

// newApplied counts how long devices take to report a change, in milliseconds up to
// thirty days.
func newApplied() *hdrhistogram.Histogram { return hdrhistogram.New(1, 30*24*3600*1000, 2) }

// newLedger opens the ledger of a job, from where an earlier run left it.
func newLedger(r *Run, job *spec.Job) (*ledger, error) {
	l := &ledger{
		plan: r.plan.Name, roster: target.NewRoster(job, r.pools), journal: r.journal, mask: mask.New(r.plan),
		latency: newLatency(), applied: newApplied(), picked: r.only, observer: r.observer, rowEnded: r.rowEnded,
		lost: slices.Clone(r.lost), short: make([]bool, len(r.pools)), tally: make([]tally, len(r.pools)),
	}
	if l.byHub() {
		l.roster.Looks = spec.Columns{} // nothing is computed from twins
	}
	l.roster.Overwrites = job.Twin != nil && job.Twin.Guard == spec.GuardNone
	if r.pinned != nil {
		l.pinTo(r.pinned)
	}
	if shard := r.shard; shard.Of > 1 {
		l.roster.Part = true
		l.roster.Only = func(t cohort.Key) bool { return rollout.Has(shard, t.DeviceID) }
	}
	if r.past == nil {
		return l, nil
	}
	l.more = r.picksJob(job.Name)
	if past := r.past.jobs[job.Name]; past != nil {
		if err := l.resume(past); err != nil {
			return nil, &JournalError{Err: err}
		}
	}
	return l, nil
}

// list notes targets that are new in the cohort.
func (l *ledger) list(items []item) error {
	l.counters.listed.Add(int64(len(items)))
	line := journal.Targets{Job: l.roster.Job.Name, Targets: make([]journal.Target, len(items))}
	for i := range items {
		line.Targets[i] = items[i].Journal()
	}
	return l.append(line.Append(nil))
}

// admit takes a target into a cohort that was listed without it.
func (l *ledger) admit(it *item) error {
	it.index, _ = l.roster.Cohort.Add(it.Key)
	return l.list([]item{*it})
}

// listWave notes that targets of the cohort belong to a wave.
func (l *ledger) listWave(wave int, members []uint32) error {
	for some := range slices.Chunk(members, target.PageSize) {
		line := journal.Targets{Job: l.roster.Job.Name, Wave: wave, Targets: make([]journal.Target, len(some))}
		for i, index := range some {
			line.Targets[i] = l.roster.Cohort.Target(index).Journal()
		}
		if err := l.append(line.Append(nil)); err != nil {
			return err
		}
	}
	return nil
}

// listNamedWaves notes who belongs to the waves that list their devices: those
// that select theirs are noted already.
func (l *ledger) listNamedWaves() error {
	if l.roster.Job.Rollout == nil {
		return nil
	}
	for i, w := range l.roster.Job.Rollout.Waves {
		if len(w.Devices) > 0 {
			if err := l.listWave(i+1, l.roster.Members[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// listNamed takes those into the cohort that the plan names, for a job that asks
// no hub. The journal need not have them: the plan does.
func (l *ledger) listNamed() {
	l.roster.AddNamed()
	l.whole = l.whole || l.roster.QueryText() == ""
	l.counters.listed.Store(int64(l.roster.Cohort.Size()))
}

// mark journals an event of the job.
func (l *ledger) mark(e journal.Event, detail string) error {
	return l.append(journal.Mark{Job: l.roster.Job.Name, Event: e, At: clock.Now(), Detail: detail}.Append(nil))
}

func (l *ledger) append(line []byte) error {
	if _, err := l.journal.Append(line); err != nil {
		return &JournalError{Err: err}
	}
	return nil
}

// enter takes in what came of a pass, whose row is in the journal already.
func (l *ledger) enter(f finished) {
	l.attempts += f.attempts
	l.counters.attempts.Add(int64(f.attempts))
	l.retries += f.retries
	if f.latency > 0 {
		_ = l.latency.RecordValue(max(1, f.latency.Microseconds())) // beyond the range counts as nothing
	}
	if f.outcome == "" {
		return // it goes on
	}
	if f.applied > 0 {
		_ = l.applied.RecordValue(f.applied.Milliseconds())
	}
	l.roster.Cohort.Settle(f.index, f.outcome, f.line)
	l.count(f.Pool, f.outcome)
	l.tally[f.Pool].settled++
	l.settled++
}

// enterRest gives every target without an outcome one that says that nothing
// happened, unless more is known from an earlier run. They get no line in the
// journal: what it tells of them still stands.
func (l *ledger) enterRest(nothing spec.Outcome) {
	all := l.roster.Cohort
	all.Freeze()
	for i := range uint32(all.Size()) {
		if all.At(i).Settled() {
			continue
		}
		o := nothing
		if l.lost[all.Pool(i)] != nil {
			o = spec.OutcomeFailed
		}
		o, line := l.outcomeOfRest(i, o)
		all.Settle(i, o, line)
		l.count(all.Pool(i), o)
		if o == spec.OutcomeFailed {
			l.tally[all.Pool(i)].left++
		}
	}
}

// outcomeOfRest returns the outcome of a target that this run has not got to, and its
// line: that nothing happened, unless more is known from an earlier run.
func (l *ledger) outcomeOfRest(index uint32, nothing spec.Outcome) (spec.Outcome, journal.Position) {
	e := l.roster.Cohort.At(index)
	if e.Begun() {
		return spec.OutcomeUnanswered, e.Position()
	}
	if was, ok := e.Reopened(); ok && was != spec.OutcomeNotReached {
		return was, e.Position()
	}
	return nothing, e.Position()
}

// left adds to why a job ran out of time how much of it is left to do.
func (l *ledger) left(err error, n int) error {
	least := ""
	if !l.whole {
		least = "at least "
	}
	return fmt.Errorf("%w; %s%d of %s%d targets are left", err, least, n, least, l.roster.Cohort.Size())
}

// misses are those of the job. What an earlier run has settled is in the counters
// too.
func (l *ledger) misses() decide.Misses {
	return l.missesOf(func(int) bool { return true })
}

// missesOf are those on some of the hubs. What the plan tolerates of lost hubs is none.
func (l *ledger) missesOf(counts func(pool int) bool) decide.Misses {
	excused := l.excused()
	return decide.CountMisses(func(o spec.Outcome) (n int) {
		for pool := range l.tally {
			if !counts(pool) {
				continue
			}
			n += l.tally[pool].outcomes[cohort.OutcomeIndex(o)]
			if excused && o == spec.OutcomeFailed {
				n -= l.tally[pool].left
			}
		}
		return n
	})
}

// lostHubs is how many hubs cannot be used any more.
func (l *ledger) lostHubs() (n int) {
	for _, err := range l.lost {
		if err != nil {
			n++
		}
	}
	return n
}

// excused tells whether the plan tolerates that so many hubs are lost.
func (l *ledger) excused() bool {
	n := l.lostHubs()
	return n > 0 && n < len(l.lost) && l.roster.Job.Tolerate.Hubs.Holds(n, len(l.lost))
}

// loss says which hubs were lost; nil if none was.
func (l *ledger) loss() error {
	var all []string
	for pool, err := range l.lost {
		if err != nil {
			all = append(all, fmt.Sprintf("hub %s cannot be used: %s", l.roster.Pools[pool].Name, causeOfLoss(err)))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

// causeOfLoss is the error without the name of the hub.
func causeOfLoss(err error) string {
	if fatal, ok := target.AsFatal(err); ok {
		err = fatal.Err
	}
	if late, ok := errors.AsType[*pace.NotReadyError](err); ok {
		return late.Reason()
	}
	return err.Error()
}

// unseen names the hubs whose listing is not whole; empty if all are.
func (l *ledger) unseen() string {
	var names []string
	for pool, short := range l.short {
		if short {
			names = append(names, l.roster.Pools[pool].Name)
		}
	}
	return strings.Join(names, ", ")
}
