package emulator

import (
	"context"
	"fmt"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/store"
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
	d, ok := s.Store.Find(id)
	if !ok {
		return Executed{}
	}
	p := s.Store.Peek(d.Slot)
	if p == nil {
		return Executed{}
	}
	return Executed{Methods: int(p.Methods.Load()), Patches: int(p.Patches.Load()), Messages: int(p.Messages.Load())}
}

// EachExecuted calls yield for every device that did something, in the order
// in which queries list them, until yield returns false.
func (s *Server) EachExecuted(yield func(id string, e Executed) bool) {
	for n := range s.Store.Slots() {
		p := s.Store.Peek(n)
		if p == nil {
			continue
		}
		e := Executed{Methods: int(p.Methods.Load()), Patches: int(p.Patches.Load()), Messages: int(p.Messages.Load())}
		if e == (Executed{}) {
			continue
		}
		if d, ok := s.Store.At(n); ok && !yield(d.ID, e) {
			return
		}
	}
}

// ResetExecuted forgets what devices did so far, also for the faults that
// count calls.
func (s *Server) ResetExecuted() {
	for n := range s.Store.Slots() {
		if p := s.Store.Peek(n); p != nil {
			p.Methods.Store(0)
			p.Patches.Store(0)
			p.Messages.Store(0)
		}
	}
	s.recount()
}

// recount forgets which calls faults have counted.
func (s *Server) recount() {
	for n := range s.Store.Slots() {
		if p := s.Store.Peek(n); p != nil {
			p.ResetCalls()
		}
	}
	for i := range s.OpCalls {
		s.OpCalls[i].Store(0)
	}
}

// Accepted returns how many connections the HTTPS listener has accepted.
func (s *Server) Accepted() int {
	if s.bounded == nil {
		return 0
	}
	return int(s.bounded.Accepted.Load())
}

// Devices returns how many devices are registered.
func (s *Server) Devices() int { return int(s.Store.Total.Load()) }

// SetOnline connects or disconnects a simulated device, whatever the fleet
// file says of it.
func (s *Server) SetOnline(id string, online bool) error {
	if online {
		return s.force(id, store.PresenceOnline)
	}
	return s.force(id, store.PresenceOffline)
}

// ReleaseOnline leaves it to the fleet file again whether a device is online.
func (s *Server) ReleaseOnline(id string) error { return s.force(id, store.PresenceAsDescribed) }

func (s *Server) force(id string, presence uint32) error {
	d, ok := s.Store.Find(id)
	if !ok {
		return fmt.Errorf("choose whether device %q is online: no such device", id)
	}
	if d.Slot >= s.Store.FleetLen {
		return fmt.Errorf("choose whether device %q is online: only devices of the fleet file are simulated", id)
	}
	s.Store.Slot(d.Slot).Forced.Store(presence)
	s.Links.WakeAll(d.Slot)
	return nil
}

// Twin returns a device's twin as services read it now, past the query index.
func (s *Server) Twin(id string) ([]byte, bool) { return s.ModuleTwin(id, "") }

// ModuleTwin is Twin for a module; an empty module id stands for the device.
func (s *Server) ModuleTwin(id, module string) ([]byte, bool) {
	m, refusal := s.LookNow(id, module)
	if refusal != nil {
		return nil, false
	}
	return s.AppendTwin(nil, m), true
}

// Now returns the hub's time.
func (s *Server) Now() time.Time { return s.Clock.Now() }

// Advance moves the hub's clock forward by d and wakes what falls due, oldest
// first. Calls that waited go on for themselves; it does not wait for them.
func (s *Server) Advance(d time.Duration) error { return s.Clock.Advance(d) }

// SetTime moves the hub's clock forward to t.
func (s *Server) SetTime(t time.Time) error { return s.Clock.Advance(t.Sub(s.Clock.Now())) }

// SetSkew makes the hub judge tokens as if its clock went ahead of the real one
// by d: tokens that end before look expired. Zero, the default, judges by the
// real time, which [Server.Advance] does not move.
func (s *Server) SetSkew(d time.Duration) { s.Skewed.Store(int64(d)) }

// SetFaults switches the faults of the fleet file on or off. They start on.
func (s *Server) SetFaults(on bool) { s.FaultsOff.Store(!on) }

// ReplaceFaults puts other faults in place of those of the fleet file: src is
// a list as it stands there under faults, YAML or JSON. Calls and time are
// counted anew for them. The name stands in the error, which lists every mistake.
func (s *Server) ReplaceFaults(name string, src []byte) error {
	f := s.Store.Fleet
	if f == nil {
		f = &fleet.Fleet{}
	}
	changed, err := f.WithFaults(name, src)
	if err != nil {
		return err
	}
	s.recount()
	s.Faults.Store(&core.FaultSet{Fleet: changed, Since: s.Since()})
	return nil
}

// EachTwin calls yield for the twins of devices that were written to, or of
// all, in the order in which queries list them, until yield returns false.
func (s *Server) EachTwin(all bool, yield func(twin []byte) bool) {
	now := s.Clock.Now()
	for n := range s.Store.Slots() {
		d, ok := s.Store.At(n)
		if !ok || !all && d.Rec == nil {
			continue
		}
		if !yield(s.AppendTwin(nil, s.Settled(store.Subject{Device: d, Place: -1}, now))) {
			return
		}
	}
}

// Reset makes the hub as it was at its start: the fleet as its file describes
// it, no other devices, no jobs, no counts, the faults of the file. Keys,
// clock, connections and switches stay. What is in flight meanwhile may leave
// traces.
func (s *Server) Reset() {
	s.schedules.Forget()
	for _, n := range s.Store.Reset() {
		s.Cut(n, "the device was deleted")
	}
	s.front.Mail.Empty()
	s.front.Heard.Empty()
	s.ResetExecuted()
	s.FaultsOff.Store(false)
	s.Faults.Store(&core.FaultSet{Fleet: s.Store.Fleet})
	if s.Store.Fleet != nil {
		s.SetIndexLag(s.Store.Fleet.IndexLag())
	}
	if s.stateLog != nil {
		if err := s.saveState(); err != nil {
			s.Log.Error("the state was not saved", "error", err)
		}
	}
}

// SetIndexLag makes queries show writes d after they were made. It overrides
// the fleet file; zero shows them at once.
func (s *Server) SetIndexLag(d time.Duration) { s.Store.Lag.Store(int64(max(d, 0))) }

// Send queues a message for a device, as a service would over AMQP.
func (s *Server) Send(ctx context.Context, deviceID string, m devices.Message) error {
	return s.front.Send(ctx, deviceID, m)
}

// Queue returns the messages that wait for a device, the oldest first.
func (s *Server) Queue(deviceID string) []devices.Waiting { return s.front.Queue(deviceID) }
