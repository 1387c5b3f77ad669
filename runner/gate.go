package runner

import (
	"fmt"
	"strconv"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/rollout"
	"iothub-runner/spec"
)

// GateError means that a rollout waits for somebody to look: its pause is
// manual, and a wave has ended.
type GateError struct {
	Wave, Waves int // this one, of so many
}

// Error says where the rollout stands.
func (e *GateError) Error() string {
	return fmt.Sprintf("wave %d of %d has ended, and rollout.pause is manual: resume the run to begin wave %d", e.Wave, e.Waves, e.Wave+1)
}

// gate says how far the feed may go in a rollout. Each wave raises the feed's
// limit; the gate decides when the next one may. It belongs to the loop of the
// job.
type gate struct {
	ledger *ledger
	feed   *feed
	rule   *spec.Rollout
	waves  rollout.Waves
	begun  []waveTimes // the waves that have begun
	opens  time.Time   // when the next one may begin, once the last of them has passed
	held   bool        // this run goes no further: it leaves alone who was not reached
	told   bool        // whoever resumes the run knows that it waits for them

	left  int // targets of these waves that this run is to end, when the last one began
	ended int // what had ended in this run by then
	idle  int // targets of these waves that this run leaves alone
}

// waveTimes are those of a wave that has begun; passed is zero until it has.
type waveTimes struct{ began, passed time.Time }

// newGate cuts the cohort, whose listing is whole, into waves, and goes on where
// an earlier run has left them.
func newGate(f *feed) *gate {
	l := f.ledger
	g := &gate{ledger: l, feed: f, rule: l.roster.Job.Rollout, waves: l.roster.Cut(l.plan)}
	f.order, f.limit = g.waves.Order, 0
	l.counters.waves.Store(int64(len(g.waves.Ends)))
	if l.past != nil {
		g.begun, g.told = l.past.waves, l.past.told
	}
	if n := len(g.begun); n > 0 {
		g.count()
		g.opens = g.begun[n-1].passed.Add(g.rule.Pause)
	}
	return g
}

// done tells whether no wave is to come.
func (g *gate) done() bool {
	return g.held || len(g.begun) == len(g.waves.Ends) && g.passed()
}

// passed tells whether the last wave that has begun has passed.
func (g *gate) passed() bool {
	n := len(g.begun)
	return n == 0 || !g.begun[n-1].passed.IsZero()
}

// advance lets the feed go on as far as it may. If the next wave has a time, it
// says how long until then; the error says why the rollout ends here.
func (g *gate) advance(now time.Time) (wait time.Duration, err error) {
	for !g.done() {
		switch {
		case !g.passed():
			if !g.over() {
				return 0, nil
			}
			if err := g.pass(now); err != nil {
				return 0, err
			}
		case !g.ledger.picks(spec.OutcomeNotReached):
			g.held = true
		case g.rule.Manual && !g.told && g.last() > 0:
			return 0, &GateError{Wave: len(g.begun), Waves: len(g.waves.Ends)}
		case g.opens.After(now):
			return g.opens.Sub(now), nil
		default:
			if err := g.begin(now); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

// last is the size of the last wave that has begun.
func (g *gate) last() int {
	if len(g.begun) == 0 {
		return 0
	}
	from, to := g.waves.Span(len(g.begun) - 1)
	return to - from
}

// begin lets the feed hand out the next wave.
func (g *gate) begin(now time.Time) error {
	g.begun = append(g.begun, waveTimes{began: now})
	g.count()
	return g.ledger.mark(journal.EventWave, strconv.Itoa(len(g.begun)))
}

// count notes what is to be done in the waves that have begun.
func (g *gate) count() {
	_, end := g.waves.Span(len(g.begun) - 1)
	g.ledger.counters.wave.Store(int64(len(g.begun)))
	g.feed.limit, g.ended, g.left, g.idle = uint32(end), g.ledger.settled, 0, 0
	for _, index := range g.waves.Order[:end] {
		switch e := g.ledger.roster.Cohort.At(index); {
		case e.Settled():
		case e.Pending() && !g.ledger.picks(spec.OutcomeNotReached):
			g.idle++
		default:
			g.left++
		}
	}
}

// over tells whether the wave has ended: each of its targets has, or is offline
// and waited for. A wave of which nobody could be reached shows nothing, so it is
// not over.
func (g *gate) over() bool {
	left := g.left - (g.ledger.settled - g.ended)
	return left == 0 || left <= g.feed.away && g.anyEnded()
}

// anyEnded tells whether a target of the wave has an outcome.
func (g *gate) anyEnded() bool {
	from, to := g.waves.Span(len(g.begun) - 1)
	for _, index := range g.waves.Order[from:to] {
		if g.ledger.roster.Cohort.At(index).Settled() {
			return true
		}
	}
	return false
}

// pass notes that the wave has passed, and when the next one may begin.
func (g *gate) pass(now time.Time) error {
	if g.idle > 0 {
		g.held = true // it is not whole
		return nil
	}
	n := len(g.begun)
	g.begun[n-1].passed, g.told = now, false
	g.opens = now
	if g.last() > 0 {
		g.opens = now.Add(g.rule.Pause)
	}
	return g.ledger.mark(journal.EventPassed, strconv.Itoa(n))
}

// judge returns why the rollout has to stop, nil if it may go on.
func (g *gate) judge() error {
	if g.rule.StopWhen == (spec.StopWhen{}) {
		return nil
	}
	m, done := g.ledger.misses(), g.feed.away
	for i, o := range spec.Outcomes() {
		if o != spec.OutcomeNotReached {
			done += int(g.ledger.counters.outcomes[i].Load())
		}
	}
	m.Offline += g.feed.away
	return m.Stops(g.rule.StopWhen, done)
}

// report returns what the report tells of the waves.
func (g *gate) report(stopped bool) []spec.WaveReport {
	waves := make([]spec.WaveReport, len(g.waves.Ends))
	for i := range waves {
		from, to := g.waves.Span(i)
		w := spec.WaveReport{Wave: g.rule.Waves[i].String(), Targets: to - from, Outcomes: map[spec.Outcome]int{}, Verdict: spec.VerdictNotStarted}
		for _, index := range g.waves.Order[from:to] {
			if o, ended := g.ledger.roster.Cohort.At(index).Outcome(); ended {
				w.Outcomes[o]++
			}
		}
		if i < len(g.begun) {
			w.StartedAt, w.EndedAt = optionalTime(g.begun[i].began), optionalTime(g.begun[i].passed)
			switch {
			case w.EndedAt != nil:
				w.Verdict = spec.VerdictPassed
			case stopped:
				w.Verdict = spec.VerdictStopped
			default:
				w.Verdict = spec.VerdictUnfinished
			}
		}
		waves[i] = w
	}
	return waves
}

// pastWaves is what a journal tells of the waves of a job.
type pastWaves struct {
	waves   []waveTimes
	told    bool             // the job ended after the last of them had passed
	members map[int][]uint32 // of those that name their targets, counted from 1
}

// visit takes in a mark of a wave.
func (p *pastWaves) visit(m journal.Mark) {
	n, err := strconv.Atoi(m.Detail)
	switch {
	case err != nil:
	case m.Event == journal.EventWave && n == len(p.waves)+1:
		p.waves = append(p.waves, waveTimes{began: m.At})
	case m.Event == journal.EventPassed && n == len(p.waves) && n > 0:
		p.waves[n-1].passed, p.told = m.At, false
	}
}

// join takes in targets that belong to a wave.
func (p *pastWaves) join(c *cohort.Cohort, t journal.Targets) {
	if p.members == nil {
		p.members = map[int][]uint32{}
	}
	for _, target := range t.Targets {
		index, _ := c.Add(cohort.KeyOf(target))
		p.members[t.Wave] = append(p.members[t.Wave], index)
	}
}
