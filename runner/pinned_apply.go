package runner

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// What keeps a device from being touched by the run of a pinned preview, as the
// kind of its row's error.
const (
	kindChanged = "changedSincePreview"
	kindJoined  = "joinedSincePreview"
	kindLeft    = "leftSincePreview"
)

// pins is what a run of a pinned preview has for one job. It is nil in any
// other run.
type pins struct {
	*Pinned
	members      *bitset
	expect       spec.Expect
	joined, left int
}

// pinTo binds the job to the devices of a pinned preview. All that the target
// selects is listed, so that it shows who joined and who left; a target that
// was cut off at a limit says nothing about the others, and they stay out.
func (j *jobRun) pinTo(p *Pinned) {
	j.pins = &pins{Pinned: p, members: p.members[j.job.Name], expect: j.job.Target.Expect}
	if t := j.job.Target; t.Limit > 0 || t.Top > 0 {
		j.only = func(t targetKey) bool { return j.pins.has(t) }
	}
	unbounded := *j.job
	unbounded.Target.Limit, unbounded.Target.Top, unbounded.Target.Expect = 0, 0, spec.Expect{}
	j.job = &unbounded
}

func (p *pins) has(t targetKey) bool {
	i, known := p.index(t)
	return known && p.members.has(i)
}

// matchPins holds a cohort that is listed in full against the preview. Whoever
// joined or left the target since is settled: it is not touched.
func (d *dispatcher) matchPins() error {
	listed := uint32(d.cohort.size)
	touched := 0
	for i := range listed {
		if key := parseKey(d.cohort.key(i)); d.pins.has(key) {
			touched++
		} else if d.leaveAlone(&item{targetKey: key, index: i}, kindJoined, "it was not in the preview; it has joined the target since") {
			d.pins.joined++
		}
	}
	var left []item
	for i := range uint32(d.pins.devices.size) {
		if !d.pins.members.has(i) {
			continue
		}
		key := parseKey(d.pins.devices.key(i))
		if index, known := d.cohort.add(key); !known {
			left = append(left, item{targetKey: key, index: index})
		}
	}
	if len(left) > 0 {
		d.counters.listed.Add(int64(len(left)))
		d.journalPage(left)
	}
	for i := range left {
		d.leaveAlone(&left[i], kindLeft, "it was in the preview; it is not in the target any more")
	}
	d.pins.left = len(left)
	if e := d.pins.expect; touched < e.Min {
		return &ExpectError{Min: e.Min, Max: e.Max, Have: touched}
	}
	return nil
}

// leaveAlone settles a target that the run may not touch, unless an earlier run
// has settled it.
func (d *dispatcher) leaveAlone(it *item, kind, why string) bool {
	if _, settled := d.cohort.at(it.index).outcome(); settled {
		return false
	}
	w := worker{jobRun: d.jobRun}
	row := &spec.Row{DeviceID: it.DeviceID, ModuleID: it.ModuleID, Outcome: spec.OutcomeSkipped}
	if len(d.pools) > 1 {
		row.Hub = d.pools[it.pool].Name
	}
	row.Error = &spec.RowError{Kind: kind, Message: why}
	f := w.settle(it, row, 0)
	f.item = it
	d.busy++ // settle takes it off again
	d.settle(f)
	return true
}

// Waiting for another job of the run to be done with a twin.
const (
	pinPoll  = 100 * time.Millisecond
	pinWaits = 50
)

// heldToPin compares a twin with the preview. It is true when that ends the
// pass: somebody else has changed the twin, or a patch of this run is under way
// and nobody can say.
func (w *worker) heldToPin(it *item, s *sight, asWanted bool) (finished, bool) {
	if w.pins == nil {
		return finished{}, false
	}
	i, _ := w.pins.index(it.targetKey)
	switch state := w.pins.compare(i, s.etag); {
	case state == pinKept:
		return finished{}, false
	case it.doubt != nil && asWanted: // by a patch of this job whose answer never came
		return finished{}, false
	case state == pinOpen && it.pinWaits < pinWaits && w.pins.others(i, it.pinOpen):
		it.pinWaits++
		it.attempts--
		it.due = time.Now().Add(pinPoll)
		return finished{}, true
	}
	if it.unsure {
		it.attempts-- // nothing was sent in this pass
		return w.giveUp(it, verdict{stepEnd, spec.OutcomeUnanswered}), true
	}
	row := w.newRow(it, spec.OutcomeSkipped)
	row.Error = &spec.RowError{
		Kind:    kindChanged,
		Message: fmt.Sprintf("its twin has changed since the preview: the etag was %q and is %q", w.pins.etag(i), s.etag),
	}
	row.History = it.history
	return w.settle(it, row, 0), true
}

// heldToPayload compares what would be sent with what the preview showed. It is
// true when that ends the pass.
func (w *worker) heldToPayload(it *item, payload json.RawMessage) (finished, bool) {
	if w.pins == nil {
		return finished{}, false
	}
	i, _ := w.pins.index(it.targetKey)
	if was := w.pins.sums[w.job.Name][i]; was == payloadSum(payload) {
		return finished{}, false
	}
	if it.unsure {
		return w.giveUp(it, verdict{stepEnd, spec.OutcomeUnanswered}), true
	}
	row := w.newRow(it, spec.OutcomeSkipped)
	row.Error = &spec.RowError{Kind: kindChanged, Message: "what would be sent to it has changed since the preview, with its twin"}
	row.History = it.history
	return w.settle(it, row, 0), true
}

// openPin notes that the item's twin is about to be patched.
func (w *worker) openPin(it *item) {
	if w.pins == nil || it.pinOpen {
		return
	}
	i, _ := w.pins.index(it.targetKey)
	w.pins.begin(i)
	it.pinOpen = true
}

// closePin notes what became of it.
func (w *worker) closePin(it *item, row *spec.Row) {
	if w.pins == nil || !it.pinOpen {
		return
	}
	etag := ""
	if row.Outcome == spec.OutcomeSucceeded && row.Twin != nil {
		etag = row.Twin.ETag
	}
	i, _ := w.pins.index(it.targetKey)
	w.pins.end(i, etag)
	it.pinOpen = false
}

// note says who joined and who left; empty if nobody did.
func (p *pins) note() string {
	if p == nil || p.joined+p.left == 0 {
		return ""
	}
	return fmt.Sprintf("since the preview %d joined the target and %d left it; they were not touched", p.joined, p.left)
}

// recallPins learns from the rows of an earlier run which changes of twins were
// this run's own. There is nothing to learn for a run without a pinned preview.
func (r *Run) recallPins(p *Pinned) error {
	if r.past == nil || p == nil {
		return nil
	}
	versions := map[uint32]int64{}
	var buf []byte
	for _, j := range r.jobs {
		for i := range uint32(j.cohort.size) {
			e := j.cohort.at(i)
			k, known := p.index(parseKey(j.cohort.key(i)))
			if known && e.state == stateBegun && j.job.Twin != nil {
				p.begin(k) // revive goes on with it
			}
			if o, _ := e.outcome(); !known || o != spec.OutcomeSucceeded || j.job.Twin == nil {
				continue
			}
			row, b, err := journal.ReadRow(r.journal, e.position(), buf)
			if err != nil {
				return &JournalError{Err: err}
			}
			buf = b
			twin := gjson.GetBytes(row, "twin")
			version, etag := twin.Get("version").Int(), twin.Get("etag").String()
			if etag != "" && version > versions[k] {
				versions[k] = version
				p.etags[k] = etag
			}
		}
	}
	return nil
}
