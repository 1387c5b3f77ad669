package runner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// hubJobs is how a job is carried out by the hub's own Jobs service. Targets that
// are to be done are not handed to workers but gathered, a whole wave or cohort at
// once, and given to the hub in parts. Each part is one job of the hub and has a
// goroutine of its own, which sends back what became of each target. Everything
// else is as with calls from here: the loop, the feed, the gate, the watch.
type hubJobs struct {
	direct   *direct
	run      string
	detach   bool
	waiting  func(hub string, since time.Time, over bool) // says that a part waits for the hub to have room for it
	slots    []chan struct{}                              // of each hub: held by the parts that are with it
	gathered []*item
	parts    int // that were ever made, by the runs before this one as well
}

// part is what one job of the hub is to do.
type part struct {
	id      string
	pool    int
	whole   bool                 // it is for the job's own condition, and not for a list of devices
	adopted bool                 // a run before this one has made it
	members []*item              // in the order of the cohort
	items   map[hub.Target]*item // those that were not sent back yet
	request hub.NewJob
}

// newHubJobs returns the parts of a job that the hub is to carry out; nil for one
// that is carried out from here.
func newHubJobs(d *direct, r *Run) *hubJobs {
	if !d.ledger.byHub() {
		return nil
	}
	h := &hubJobs{direct: d, run: r.id, detach: r.detach, waiting: r.waitsForSlot}
	for _, p := range d.pools {
		h.slots = append(h.slots, make(chan struct{}, hubSlots(p.Size.SKU)))
	}
	if past := d.ledger.past; past != nil {
		h.parts = len(past.parts)
	}
	return h
}

// byHub tells whether the hub's Jobs service is to do the job.
func (l *ledger) byHub() bool { return l.roster.Job.Engine == spec.EngineHubJobs }

// allWithHub tells whether all targets of this run are with the hub, and none has
// ended.
func (l *ledger) allWithHub() bool {
	return l.settled > 0 && l.settled == int(l.counters.outcomes[cohort.OutcomeIndex(spec.OutcomeUnanswered)].Load())
}

// hubSlots is how many jobs a hub runs at once. Of one whose size is not known the
// largest is tried: it says when it has enough.
func hubSlots(sku string) int {
	switch sku {
	case "F1", "S1":
		return 1
	case "S2":
		return 5
	}
	return 10
}

// gather takes a target that is to be done.
func (h *hubJobs) gather(it *item) { h.gathered = append(h.gathered, it) }

// submit gives what was gathered to the hub.
func (h *hubJobs) submit(ctx context.Context) {
	parts := append(h.adopt(), h.cut()...)
	h.gathered = nil
	for _, p := range parts {
		h.direct.owned.Go(guarded(h.direct.crashed, func() {
			clock.Work()
			defer clock.Rest()
			(&errand{worker: worker{direct: h.direct, clerk: clerk{ledger: h.direct.ledger}}, jobs: h, part: p}).run(ctx)
		}))
	}
}

// giveBack returns what was gathered and not submitted.
func (h *hubJobs) giveBack(cause error) (given []finished) {
	if h == nil {
		return nil
	}
	c := clerk{ledger: h.direct.ledger}
	for _, it := range h.gathered {
		given = append(given, it.counted(c.notGiven(it, it.withHub(), cause), it.before))
	}
	h.gathered = nil
	return given
}

// withHub tells whether a run before this one gave the target to the hub's Jobs
// service, and did not see its end.
func (it *item) withHub() bool { return it.unsure && it.line == cohort.NoLine && it.err == nil }

// notGiven ends an item that this run has not given to the hub. One that the hub may
// have all the same keeps no line, so that whoever goes on with the run asks the hub.
func (c *clerk) notGiven(it *item, doubt bool, cause error) finished {
	if doubt {
		return finished{outcome: spec.OutcomeUnanswered, line: cohort.NoLine}
	}
	return c.stopped(it, cause)
}

// adopt makes the parts again that a run before this one had given to the hub, of
// the targets whose ends it did not see.
func (h *hubJobs) adopt() (parts []*part) {
	past := h.direct.ledger.past
	if past == nil {
		return nil
	}
	byPart := map[int32]*part{}
	h.gathered = slices.DeleteFunc(h.gathered, func(it *item) bool {
		n, ok := past.partOf[it.index]
		if !ok || !h.direct.ledger.roster.Cohort.At(it.index).Begun() {
			return false
		}
		p := byPart[n]
		if p == nil {
			id := past.parts[n]
			p = &part{id: id, pool: it.Pool, adopted: true, whole: strings.HasSuffix(id, wholeSuffix), items: map[hub.Target]*item{}}
			p.members = past.with(n, h.direct.ledger.roster.Cohort)
			p.request = h.request(p)
			byPart[n] = p
			parts = append(parts, p)
		}
		p.items[it.Target] = it
		return true
	})
	return parts
}

// maxCondition is how many characters the list of devices in a condition may have. The
// hub takes 8192, and before it may stand the name of a module.
const maxCondition = 7500

// wholeSuffix ends the id of a job for the target's own condition.
const wholeSuffix = "-all"

// cut makes parts of the targets that nobody has given to the hub yet. All targets
// of a job together are its condition; others are named, as many as a condition
// holds.
func (h *hubJobs) cut() (parts []*part) {
	byPool := map[int][]*item{}
	for _, it := range h.gathered {
		byPool[it.Pool] = append(byPool[it.Pool], it)
	}
	for pool := range h.direct.pools {
		items := byPool[pool]
		if len(items) == 0 {
			continue
		}
		if h.isWhole(len(h.gathered)) {
			parts = append(parts, h.part(pool, items, true))
			continue
		}
		slices.SortStableFunc(items, func(a, b *item) int { return strings.Compare(a.ModuleID, b.ModuleID) })
		for len(items) > 0 {
			n := fits(items)
			parts = append(parts, h.part(pool, items[:n], false))
			items = items[n:]
		}
	}
	return parts
}

// isWhole tells whether so many targets are all that the job's condition selects.
func (h *hubJobs) isWhole(n int) bool {
	t, job := &h.direct.ledger.roster.Job.Target, h.direct.job()
	return n == h.direct.ledger.roster.Cohort.Size() && h.direct.ledger.listedHere && job.Rollout == nil && h.direct.ledger.roster.Only == nil && h.direct.ledger.roster.QueryText() != "" &&
		len(t.Exclude) == 0 && t.Devices.Len() == 0 && t.Limit == 0 && t.Top == 0 && t.Expect == (spec.Expect{})
}

// fits is how many of the first items one condition can name: they are all devices,
// or all modules of one name.
func fits(items []*item) int {
	alike := slices.IndexFunc(items, func(it *item) bool { return it.ModuleID != items[0].ModuleID })
	if alike < 0 {
		alike = len(items)
	}
	_, n := target.InDevices(devicesOf(items[:alike]), alike, maxCondition)
	return n
}

func devicesOf(items []*item) []string {
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.DeviceID
	}
	return ids
}

func (h *hubJobs) part(pool int, items []*item, whole bool) *part {
	h.parts++
	p := &part{id: h.id(h.parts, whole), pool: pool, whole: whole, members: slices.Clone(items), items: make(map[hub.Target]*item, len(items))}
	for _, it := range items {
		p.items[it.Target] = it
	}
	slices.SortFunc(p.members, func(a, b *item) int { return cmp.Compare(a.index, b.index) })
	p.request = h.request(p)
	return p
}

// request is what the hub is asked for, but for its times.
func (h *hubJobs) request(p *part) hub.NewJob {
	job := h.direct.job()
	r := hub.NewJob{ID: p.id, Condition: wholeCondition(&job.Target)}
	if !p.whole {
		r.Condition = condition(p.members)
	}
	if job.Method != nil {
		call := h.direct.call
		r.Call = &call
	} else {
		r.Patch = &hub.Patch{Desired: job.Twin.Desired, Tags: job.Twin.Tags}
	}
	return r
}

// id names the nth job that a job of the plan has the hub do, the same in every run
// that goes on with this one: a hub takes an id once.
func (h *hubJobs) id(n int, whole bool) string {
	name := h.direct.job().Name
	sum := sha256.Sum256([]byte(name))
	plain := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	id := fmt.Sprintf("%s-%s-%s-%d", h.run, plain[:min(len(plain), 16)], hex.EncodeToString(sum[:3]), n)
	if whole {
		id += wholeSuffix
	}
	return id
}

// condition names some devices, or modules of one name.
func condition(items []*item) string {
	text, _ := target.InDevices(devicesOf(items), len(items), math.MaxInt)
	if module := items[0].ModuleID; module != "" {
		return "FROM devices.modules WHERE moduleId = " + target.Quote(module) + " AND " + text
	}
	return text
}

// wholeCondition is that of a target: the part after WHERE, or for modules all from
// FROM on.
func wholeCondition(t *spec.Target) string {
	switch {
	case t.Source == spec.SourceModules && t.Where == "":
		return "FROM devices.modules"
	case t.Source == spec.SourceModules:
		return "FROM devices.modules WHERE " + t.Where
	case t.Where == "":
		return "*"
	}
	return t.Where
}

// pastParts is what a journal tells of the parts of a job.
type pastParts struct {
	parts  []string         // their ids, in the order in which they were given to the hub
	partOf map[uint32]int32 // the last one of each target
}

// give notes that targets were given to the hub with a part.
func (p *pastParts) give(j *pastJob, r journal.Targets) {
	n := slices.Index(p.parts, r.Part)
	if n < 0 {
		n = len(p.parts)
		p.parts = append(p.parts, r.Part)
	}
	if p.partOf == nil {
		p.partOf = map[uint32]int32{}
	}
	for _, t := range r.Targets {
		index, _ := j.cohort.Add(cohort.KeyOf(t))
		j.replace(index)
		j.cohort.Begin(index, cohort.NoLine)
		p.partOf[index] = int32(n) //nolint:gosec // a run has few parts
	}
}

// with are the targets of a part, those included that have ended, in the order of
// the cohort.
func (p *pastParts) with(n int32, c *cohort.Cohort) (members []*item) {
	for i := range uint32(c.Size()) {
		if of, ok := p.partOf[i]; ok && of == n {
			members = append(members, &item{Key: c.Target(i), index: i})
		}
	}
	return members
}
