package emulator

import (
	"context"
	"errors"
	"sync"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

// A link is a device, or a module, that is connected now. Simulated devices
// and devices that speak MQTT are links alike; methods, jobs and twins know
// nothing else of them.
type link interface {
	// ready says whether the device takes methods now. A device that is
	// connected and has not subscribed to methods does not.
	ready() bool
	// invoke hands the device a call and waits for its answer until c.timeout
	// of emulated time has passed. From the moment the device has it the call
	// counts in its slot as executed. It returns errNoAnswer, errLinkLost,
	// errBadAnswer or the error of ctx when there is none.
	invoke(ctx context.Context, c methodCall) (methodAnswer, error)
	// desired tells the device of a write of its desired properties. It must
	// not block and may not call back into the store.
	desired(n desiredNotice)
	// close ends the connection: the device was disabled or deleted, or
	// connected again elsewhere.
	close(reason string)
}

// methodCall is a direct method on its way to a device.
type methodCall struct {
	name    string
	payload []byte // a JSON value; nil when the call has none
	timeout time.Duration
}

// methodAnswer is what a device answered.
type methodAnswer struct {
	status  int
	payload []byte // a JSON value; nil when the device sent none
}

// desiredNotice is one write of desired properties.
type desiredNotice struct {
	version int64  // $version that the section has now
	patch   []byte // what was written, nulls included; the whole section after a PUT
}

// How a call that reached a device can end without an answer.
var (
	errNoAnswer  = errors.New("the device did not answer in time")
	errLinkLost  = errors.New("the device disconnected during the call")
	errBadAnswer = errors.New("the device's answer is not JSON")
)

// linkKey names who is connected. The id is part of it: the slot of a device
// that was deleted is another's soon.
type linkKey struct {
	slot   int
	id     string
	module string
}

func (m subject) key() linkKey { return linkKey{m.slot, m.id, m.moduleID()} }

// links holds the real connections, and who waits for one. Simulated devices
// are in neither: whether they are online is computed.
type links struct {
	mu      sync.Mutex
	live    map[linkKey]link                 // guarded by mu
	waiting map[linkKey]map[*waiter]struct{} // guarded by mu
}

// waiter is a call that waits for its device to come online.
type waiter struct{ woken chan struct{} }

func newLinks() *links {
	return &links{live: map[linkKey]link{}, waiting: map[linkKey]map[*waiter]struct{}{}}
}

// attach makes l the one connection of a device. The connection that it had
// before is closed: the hub allows one.
func (s *Server) attach(key linkKey, l link) {
	s.links.mu.Lock()
	before := s.links.live[key]
	s.links.live[key] = l
	if before == nil {
		s.store.slot(key.slot).linked.Add(1)
	}
	now := s.clock.now()
	s.store.slot(key.slot).turn(key.module, now)
	s.store.slot(key.slot).hear(key.module, now)
	s.links.mu.Unlock()
	if before != nil {
		before.close("the device connected again")
	}
	s.links.wake(key)
}

// detach forgets a connection that ended. It does nothing when another has
// taken its place.
func (s *Server) detach(key linkKey, l link) {
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	if s.links.live[key] == l {
		delete(s.links.live, key)
		s.store.slot(key.slot).linked.Add(-1)
		s.store.slot(key.slot).turn(key.module, s.clock.now())
	}
}

// readied wakes the calls that waited for a device to take methods.
func (s *Server) readied(key linkKey) { s.links.wake(key) }

// cut closes a device's connection, and those of its modules. When it returns
// nothing reaches them any more: the device may be registered again at once.
func (s *Server) cut(slot int, reason string) {
	s.cutWhere(slot, reason, func(linkKey) bool { return true })
}

// cutModule is cut for one module.
func (s *Server) cutModule(slot int, module, reason string) {
	s.cutWhere(slot, reason, func(key linkKey) bool { return key.module == module })
}

func (s *Server) cutWhere(slot int, reason string, chosen func(linkKey) bool) {
	p := s.store.peek(slot)
	if p == nil || p.linked.Load() == 0 {
		return
	}
	s.links.mu.Lock()
	var ended []link
	for key, l := range s.links.live {
		if key.slot == slot && chosen(key) {
			ended = append(ended, l)
			delete(s.links.live, key)
			p.linked.Add(-1)
			p.turn(key.module, s.clock.now())
		}
	}
	s.links.mu.Unlock()
	for _, l := range ended {
		l.close(reason)
	}
}

// isReal says whether a subject has a connection of its own now, so that
// nothing of it is simulated.
func (s *Server) isReal(m subject) bool {
	p := s.store.peek(m.slot)
	if p == nil || p.linked.Load() == 0 {
		return false
	}
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	return s.links.live[m.key()] != nil
}

// connected returns a subject's link, nil when it is not connected.
func (s *Server) connected(m subject) link {
	if disabled(m.rec) == 1 {
		return nil
	}
	p := s.store.peek(m.slot)
	if p != nil && p.linked.Load() > 0 {
		s.links.mu.Lock()
		l := s.links.live[m.key()]
		s.links.mu.Unlock()
		if l != nil {
			return l
		}
	}
	if s.simulatedOnline(m, p) {
		return simulated{server: s, subject: m}
	}
	return nil
}

// The values of slot.forced.
const (
	presenceAsDescribed uint32 = iota
	presenceOnline
	presenceOffline
)

// simulatedOnline says whether the fleet's device is online now. A module that
// the fleet file does not have is nobody's.
func (s *Server) simulatedOnline(m subject, p *slot) bool {
	if m.slot >= s.store.fleetLen || m.mod != nil && m.place < 0 {
		return false
	}
	if p != nil {
		switch p.forced.Load() {
		case presenceOnline:
			return true
		case presenceOffline:
			return false
		}
	}
	return s.store.fleet.Online(m.slot, s.since())
}

// onlinePoll is how often a waiting call looks whether the fleet file has its
// device online by now. Devices that connect for real wake it at once.
const onlinePoll = 50 * time.Millisecond

// awaitLink returns a link that takes methods, waiting up to d for one. It
// returns nil when there is none.
func (s *Server) awaitLink(ctx context.Context, m subject, d time.Duration) link {
	if l := s.connected(m); l != nil && l.ready() {
		return l
	}
	if d <= 0 {
		return nil
	}
	key := m.key()
	w := s.links.enlist(key)
	defer s.links.leave(key, w)
	limit := s.clock.after(d)
	defer s.clock.stop(limit)
	for {
		if l := s.connected(m); l != nil && l.ready() {
			return l
		}
		poll := s.clock.after(onlinePoll)
		select {
		case <-w.woken:
		case <-poll.woken:
		case <-limit.woken:
			s.clock.stop(poll)
			return nil
		case <-ctx.Done():
			s.clock.stop(poll)
			return nil
		}
		s.clock.stop(poll)
	}
}

func (l *links) enlist(key linkKey) *waiter {
	w := &waiter{woken: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[key] == nil {
		l.waiting[key] = map[*waiter]struct{}{}
	}
	l.waiting[key][w] = struct{}{}
	return w
}

func (l *links) leave(key linkKey, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting[key], w)
	if len(l.waiting[key]) == 0 {
		delete(l.waiting, key)
	}
}

func (l *links) wake(key linkKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.waiting[key] {
		select {
		case w.woken <- struct{}{}:
		default: // it has been told and not looked yet
		}
	}
}

// wakeAll wakes who waits for a device or for any of its modules.
func (l *links) wakeAll(slot int) {
	l.mu.Lock()
	var keys []linkKey
	for key := range l.waiting {
		if key.slot == slot {
			keys = append(keys, key)
		}
	}
	l.mu.Unlock()
	for _, key := range keys {
		l.wake(key)
	}
}

// simulated is the link of a fleet device.
type simulated struct {
	server  *Server
	subject subject
}

func (simulated) ready() bool  { return true }
func (simulated) close(string) {}

// desired does nothing: what a simulated device reports after a write is
// decided with the write.
func (simulated) desired(desiredNotice) {}

// invoke asks the device and waits as long as it takes to answer.
func (d simulated) invoke(ctx context.Context, c methodCall) (methodAnswer, error) {
	answer, after, err := d.react(c)
	if waited := d.server.clock.wait(ctx, after); waited != nil {
		return methodAnswer{}, waited
	}
	return answer, err
}

// react hands the device a call and returns what comes of it, and after how
// long. The call counts as executed from now.
func (d simulated) react(c methodCall) (methodAnswer, time.Duration, error) {
	s, m := d.server, d.subject
	nth := int(s.store.countCall(m.slot))
	var r fleet.Reaction
	if m.mod != nil {
		r = s.store.fleet.InvokeModule(m.slot, m.place, c.name, nth, c.payload)
	} else {
		r = s.store.fleet.Invoke(m.slot, c.name, nth, c.payload)
	}
	if r.Kind == fleet.Hangs || r.Latency >= c.timeout {
		return methodAnswer{}, c.timeout, errNoAnswer
	}
	switch r.Kind {
	case fleet.Garbage:
		return methodAnswer{}, r.Latency, errBadAnswer
	case fleet.Disconnects:
		return methodAnswer{}, r.Latency, errLinkLost
	case fleet.Answers, fleet.Hangs:
	}
	return methodAnswer{status: r.Status, payload: r.Payload}, r.Latency, nil
}
