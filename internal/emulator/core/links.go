package core

import (
	"context"
	"errors"
	"sync"
	"time"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/store"
)

// A Link is a device, or a module, that is connected now. Simulated devices
// and devices that speak MQTT are links alike; methods, jobs and twins know
// nothing else of them.
type Link interface {
	// Ready says whether the device takes methods now. A device that is
	// connected and has not subscribed to methods does not.
	Ready() bool
	// Invoke hands the device a call and waits for its answer until c.timeout
	// of emulated time has passed. From the moment the device has it the call
	// counts in its slot as executed. It returns errNoAnswer, errLinkLost,
	// errBadAnswer or the error of ctx when there is none.
	Invoke(ctx context.Context, c MethodCall) (MethodAnswer, error)
	// Desired tells the device of a write of its desired properties. It must
	// not block and may not call back into the store.
	Desired(n DesiredNotice)
	// Close ends the connection: the device was disabled or deleted, or
	// connected again elsewhere.
	Close(reason string)
}

// MethodCall is a direct method on its way to a device.
type MethodCall struct {
	Name    string
	Payload []byte // a JSON value; nil when the call has none
	Timeout time.Duration
}

// MethodAnswer is what a device answered.
type MethodAnswer struct {
	Status  int
	Payload []byte // a JSON value; nil when the device sent none
}

// DesiredNotice is one write of desired properties.
type DesiredNotice struct {
	Version int64  // $version that the section has now
	Patch   []byte // what was written, nulls included; the whole section after a PUT
}

// How a call that reached a device can end without an answer.
var (
	ErrNoAnswer  = errors.New("the device did not answer in time")
	ErrLinkLost  = errors.New("the device disconnected during the call")
	ErrBadAnswer = errors.New("the device's answer is not JSON")
)

// LinkKey names who is connected. The id is part of it: the slot of a device
// that was deleted is another's soon.
type LinkKey struct {
	Slot   int
	ID     string
	Module string
}

// LinkKeyOf is the key of a subject.
func LinkKeyOf(m store.Subject) LinkKey { return LinkKey{m.Slot, m.ID, m.ModuleID()} }

// Links holds the real connections, and who waits for one. Simulated devices
// are in neither: whether they are online is computed.
type Links struct {
	mu      sync.Mutex
	Live    map[LinkKey]Link                 // guarded by mu
	Waiting map[LinkKey]map[*waiter]struct{} // guarded by mu
}

// waiter is a call that waits for its device to come online.
type waiter struct{ woken chan struct{} }

// NewLinks returns none.
func NewLinks() *Links {
	return &Links{Live: map[LinkKey]Link{}, Waiting: map[LinkKey]map[*waiter]struct{}{}}
}

// Attach makes l the one connection of a device. The connection that it had
// before is closed: the hub allows one.
func (s *Hub) Attach(key LinkKey, l Link) {
	s.Links.mu.Lock()
	before := s.Links.Live[key]
	s.Links.Live[key] = l
	if before == nil {
		s.Store.Slot(key.Slot).Linked.Add(1)
	}
	now := s.Clock.Now()
	s.Store.Slot(key.Slot).Turn(key.Module, now)
	s.Store.Slot(key.Slot).Hear(key.Module, now)
	s.Links.mu.Unlock()
	if before != nil {
		before.Close("the device connected again")
	}
	s.Links.wake(key)
}

// Detach forgets a connection that ended. It does nothing when another has
// taken its place.
func (s *Hub) Detach(key LinkKey, l Link) {
	s.Links.mu.Lock()
	defer s.Links.mu.Unlock()
	if s.Links.Live[key] == l {
		delete(s.Links.Live, key)
		s.Store.Slot(key.Slot).Linked.Add(-1)
		s.Store.Slot(key.Slot).Turn(key.Module, s.Clock.Now())
	}
}

// Readied wakes the calls that waited for a device to take methods.
func (s *Hub) Readied(key LinkKey) { s.Links.wake(key) }

// Cut closes a device's connection, and those of its modules. When it returns
// nothing reaches them any more: the device may be registered again at once.
func (s *Hub) Cut(slot int, reason string) {
	s.cutWhere(slot, reason, func(LinkKey) bool { return true })
}

// CutModule is cut for one module.
func (s *Hub) CutModule(slot int, module, reason string) {
	s.cutWhere(slot, reason, func(key LinkKey) bool { return key.Module == module })
}

func (s *Hub) cutWhere(slot int, reason string, chosen func(LinkKey) bool) {
	p := s.Store.Peek(slot)
	if p == nil || p.Linked.Load() == 0 {
		return
	}
	s.Links.mu.Lock()
	var ended []Link
	for key, l := range s.Links.Live {
		if key.Slot == slot && chosen(key) {
			ended = append(ended, l)
			delete(s.Links.Live, key)
			p.Linked.Add(-1)
			p.Turn(key.Module, s.Clock.Now())
		}
	}
	s.Links.mu.Unlock()
	for _, l := range ended {
		l.Close(reason)
	}
}

// isReal says whether a subject has a connection of its own now, so that
// nothing of it is simulated.
func (s *Hub) isReal(m store.Subject) bool {
	p := s.Store.Peek(m.Slot)
	if p == nil || p.Linked.Load() == 0 {
		return false
	}
	s.Links.mu.Lock()
	defer s.Links.mu.Unlock()
	return s.Links.Live[LinkKeyOf(m)] != nil
}

// Connected returns a subject's Link, nil when it is not connected.
func (s *Hub) Connected(m store.Subject) Link {
	if store.Disabled(m.Rec) == 1 {
		return nil
	}
	p := s.Store.Peek(m.Slot)
	if p != nil && p.Linked.Load() > 0 {
		s.Links.mu.Lock()
		l := s.Links.Live[LinkKeyOf(m)]
		s.Links.mu.Unlock()
		if l != nil {
			return l
		}
	}
	if s.simulatedOnline(m, p) {
		return Simulated{server: s, subject: m}
	}
	return nil
}

// simulatedOnline says whether the fleet's device is online now. A module that
// the fleet file does not have is nobody's.
func (s *Hub) simulatedOnline(m store.Subject, p *store.Slot) bool {
	if m.Slot >= s.Store.FleetLen || m.Mod != nil && m.Place < 0 {
		return false
	}
	if p != nil {
		switch p.Forced.Load() {
		case store.PresenceOnline:
			return true
		case store.PresenceOffline:
			return false
		}
	}
	return s.Store.Fleet.Online(m.Slot, s.Since())
}

// onlinePoll is how often a waiting call looks whether the fleet file has its
// device online by now. Devices that connect for real wake it at once.
const onlinePoll = 50 * time.Millisecond

// awaitLink returns a link that takes methods, waiting up to d for one. It
// returns nil when there is none.
func (s *Hub) awaitLink(ctx context.Context, m store.Subject, d time.Duration) Link {
	if l := s.Connected(m); l != nil && l.Ready() {
		return l
	}
	if d <= 0 {
		return nil
	}
	key := LinkKeyOf(m)
	w := s.Links.enlist(key)
	defer s.Links.leave(key, w)
	limit := s.Clock.After(d)
	defer s.Clock.Stop(limit)
	for {
		if l := s.Connected(m); l != nil && l.Ready() {
			return l
		}
		poll := s.Clock.After(onlinePoll)
		select {
		case <-w.woken:
		case <-poll.Woken:
		case <-limit.Woken:
			s.Clock.Stop(poll)
			return nil
		case <-ctx.Done():
			s.Clock.Stop(poll)
			return nil
		}
		s.Clock.Stop(poll)
	}
}

func (l *Links) enlist(key LinkKey) *waiter {
	w := &waiter{woken: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Waiting[key] == nil {
		l.Waiting[key] = map[*waiter]struct{}{}
	}
	l.Waiting[key][w] = struct{}{}
	return w
}

func (l *Links) leave(key LinkKey, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.Waiting[key], w)
	if len(l.Waiting[key]) == 0 {
		delete(l.Waiting, key)
	}
}

func (l *Links) wake(key LinkKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.Waiting[key] {
		select {
		case w.woken <- struct{}{}:
		default: // it has been told and not looked yet
		}
	}
}

// WakeAll wakes who waits for a device or for any of its modules.
func (l *Links) WakeAll(slot int) {
	l.mu.Lock()
	var keys []LinkKey
	for key := range l.Waiting {
		if key.Slot == slot {
			keys = append(keys, key)
		}
	}
	l.mu.Unlock()
	for _, key := range keys {
		l.wake(key)
	}
}

// Simulated is the link of a fleet device.
type Simulated struct {
	server  *Hub
	subject store.Subject
}

// Ready is true: a simulated device takes methods whenever it is online.
func (Simulated) Ready() bool { return true }

// Close does nothing.
func (Simulated) Close(string) {}

// Desired does nothing: what a simulated device reports after a write is
// decided with the write.
func (Simulated) Desired(DesiredNotice) {}

// Invoke asks the device and waits as long as it takes to answer.
func (d Simulated) Invoke(ctx context.Context, c MethodCall) (MethodAnswer, error) {
	answer, after, err := d.React(c)
	if waited := d.server.Clock.Wait(ctx, after); waited != nil {
		return MethodAnswer{}, waited
	}
	return answer, err
}

// React hands the device a call and returns what comes of it, and after how
// long. The call counts as executed from now.
func (d Simulated) React(c MethodCall) (MethodAnswer, time.Duration, error) {
	s, m := d.server, d.subject
	nth := int(s.Store.CountCall(m.Slot))
	var r fleet.Reaction
	if m.Mod != nil {
		r = s.Store.Fleet.InvokeModule(m.Slot, m.Place, c.Name, nth, c.Payload)
	} else {
		r = s.Store.Fleet.Invoke(m.Slot, c.Name, nth, c.Payload)
	}
	if r.Kind == fleet.Hangs || r.Latency >= c.Timeout {
		return MethodAnswer{}, c.Timeout, ErrNoAnswer
	}
	switch r.Kind {
	case fleet.Garbage:
		return MethodAnswer{}, r.Latency, ErrBadAnswer
	case fleet.Disconnects:
		return MethodAnswer{}, r.Latency, ErrLinkLost
	case fleet.Answers, fleet.Hangs:
	}
	return MethodAnswer{Status: r.Status, Payload: r.Payload}, r.Latency, nil
}
