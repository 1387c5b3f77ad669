package emulator

import (
	"fmt"
	"time"
)

// This file is what tests ask of a hub, past its protocol.

// Executed is what a device really did, whatever its callers were told.
type Executed struct {
	Methods int // calls that the device took
	Patches int // accepted writes of its twin by services
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
	return Executed{Methods: int(p.methods.Load()), Patches: int(p.patches.Load())}
}

// EachExecuted calls yield for every device that did something, in the order
// in which queries list them, until yield returns false.
func (s *Server) EachExecuted(yield func(id string, e Executed) bool) {
	for n := range s.store.slots() {
		p := s.store.peek(n)
		if p == nil {
			continue
		}
		e := Executed{Methods: int(p.methods.Load()), Patches: int(p.patches.Load())}
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
			for i := range p.calls {
				p.calls[i].Store(0)
			}
		}
	}
	for i := range s.opCalls {
		s.opCalls[i].Store(0)
	}
}

// Devices returns how many devices are registered.
func (s *Server) Devices() int { return int(s.store.total.Load()) }

// SetOnline connects or disconnects a simulated device, whatever the fleet
// file says of it.
func (s *Server) SetOnline(id string, online bool) error {
	d, ok := s.store.find(id)
	if !ok {
		return fmt.Errorf("set device %q online: no such device", id)
	}
	if d.slot >= s.store.fleetLen {
		return fmt.Errorf("set device %q online: only devices of the fleet file are simulated", id)
	}
	p := s.store.slot(d.slot)
	if !online {
		p.forced.Store(presenceOffline)
		return nil
	}
	p.forced.Store(presenceOnline)
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

// SetIndexLag makes queries show writes d after they were made. It overrides
// the fleet file; zero shows them at once.
func (s *Server) SetIndexLag(d time.Duration) { s.store.lag.Store(int64(max(d, 0))) }
