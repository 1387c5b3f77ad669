// Package store holds the devices of the hub, their identities and twins.
package store

import (
	"sync"
	"sync/atomic"
	"time"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/twindoc"
)

// Store holds every device of the hub.
//
// A device has a slot, a number that it keeps while it is registered: the
// fleet's devices come first, in the order of the fleet, then those that were
// registered, in the order they came. Queries walk the slots, so a page token
// is little more than a slot number.
//
// A slot points to the device's record, or to nothing while the device is as
// the fleet file made it. Records are never changed: a write makes a new one
// under the slot's lock, and readers take none.
type Store struct {
	Fleet    *fleet.Fleet
	FleetLen int
	Born     time.Time
	chunks   []atomic.Pointer[chunk]
	locks    [256]sync.Mutex // by slot
	orders   [256]sync.Mutex // by slot; held from a write until its device was told
	gone     *Record         // what the slot of a deleted device points to

	mu     sync.RWMutex
	added  map[string]int // slots of devices that are not the fleet's; guarded by mu
	free   []int          // slots of added devices that were deleted; guarded by mu
	next   int            // the first slot never used; guarded by mu
	called []int          // slots whose counts are to be kept; guarded by mu
	shared atomic.Int64   // next, for those who walk the slots

	Total    atomic.Int64
	Disabled atomic.Int64

	Lag atomic.Int64 // how old the state is that queries see

	birth   []twindoc.Stamp // of everything that nobody has written to yet
	Changed func(*Kept)     // is told of every change; nil unless the state is kept
}

// Bear sets when the twins were made that nobody has written to. Only a hub
// that nobody uses yet may be told.
func (s *Store) Bear(born time.Time) {
	s.Born, s.birth = born, []twindoc.Stamp{{At: born.UnixNano(), Version: 1}}
}

// Slot is what the hub keeps of a device beside its record.
type Slot struct {
	record   atomic.Pointer[Record]
	Methods  atomic.Uint32 // calls that the device took
	Patches  atomic.Uint32 // accepted writes of its twin by services
	Messages atomic.Uint32 // telemetry that the hub accepted
	Forced   atomic.Uint32 // a presence that tests chose
	Linked   atomic.Int32  // how many real connections it and its modules have
	calls    [countedOfDevice]atomic.Uint32
	Line     atomic.Pointer[line] // nil until the device connects for real
	called   atomic.Bool          // methods grew, and no state file has it yet
}

// line is what the hub keeps of a device that has connected for real. Few of a
// large fleet do, so that the others do not pay for it.
type line struct {
	calls [CountedOfHub - CountConnect]atomic.Uint32

	Mu       sync.Mutex
	Activity map[string]activity // by module id, empty for the device; guarded by mu
}

func (p *Slot) ofLine() *line {
	if p.Line.Load() == nil {
		p.Line.CompareAndSwap(nil, new(line))
	}
	return p.Line.Load()
}

// ResetCalls forgets what faults counted.
func (p *Slot) ResetCalls() {
	for i := range p.calls {
		p.calls[i].Store(0)
	}
	if l := p.Line.Load(); l != nil {
		for i := range l.calls {
			l.calls[i].Store(0)
		}
	}
}

// chunk is made when one of its devices is first touched.
type chunk [4096]Slot

// maxAdded bounds what can be registered beside the fleet: what one hub holds.
const maxAdded = 1_000_000

// Record is everything that was written of a device.
type Record struct {
	ID      string    // of added devices; the fleet knows its own
	deleted bool      //
	Ident   *Identity // nil: derived, as for any device nobody has updated
	Twin    twindoc.Twin
	Modules []*Module // sorted by id
	Own     bool      // modules are those of the record, no longer the fleet's

	// since is when this record replaced prev, and lag how far queries lagged
	// then. All are zero unless queries lag; a record from before shows at once.
	since int64
	lag   int64
	Prev  atomic.Pointer[Record]
}

// Module is a module of a device, with its own identity and twin.
type Module struct {
	ID        string
	Ident     *Identity
	Twin      twindoc.Twin
	ManagedBy string
}

// Device is one look at a device. What it shows does not change under the
// reader; another look may show something else.
type Device struct {
	Slot int
	ID   string
	Rec  *Record // nil: as the fleet made it
}

// New returns the store of a fleet that was born at a time.
func New(f *fleet.Fleet, born time.Time) *Store {
	s := &Store{Fleet: f, gone: &Record{deleted: true}, added: map[string]int{}}
	s.Bear(born)
	if f != nil {
		s.FleetLen = f.Len()
		s.Lag.Store(int64(f.IndexLag()))
	}
	s.next = s.FleetLen
	s.shared.Store(int64(s.next))
	s.Total.Store(int64(s.FleetLen))
	s.chunks = make([]atomic.Pointer[chunk], (s.FleetLen+maxAdded)/len(chunk{})+1)
	return s
}

// Peek returns a slot, nil while nothing near it has been touched.
func (s *Store) Peek(n int) *Slot {
	c := s.chunks[n/len(chunk{})].Load()
	if c == nil {
		return nil
	}
	return &c[n%len(chunk{})]
}

// Slot returns a slot that can be written to.
func (s *Store) Slot(n int) *Slot {
	place := &s.chunks[n/len(chunk{})]
	c := place.Load()
	if c == nil {
		place.CompareAndSwap(nil, new(chunk))
		c = place.Load()
	}
	return &c[n%len(chunk{})]
}

// Find looks a device up by its id.
func (s *Store) Find(id string) (Device, bool) {
	n, ok := s.place(id)
	if !ok {
		return Device{}, false
	}
	d := Device{Slot: n, ID: id, Rec: s.record(n)}
	if d.Rec == nil {
		return d, n < s.FleetLen
	}
	if d.Rec.deleted || d.Rec.ID != "" && d.Rec.ID != id {
		return Device{}, false // deleted, and its slot perhaps given away meanwhile
	}
	return d, true
}

func (s *Store) place(id string) (int, bool) {
	if s.FleetLen > 0 {
		if n, ok := s.Fleet.Index(id); ok {
			return n, true
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, ok := s.added[id]
	return n, ok
}

func (s *Store) record(n int) *Record {
	if p := s.Peek(n); p != nil {
		return p.record.Load()
	}
	return nil
}

// At returns the device in a slot, if there is one.
func (s *Store) At(n int) (Device, bool) {
	return s.seen(n, s.record(n))
}

// seen makes a device of a slot and a record of it.
func (s *Store) seen(n int, rec *Record) (Device, bool) {
	if rec == nil {
		if n >= s.FleetLen {
			return Device{}, false
		}
		return Device{Slot: n, ID: s.Fleet.ID(n)}, true
	}
	if rec.deleted {
		return Device{}, false
	}
	if rec.ID != "" {
		return Device{Slot: n, ID: rec.ID, Rec: rec}, true
	}
	return Device{Slot: n, ID: s.Fleet.ID(n), Rec: rec}, true
}

// Lagged returns the device in a slot as queries see it now.
func (s *Store) Lagged(n int, now time.Time) (Device, bool) {
	rec := s.record(n)
	lag := s.Lag.Load()
	if lag > 0 {
		for rec != nil && !rec.shows(now.UnixNano(), lag) && rec.Prev.Load() != rec {
			rec = rec.Prev.Load()
		}
	}
	return s.seen(n, rec)
}

// shows tells whether queries see the record, if they lag so far now. That they
// are made to lag further hides nothing that they have shown.
func (r *Record) shows(now, lag int64) bool { return r.since+min(lag, r.lag) <= now }

// Slots returns how many slots there are to walk.
func (s *Store) Slots() int { return int(s.shared.Load()) }

// Update replaces a device's record by what change makes of it. It returns the
// device as it is then. Change runs under the device's lock and must be quick.
func (s *Store) Update(id string, now time.Time, change func(d Device) (*Record, *refuse.Error)) (Device, *refuse.Error) {
	n, ok := s.place(id)
	if !ok {
		return Device{}, refuse.DeviceNotFound(id)
	}
	lock := s.lock(n)
	lock.Lock()
	defer lock.Unlock()
	d, ok := s.At(n)
	if !ok || d.ID != id {
		return d, refuse.DeviceNotFound(id)
	}
	next, refusal := change(d)
	if refusal != nil {
		return d, refusal
	}
	s.swap(n, next, now)
	d.Rec = next
	return d, nil
}

// Order is the lock for those who write desired properties of a device.
func (s *Store) Order(id string) *sync.Mutex {
	n, _ := s.place(id)
	return &s.orders[n%len(s.orders)]
}

func (s *Store) lock(n int) *sync.Mutex { return &s.locks[n%len(s.locks)] }

// swap puts a record in place and keeps the counts. The slot's lock is held.
func (s *Store) swap(n int, next *Record, now time.Time) {
	p := s.Slot(n)
	before := p.record.Load()
	if lag := s.Lag.Load(); lag > 0 {
		next = remembering(next, before, now.UnixNano(), lag)
	}
	if s.Changed != nil {
		// First: who reads what the next line makes visible must not lose it.
		s.Changed(s.kept(n, next, before))
	}
	p.record.Store(next)
	s.Total.Add(s.exists(n, next) - s.exists(n, before))
	s.Disabled.Add(Disabled(next) - Disabled(before))
}

// MaxRemembered is how many writes of a device queries can lag behind. A device
// that is written to more often lags less: memory does not grow with a lag.
const MaxRemembered = 64

// remembering makes next a record that leads back to what queries still show,
// and drops what is too old even for them.
func remembering(next, before *Record, now, lag int64) *Record {
	if next.deleted {
		next = &Record{deleted: true} // the common one leads nowhere
	}
	next.since, next.lag = now, lag
	next.Prev.Store(before)
	kept := 0
	for r := before; r != nil; r = r.Prev.Load() {
		switch kept++; {
		case r.shows(now, lag):
			r.Prev.Store(nil)
			return next
		case kept == MaxRemembered:
			r.Prev.Store(r) // nothing older can be shown; this is as old as it gets
			return next
		}
	}
	return next
}

func (s *Store) exists(n int, r *Record) int64 {
	if r == nil && n >= s.FleetLen || r != nil && r.deleted {
		return 0
	}
	return 1
}

// Disabled is 1 for a device that is disabled, 0 for others.
func Disabled(r *Record) int64 {
	if r != nil && !r.deleted && r.Ident != nil && r.Ident.Disabled {
		return 1
	}
	return 0
}

// CountCall counts a call that a device took. It returns which one it is.
func (s *Store) CountCall(n int) uint32 {
	p := s.Slot(n)
	nth := p.Methods.Add(1)
	if s.Changed != nil && !p.called.Swap(true) {
		s.mu.Lock()
		s.called = append(s.called, n)
		s.mu.Unlock()
	}
	return nth
}

// Create registers a device. The record has its id.
func (s *Store) Create(id string, rec *Record, now time.Time) (Device, *refuse.Error) {
	if s.FleetLen > 0 {
		if n, ok := s.Fleet.Index(id); ok {
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
	case s.next-s.FleetLen >= maxAdded:
		return Device{}, &refuse.Error{Status: 403, Code: 403002, Name: "IotHubQuotaExceeded", Text: "The hub holds as many devices as it can."}
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
func (s *Store) fill(n int, id string, rec *Record, now time.Time) (Device, *refuse.Error) {
	lock := s.lock(n)
	lock.Lock()
	defer lock.Unlock()
	if _, taken := s.At(n); taken {
		return Device{}, &refuse.Error{Status: 409, Code: 409001, Name: "DeviceAlreadyExists", Text: "A device with ID '" + id + "' is already registered."}
	}
	s.swap(n, rec, now)
	p := s.Slot(n)
	p.Methods.Store(0)
	p.Patches.Store(0)
	p.Messages.Store(0)
	p.ResetCalls()
	p.Line.Store(nil)
	p.Forced.Store(0)
	return Device{Slot: n, ID: id, Rec: rec}, nil
}

// Remove takes a device out of the registry if allowed agrees.
func (s *Store) Remove(id string, now time.Time, allowed func(d Device) *refuse.Error) (Device, *refuse.Error) {
	var last Device
	_, refusal := s.Update(id, now, func(d Device) (*Record, *refuse.Error) {
		last = d
		return s.gone, allowed(d)
	})
	if refusal != nil || last.Slot < s.FleetLen {
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

// Reset makes the registry as it was at the start. It returns the slots whose
// devices are no longer what they were.
func (s *Store) Reset() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []int
	for n := range s.next {
		p := s.Peek(n)
		if p == nil {
			continue
		}
		lock := s.lock(n)
		lock.Lock()
		before := p.record.Load()
		var fresh *Record
		if n >= s.FleetLen {
			fresh = s.gone
		}
		p.Forced.Store(PresenceAsDescribed)
		if before != nil && before != fresh {
			p.record.Store(fresh)
			s.Total.Add(s.exists(n, fresh) - s.exists(n, before))
			s.Disabled.Add(Disabled(fresh) - Disabled(before))
			changed = append(changed, n)
		}
		lock.Unlock()
	}
	clear(s.added)
	s.free, s.next = nil, s.FleetLen
	s.shared.Store(int64(s.next))
	return changed
}

// CopyOf returns a new record that says the same as a device's.
func (s *Store) CopyOf(d Device) *Record {
	if d.Rec == nil {
		return &Record{Twin: s.pristine()}
	}
	r := d.Rec
	return &Record{ID: r.ID, Ident: r.Ident, Twin: r.Twin, Modules: r.Modules, Own: r.Own}
}

// pristine is a twin that the fleet file gives, as nobody has written to it.
func (s *Store) pristine() twindoc.Twin {
	sec := twindoc.Section{Stamps: s.birth, Version: 1, Inherited: true}
	return twindoc.Twin{Tags: sec, Desired: sec, Reported: sec, ETag: 1, Version: twindoc.FirstVersion}
}
