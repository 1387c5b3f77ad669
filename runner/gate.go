package runner

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/rollout"
	"iothub-runner/spec"
)

// GateError means that a rollout waits for somebody to look: its pause is
// manual, and a wave has ended.
type GateError struct {
	Wave, Waves int    // this one, of so many
	Hub         string // whose they are; empty for all
}

// Error says where the rollout stands.
func (e *GateError) Error() string {
	of := ""
	if e.Hub != "" {
		of = " of hub " + e.Hub
	}
	return fmt.Sprintf("wave %d of %d%s has ended, and rollout.pause is manual: resume the run to begin wave %d", e.Wave, e.Waves, of, e.Wave+1)
}

// gate says how far the lanes may go in a rollout. Each wave raises their limit; the
// gate decides when the next one may. It belongs to the loop of the job.
type gate struct {
	ledger *ledger
	lanes  []*lane // all, or the one whose hub has waves of its own
	hub    int     // of that one, from 1; 0 for all
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

// newGates cuts the cohort, whose listing is whole, into waves, and goes on where
// an earlier run has left them.
func newGates(f *feed) (all []*gate) {
	cuts := f.ledger.roster.Cut(f.ledger.plan)
	if len(cuts) == 1 {
		return []*gate{newGate(f.ledger, f.lanes, 0, cuts[0])}
	}
	for pool, waves := range cuts {
		all = append(all, newGate(f.ledger, f.lanes[pool:pool+1], pool+1, waves))
	}
	return all
}

func newGate(l *ledger, lanes []*lane, hub int, waves rollout.Waves) *gate {
	g := &gate{ledger: l, lanes: lanes, hub: hub, rule: l.roster.Job.Rollout, waves: waves}
	for _, lane := range lanes {
		lane.order, lane.limit = waves.Order, 0
	}
	l.counters.waves.Store(int64(len(g.waves.Ends)))
	if l.past != nil {
		g.begun, g.told = l.past.waves[hub], l.past.told[hub]
	}
	if n := len(g.begun); n > 0 {
		g.count()
		g.opens = g.begun[n-1].passed.Add(g.rule.Pause)
	}
	return g
}

// done tells whether no wave is to come.
func (g *gate) done() bool {
	return g.held || g.stopped() || len(g.begun) == len(g.waves.Ends) && g.passed()
}

// stopped tells whether the gate's only hub has nothing handed out any more.
func (g *gate) stopped() bool { return len(g.lanes) == 1 && g.lanes[0].ended != nil }

// passed tells whether the last wave that has begun has passed.
func (g *gate) passed() bool {
	n := len(g.begun)
	return n == 0 || !g.begun[n-1].passed.IsZero()
}

// advance lets the feed go on as far as it may. If the next wave has a time, it
// says how long until then; the error says why the rollout ends here.
func (g *gate) advance(now time.Time) (wait time.Duration, err error) {
	if g.stopped() {
		return 0, nil
	}
	if err := g.judge(); err != nil {
		return 0, err
	}
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
			return 0, &GateError{Wave: len(g.begun), Waves: len(g.waves.Ends), Hub: g.hubName()}
		case g.opens.After(now):
			g.ledger.counters.opens.Store(g.opens.UnixNano())
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
	g.ledger.counters.opens.Store(0)
	g.count()
	g.ledger.observer.WaveStarted(g.ledger.roster.Job.Name, WaveStart{Hub: g.hubName(), Wave: len(g.begun), Waves: len(g.waves.Ends), Targets: g.last()})
	return g.ledger.mark(journal.EventWave, waveOf(len(g.begun), g.hub))
}

// waveOf is how the journal has a wave, and the hub whose own it is.
func waveOf(wave, hub int) string {
	if hub == 0 {
		return strconv.Itoa(wave)
	}
	return fmt.Sprintf("%d/%d", wave, hub)
}

// hubName is the hub whose own waves the gate has; empty if it has those of all.
func (g *gate) hubName() string {
	if g.hub == 0 {
		return ""
	}
	return g.ledger.roster.Pools[g.hub-1].Name
}

// has tells whether the gate is for a hub.
func (g *gate) has(pool int) bool { return g.hub == 0 || g.hub == pool+1 }

// settled is how many targets have ended in this run.
func (g *gate) settled() (n int) {
	for _, l := range g.lanes {
		n += g.ledger.tally[l.pool].settled
	}
	return n
}

// away is how many targets are offline, and waited for.
func (g *gate) away() (n int) {
	for _, l := range g.lanes {
		n += l.away
	}
	return n
}

// count notes what is to be done in the waves that have begun.
func (g *gate) count() {
	_, end := g.waves.Span(len(g.begun) - 1)
	g.ledger.counters.wave.Store(int64(len(g.begun)))
	for _, l := range g.lanes {
		l.limit = uint32(end)
	}
	g.ended, g.left, g.idle = g.settled(), 0, 0
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
	left := g.left - (g.settled() - g.ended)
	return left == 0 || left <= g.away() && g.anyEnded()
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
	return g.ledger.mark(journal.EventPassed, waveOf(n, g.hub))
}

// judge returns why the rollout has to stop, nil if it may go on.
func (g *gate) judge() error {
	if g.rule.StopWhen == (spec.StopWhen{}) {
		return nil
	}
	m, done := g.ledger.missesOf(g.has), g.away()
	for i, o := range spec.Outcomes() {
		for _, l := range g.lanes {
			if o != spec.OutcomeNotReached {
				done += g.ledger.tally[l.pool].outcomes[i]
			}
		}
	}
	m.Offline += g.away()
	return m.Stops(g.rule.StopWhen, done)
}

// report returns what the report tells of the waves.
func (g *gate) report(stopped bool) []spec.WaveReport {
	waves := make([]spec.WaveReport, len(g.waves.Ends))
	for i := range waves {
		from, to := g.waves.Span(i)
		w := spec.WaveReport{Hub: g.hubName(), Wave: g.rule.Waves[i].String(), Targets: to - from, Outcomes: map[spec.Outcome]int{}, Verdict: spec.VerdictNotStarted}
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
	waves   map[int][]waveTimes // of each hub that has its own, from 1; at 0 those of all
	told    map[int]bool        // the job ended after the last of them had passed
	members map[int][]uint32    // of those that name their targets, counted from 1
}

// visit takes in a mark of a wave.
func (p *pastWaves) visit(m journal.Mark) {
	wave, ofHub, _ := strings.Cut(m.Detail, "/")
	n, err := strconv.Atoi(wave)
	hub, _ := strconv.Atoi(ofHub) // none is 0
	if p.waves == nil {
		p.waves, p.told = map[int][]waveTimes{}, map[int]bool{}
	}
	begun := p.waves[hub]
	switch {
	case err != nil:
	case m.Event == journal.EventWave && n == len(begun)+1:
		p.waves[hub] = append(begun, waveTimes{began: m.At})
	case m.Event == journal.EventPassed && n == len(begun) && n > 0:
		begun[n-1].passed, p.told[hub] = m.At, false
	}
}

// ended notes that the job ended, and with it that it waits for whoever resumes it.
func (p *pastWaves) ended() {
	for hub := range p.waves {
		p.told[hub] = true
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
