package emulator

import (
	"fmt"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

// This file is what tests ask of a hub, past its protocol.

// Executed is what a device really did, whatever its callers were told.
type Executed struct {
	Methods  int `json:"methods"`  // calls that the device took
	Patches  int `json:"patches"`  // accepted writes of its twin by services
	Messages int `json:"messages"` // telemetry that the hub accepted
}

func (e *Executed) add(other Executed) {
	e.Methods += other.Methods
	e.Patches += other.Patches
	e.Messages += other.Messages
}

// Executed returns what a device did since it was registered or the counts
// were reset. Unknown devices did nothing.
func (s *Server) Executed(id string) Executed {
	d, ok := s.store.find(id)
	if !ok {
		return Executed{}
	}
	p := s.store.peek(d.slot)
	if p == nil {
		return Executed{}
	}
	return Executed{Methods: int(p.methods.Load()), Patches: int(p.patches.Load()), Messages: int(p.messages.Load())}
}

// EachExecuted calls yield for every device that did something, in the order
// in which queries list them, until yield returns false.
func (s *Server) EachExecuted(yield func(id string, e Executed) bool) {
	for n := range s.store.slots() {
		p := s.store.peek(n)
		if p == nil {
			continue
		}
		e := Executed{Methods: int(p.methods.Load()), Patches: int(p.patches.Load()), Messages: int(p.messages.Load())}
		if e == (Executed{}) {
			continue
		}
		if d, ok := s.store.at(n); ok && !yield(d.id, e) {
			return
		}
	}
}

// ResetExecuted forgets what devices did so far, also for the faults that
// count calls.
func (s *Server) ResetExecuted() {
	for n := range s.store.slots() {
		if p := s.store.peek(n); p != nil {
			p.methods.Store(0)
			p.patches.Store(0)
			p.messages.Store(0)
		}
	}
	s.recount()
}

// recount forgets which calls faults have counted.
func (s *Server) recount() {
	for n := range s.store.slots() {
		if p := s.store.peek(n); p != nil {
			p.resetCalls()
		}
	}
	for i := range s.opCalls {
		s.opCalls[i].Store(0)
	}
}

// Accepted returns how many connections the HTTPS listener has accepted.
func (s *Server) Accepted() int {
	if s.bounded == nil {
		return 0
	}
	return int(s.bounded.accepted.Load())
}

// Devices returns how many devices are registered.
func (s *Server) Devices() int { return int(s.store.total.Load()) }

// SetOnline connects or disconnects a simulated device, whatever the fleet
// file says of it.
func (s *Server) SetOnline(id string, online bool) error {
	if online {
		return s.force(id, presenceOnline)
	}
	return s.force(id, presenceOffline)
}

// ReleaseOnline leaves it to the fleet file again whether a device is online.
func (s *Server) ReleaseOnline(id string) error { return s.force(id, presenceAsDescribed) }

func (s *Server) force(id string, presence uint32) error {
	d, ok := s.store.find(id)
	if !ok {
		return fmt.Errorf("choose whether device %q is online: no such device", id)
	}
	if d.slot >= s.store.fleetLen {
		return fmt.Errorf("choose whether device %q is online: only devices of the fleet file are simulated", id)
	}
	s.store.slot(d.slot).forced.Store(presence)
	s.links.wakeAll(d.slot)
	return nil
}

// Twin returns a device's twin as services read it now, past the query index.
func (s *Server) Twin(id string) ([]byte, bool) { return s.ModuleTwin(id, "") }

// ModuleTwin is Twin for a module; an empty module id stands for the device.
func (s *Server) ModuleTwin(id, module string) ([]byte, bool) {
	m, refusal := s.lookNow(id, module)
	if refusal != nil {
		return nil, false
	}
	return s.appendTwin(nil, m), true
}

// Now returns the hub's time.
func (s *Server) Now() time.Time { return s.clock.now() }

// Advance moves the hub's clock forward by d and wakes what falls due, oldest
// first. Calls that waited go on for themselves; it does not wait for them.
func (s *Server) Advance(d time.Duration) error { return s.clock.advance(d) }

// SetTime moves the hub's clock forward to t.
func (s *Server) SetTime(t time.Time) error { return s.clock.advance(t.Sub(s.clock.now())) }

// SetSkew makes the hub judge tokens as if its clock went ahead of the real one
// by d: tokens that end before look expired. Zero, the default, judges by the
// real time, which [Server.Advance] does not move.
func (s *Server) SetSkew(d time.Duration) { s.skewed.Store(int64(d)) }

func (s *Server) skew() time.Duration { return time.Duration(s.skewed.Load()) }

// SetFaults switches the faults of the fleet file on or off. They start on.
func (s *Server) SetFaults(on bool) { s.faultsOff.Store(!on) }

// ReplaceFaults puts other faults in place of those of the fleet file: src is
// a list as it stands there under faults, YAML or JSON. Calls and time are
// counted anew for them. The name stands in the error, which lists every mistake.
func (s *Server) ReplaceFaults(name string, src []byte) error {
	f := s.store.fleet
	if f == nil {
		f = &fleet.Fleet{}
	}
	changed, err := f.WithFaults(name, src)
	if err != nil {
		return err
	}
	s.recount()
	s.faults.Store(&faultSet{fleet: changed, since: s.since()})
	return nil
}

// EachTwin calls yield for the twins of devices that were written to, or of
// all, in the order in which queries list them, until yield returns false.
func (s *Server) EachTwin(all bool, yield func(twin []byte) bool) {
	now := s.clock.now()
	for n := range s.store.slots() {
		d, ok := s.store.at(n)
		if !ok || !all && d.rec == nil {
			continue
		}
		if !yield(s.appendTwin(nil, s.settled(subject{device: d, place: -1}, now))) {
			return
		}
	}
}

// Reset makes the hub as it was at its start: the fleet as its file describes
// it, no other devices, no jobs, no counts, the faults of the file. Keys,
// clock, connections and switches stay. What is in flight meanwhile may leave
// traces.
func (s *Server) Reset() {
	s.schedules.forget()
	for _, n := range s.store.reset() {
		s.cut(n, "the device was deleted")
	}
	s.front.mail.empty()
	s.heard.empty()
	s.ResetExecuted()
	s.faultsOff.Store(false)
	s.faults.Store(&faultSet{fleet: s.store.fleet})
	if s.store.fleet != nil {
		s.SetIndexLag(s.store.fleet.IndexLag())
	}
	if s.stateLog != nil {
		if err := s.saveState(); err != nil {
			s.log.Error("the state was not saved", "error", err)
		}
	}
}

// SetIndexLag makes queries show writes d after they were made. It overrides
// the fleet file; zero shows them at once.
func (s *Server) SetIndexLag(d time.Duration) { s.store.lag.Store(int64(max(d, 0))) }
