package emulator

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/twinquery"
)

// store holds every device of the hub.
//
// A device has a slot, a number that it keeps while it is registered: the
// fleet's devices come first, in the order of the fleet, then those that were
// registered, in the order they came. Queries walk the slots, so a page token
// is little more than a slot number.
//
// A slot points to the device's record, or to nothing while the device is as
// the fleet file made it. Records are never changed: a write makes a new one
// under the slot's lock, and readers take none.
type store struct {
	fleet    *fleet.Fleet
	fleetLen int
	born     time.Time
	chunks   []atomic.Pointer[chunk]
	locks    [256]sync.Mutex // by slot
	orders   [256]sync.Mutex // by slot; held from a write until its device was told
	gone     *record         // what the slot of a deleted device points to

	mu     sync.RWMutex
	added  map[string]int // slots of devices that are not the fleet's; guarded by mu
	free   []int          // slots of added devices that were deleted; guarded by mu
	next   int            // the first slot never used; guarded by mu
	called []int          // slots whose counts are to be kept; guarded by mu
	shared atomic.Int64   // next, for those who walk the slots

	total    atomic.Int64
	disabled atomic.Int64

	lag atomic.Int64 // how old the state is that queries see

	birth []stamp   // of everything that nobody has written to yet
	log   *stateLog // of every change; nil unless the state is kept
}

// bear sets when the twins were made that nobody has written to. Only a hub
// that nobody uses yet may be told.
func (s *store) bear(born time.Time) {
	s.born, s.birth = born, []stamp{{at: born.UnixNano(), version: 1}}
}

// slot is what the hub keeps of a device beside its record.
type slot struct {
	record   atomic.Pointer[record]
	methods  atomic.Uint32 // calls that the device took
	patches  atomic.Uint32 // accepted writes of its twin by services
	messages atomic.Uint32 // telemetry that the hub accepted
	forced   atomic.Uint32 // a presence that tests chose
	linked   atomic.Int32  // how many real connections it and its modules have
	calls    [countedOfDevice]atomic.Uint32
	line     atomic.Pointer[line] // nil until the device connects for real
	called   atomic.Bool          // methods grew, and no state file has it yet
}

// line is what the hub keeps of a device that has connected for real. Few of a
// large fleet do, so that the others do not pay for it.
type line struct {
	calls [countedOfHub - countConnect]atomic.Uint32

	mu       sync.Mutex
	activity map[string]activity // by module id, empty for the device; guarded by mu
}

func (p *slot) ofLine() *line {
	if p.line.Load() == nil {
		p.line.CompareAndSwap(nil, new(line))
	}
	return p.line.Load()
}

// resetCalls forgets what faults counted.
func (p *slot) resetCalls() {
	for i := range p.calls {
		p.calls[i].Store(0)
	}
	if l := p.line.Load(); l != nil {
		for i := range l.calls {
			l.calls[i].Store(0)
		}
	}
}

// chunk is made when one of its devices is first touched.
type chunk [4096]slot

// maxAdded bounds what can be registered beside the fleet: what one hub holds.
const maxAdded = 1_000_000

// record is everything that was written of a device.
type record struct {
	id      string    // of added devices; the fleet knows its own
	deleted bool      //
	ident   *identity // nil: derived, as for any device nobody has updated
	twin    twin
	modules []*module // sorted by id
	own     bool      // modules are those of the record, no longer the fleet's

	// since is when this record replaced prev, and lag how far queries lagged
	// then. All are zero unless queries lag; a record from before shows at once.
	since int64
	lag   int64
	prev  atomic.Pointer[record]
}

// twin is the part that services and devices write.
type twin struct {
	tags, desired, reported section
	etag                    uint64 // counts writes by services
	version                 int64  // counts all writes
	pending                 *pending
}

// pending is what a simulated device is going to report: one patch for each
// write of its desired properties, in their order.
type pending struct{ reports []report }

type report struct {
	due   int64
	patch string
}

// and returns what is pending with one more report, which comes after the others.
func (p *pending) and(r report) *pending {
	if p == nil {
		return &pending{reports: []report{r}}
	}
	r.due = max(r.due, p.reports[len(p.reports)-1].due)
	return &pending{reports: append(p.reports, r)}
}

// rest is what is pending after the first report.
func (p *pending) rest() *pending {
	if len(p.reports) == 1 {
		return nil
	}
	return &pending{reports: p.reports[1:]}
}

// isDue tells whether there is something to report.
func (p *pending) isDue(now time.Time) bool { return p != nil && p.reports[0].due <= now.UnixNano() }

// module is a module of a device, with its own identity and twin.
type module struct {
	id        string
	ident     *identity
	twin      twin
	managedBy string
}

// device is one look at a device. What it shows does not change under the
// reader; another look may show something else.
type device struct {
	slot int
	id   string
	rec  *record // nil: as the fleet made it
}

func newStore(f *fleet.Fleet, born time.Time) *store {
	s := &store{fleet: f, gone: &record{deleted: true}, added: map[string]int{}}
	s.bear(born)
	if f != nil {
		s.fleetLen = f.Len()
		s.lag.Store(int64(f.IndexLag()))
	}
	s.next = s.fleetLen
	s.shared.Store(int64(s.next))
	s.total.Store(int64(s.fleetLen))
	s.chunks = make([]atomic.Pointer[chunk], (s.fleetLen+maxAdded)/len(chunk{})+1)
	return s
}

// peek returns a slot, nil while nothing near it has been touched.
func (s *store) peek(n int) *slot {
	c := s.chunks[n/len(chunk{})].Load()
	if c == nil {
		return nil
	}
	return &c[n%len(chunk{})]
}

// slot returns a slot that can be written to.
func (s *store) slot(n int) *slot {
	place := &s.chunks[n/len(chunk{})]
	c := place.Load()
	if c == nil {
		place.CompareAndSwap(nil, new(chunk))
		c = place.Load()
	}
	return &c[n%len(chunk{})]
}

// find looks a device up by its id.
func (s *store) find(id string) (device, bool) {
	n, ok := s.place(id)
	if !ok {
		return device{}, false
	}
	d := device{slot: n, id: id, rec: s.record(n)}
	if d.rec == nil {
		return d, n < s.fleetLen
	}
	if d.rec.deleted || d.rec.id != "" && d.rec.id != id {
		return device{}, false // deleted, and its slot perhaps given away meanwhile
	}
	return d, true
}

func (s *store) place(id string) (int, bool) {
	if s.fleetLen > 0 {
		if n, ok := s.fleet.Index(id); ok {
			return n, true
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, ok := s.added[id]
	return n, ok
}

func (s *store) record(n int) *record {
	if p := s.peek(n); p != nil {
		return p.record.Load()
	}
	return nil
}

// at returns the device in a slot, if there is one.
func (s *store) at(n int) (device, bool) {
	return s.seen(n, s.record(n))
}

// seen makes a device of a slot and a record of it.
func (s *store) seen(n int, rec *record) (device, bool) {
	if rec == nil {
		if n >= s.fleetLen {
			return device{}, false
		}
		return device{slot: n, id: s.fleet.ID(n)}, true
	}
	if rec.deleted {
		return device{}, false
	}
	if rec.id != "" {
		return device{slot: n, id: rec.id, rec: rec}, true
	}
	return device{slot: n, id: s.fleet.ID(n), rec: rec}, true
}

// lagged returns the device in a slot as queries see it now.
func (s *store) lagged(n int, now time.Time) (device, bool) {
	rec := s.record(n)
	lag := s.lag.Load()
	if lag > 0 {
		for rec != nil && !rec.shows(now.UnixNano(), lag) && rec.prev.Load() != rec {
			rec = rec.prev.Load()
		}
	}
	return s.seen(n, rec)
}

// shows tells whether queries see the record, if they lag so far now. That they
// are made to lag further hides nothing that they have shown.
func (r *record) shows(now, lag int64) bool { return r.since+min(lag, r.lag) <= now }

// slots returns how many slots there are to walk.
func (s *store) slots() int { return int(s.shared.Load()) }

// update replaces a device's record by what change makes of it. It returns the
// device as it is then. Change runs under the device's lock and must be quick.
func (s *store) update(id string, now time.Time, change func(d device) (*record, *apiError)) (device, *apiError) {
	n, ok := s.place(id)
	if !ok {
		return device{}, errDeviceNotFound(id)
	}
	lock := s.lock(n)
	lock.Lock()
	defer lock.Unlock()
	d, ok := s.at(n)
	if !ok || d.id != id {
		return d, errDeviceNotFound(id)
	}
	next, refusal := change(d)
	if refusal != nil {
		return d, refusal
	}
	s.swap(n, next, now)
	d.rec = next
	return d, nil
}

// order is the lock for those who write desired properties of a device.
func (s *store) order(id string) *sync.Mutex {
	n, _ := s.place(id)
	return &s.orders[n%len(s.orders)]
}

func (s *store) lock(n int) *sync.Mutex { return &s.locks[n%len(s.locks)] }

// swap puts a record in place and keeps the counts. The slot's lock is held.
func (s *store) swap(n int, next *record, now time.Time) {
	p := s.slot(n)
	before := p.record.Load()
	if lag := s.lag.Load(); lag > 0 {
		next = remembering(next, before, now.UnixNano(), lag)
	}
	if s.log != nil {
		// First: who reads what the next line makes visible must not lose it.
		s.log.note(stateLine{Device: s.kept(n, next, before)})
	}
	p.record.Store(next)
	s.total.Add(s.exists(n, next) - s.exists(n, before))
	s.disabled.Add(disabled(next) - disabled(before))
}

// maxRemembered is how many writes of a device queries can lag behind. A device
// that is written to more often lags less: memory does not grow with a lag.
const maxRemembered = 64

// remembering makes next a record that leads back to what queries still show,
// and drops what is too old even for them.
func remembering(next, before *record, now, lag int64) *record {
	if next.deleted {
		next = &record{deleted: true} // the common one leads nowhere
	}
	next.since, next.lag = now, lag
	next.prev.Store(before)
	kept := 0
	for r := before; r != nil; r = r.prev.Load() {
		switch kept++; {
		case r.shows(now, lag):
			r.prev.Store(nil)
			return next
		case kept == maxRemembered:
			r.prev.Store(r) // nothing older can be shown; this is as old as it gets
			return next
		}
	}
	return next
}

func (s *store) exists(n int, r *record) int64 {
	if r == nil && n >= s.fleetLen || r != nil && r.deleted {
		return 0
	}
	return 1
}

func disabled(r *record) int64 {
	if r != nil && !r.deleted && r.ident != nil && r.ident.disabled {
		return 1
	}
	return 0
}

// countCall counts a call that a device took. It returns which one it is.
func (s *store) countCall(n int) uint32 {
	p := s.slot(n)
	nth := p.methods.Add(1)
	if s.log != nil && !p.called.Swap(true) {
		s.mu.Lock()
		s.called = append(s.called, n)
		s.mu.Unlock()
	}
	return nth
}

// create registers a device. The record has its id.
func (s *store) create(id string, rec *record, now time.Time) (device, *apiError) {
	if s.fleetLen > 0 {
		if n, ok := s.fleet.Index(id); ok {
			return s.fill(n, id, rec, now)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.added[id]; ok {
		return s.fill(n, id, rec, now)
	}
	n := s.next
	switch {
	case len(s.free) > 0:
		n = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
	case s.next-s.fleetLen >= maxAdded:
		return device{}, &apiError{status: 403, code: 403002, name: "IotHubQuotaExceeded", text: "The hub holds as many devices as it can."}
	default:
		s.next++
	}
	d, refusal := s.fill(n, id, rec, now)
	if refusal == nil {
		s.added[id] = n
		s.shared.Store(int64(s.next))
	}
	return d, refusal
}

// fill puts a new device into a slot that holds none.
func (s *store) fill(n int, id string, rec *record, now time.Time) (device, *apiError) {
	lock := s.lock(n)
	lock.Lock()
	defer lock.Unlock()
	if _, taken := s.at(n); taken {
		return device{}, &apiError{status: 409, code: 409001, name: "DeviceAlreadyExists", text: "A device with ID '" + id + "' is already registered."}
	}
	s.swap(n, rec, now)
	p := s.slot(n)
	p.methods.Store(0)
	p.patches.Store(0)
	p.messages.Store(0)
	p.resetCalls()
	p.line.Store(nil)
	p.forced.Store(0)
	return device{slot: n, id: id, rec: rec}, nil
}

// remove takes a device out of the registry if allowed agrees.
func (s *store) remove(id string, now time.Time, allowed func(d device) *apiError) (device, *apiError) {
	var last device
	_, refusal := s.update(id, now, func(d device) (*record, *apiError) {
		last = d
		return s.gone, allowed(d)
	})
	if refusal != nil || last.slot < s.fleetLen {
		return last, refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.added[id]; ok && s.exists(n, s.record(n)) == 0 { // not registered again meanwhile
		delete(s.added, id)
		s.free = append(s.free, n)
	}
	return last, nil
}

// reset makes the registry as it was at the start. It returns the slots whose
// devices are no longer what they were.
func (s *store) reset() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []int
	for n := range s.next {
		p := s.peek(n)
		if p == nil {
			continue
		}
		lock := s.lock(n)
		lock.Lock()
		before := p.record.Load()
		var fresh *record
		if n >= s.fleetLen {
			fresh = s.gone
		}
		p.forced.Store(presenceAsDescribed)
		if before != nil && before != fresh {
			p.record.Store(fresh)
			s.total.Add(s.exists(n, fresh) - s.exists(n, before))
			s.disabled.Add(disabled(fresh) - disabled(before))
			changed = append(changed, n)
		}
		lock.Unlock()
	}
	clear(s.added)
	s.free, s.next = nil, s.fleetLen
	s.shared.Store(int64(s.next))
	return changed
}

// copyOf returns a new record that says the same as a device's.
func (s *store) copyOf(d device) *record {
	if d.rec == nil {
		return &record{twin: s.pristine()}
	}
	r := d.rec
	return &record{id: r.id, ident: r.ident, twin: r.twin, modules: r.modules, own: r.own}
}

// pristine is a twin that the fleet file gives, as nobody has written to it.
func (s *store) pristine() twin {
	sec := section{stamps: s.birth, version: 1, inherited: true}
	return twin{tags: sec, desired: sec, reported: sec, etag: 1, version: firstVersion}
}

// newborn is the twin of a device or module that was registered at a time.
func newborn(now time.Time) twin {
	sec := section{stamps: []stamp{{at: now.UnixNano(), version: 1}}, version: 1}
	return twin{tags: section{}, desired: sec, reported: sec, etag: 1, version: firstVersion}
}

// firstVersion is the version that a fresh twin shows in the documents.
const firstVersion = 2

// walk is a way through the slots: all of them, or only those whose devices a
// query can match.
type walk struct {
	end  int
	only []int // sorted; nil for all
}

// walk looks whether a query names its devices. A hub would use an index; a
// list of ids must not cost a look at a million devices. While queries lag
// that is not done: they still see devices that the registry has no more.
func (s *store) walk(q *twinquery.Query) walk {
	w := walk{end: s.slots()}
	if q.Where == nil || s.lag.Load() > 0 {
		return w
	}
	ids, ok := q.Where.Pinned("deviceId")
	if !ok {
		return w
	}
	w.only = make([]int, 0, len(ids))
	for _, id := range ids {
		if n, known := s.place(id); known {
			w.only = append(w.only, n)
		}
	}
	slices.Sort(w.only)
	w.only = slices.Compact(w.only)
	return w
}

// from returns the first slot to look at, from n on.
func (w walk) from(n int) (int, bool) {
	if w.only == nil {
		return n, n < w.end
	}
	i, _ := slices.BinarySearch(w.only, n)
	if i == len(w.only) {
		return 0, false
	}
	return w.only[i], true
}
