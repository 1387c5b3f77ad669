package core

import (
	"fmt"
	"time"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// Nowhere is the device of an operation that addresses none.
func Nowhere() store.Device { return store.Device{Slot: -1} }

// Fault counts a call, and says what goes wrong with it. One to the Jobs service is
// counted by itself and with the others to it.
func (s *Hub) Fault(op fleet.Operation, d store.Device) (fleet.Fault, bool) {
	own, struck := s.faultOf(op, d)
	if !op.OfJobs() {
		return own, struck
	}
	if of, any := s.faultOf(fleet.OpJob, d); !struck {
		return of, any
	}
	return own, struck
}

func (s *Hub) faultOf(op fleet.Operation, d store.Device) (fleet.Fault, bool) {
	faults := s.Faults.Load()
	if faults.Fleet == nil || s.FaultsOff.Load() || op == "" {
		return fleet.Fault{}, false
	}
	count := counted(op)
	call := fleet.Call{Operation: op, Device: -1, NthOfHub: int(s.OpCalls[count].Add(1))}
	if n := s.Store.Counter(d, count); n != nil {
		call.NthOfDevice = int(n.Add(1))
		if call.Device = d.Slot; d.Slot >= s.Store.FleetLen {
			call.Device, call.ID = -1, d.ID
		}
	}
	return faults.Fleet.Fault(call, s.Since()-faults.Since)
}

// FaultSet is the faults that are in force, and since when: those of the fleet
// file from the start.
type FaultSet struct {
	Fleet *fleet.Fleet // nil if there are none
	Since time.Duration
}

// FaultRefusal is the hub's answer in place of an operation; nil for faults
// that do not prevent it.
func FaultRefusal(f fleet.Fault, word string) *refuse.Error {
	switch f.Kind {
	case fleet.FaultThrottled:
		return errThrottled(word, f.Wait)
	case fleet.FaultUnauthorized:
		return refuse.Unauthorized("token expired")
	case fleet.FaultServerError:
		return refuse.Internal("An internal error occurred.")
	case fleet.FaultUnavailable:
		return &refuse.Error{Status: 503, Code: 503001, Name: "ServiceUnavailable", Text: "The service is unavailable."}
	case fleet.FaultBadGateway, fleet.FaultResetBefore, fleet.FaultResetAfter, fleet.FaultSlow, fleet.FaultEmptyPage:
	}
	return nil
}

// ErrBadGateway comes after the operation had its effect.
func ErrBadGateway() *refuse.Error {
	return &refuse.Error{Status: 502, Code: 502000, Name: "InvalidResponseWhileProxying", Text: "The response of the service behind the gateway cannot be used."}
}

// errThrottled is a 429. The text is the only hint that the hub gives.
func errThrottled(word string, wait time.Duration) *refuse.Error {
	seconds := max(1, int(wait/time.Second))
	return &refuse.Error{
		Status: 429, Code: 429003, Name: "ThrottlingBacklogTimeout",
		Wait: seconds,
		Text: fmt.Sprintf("The request has been throttled. Wait %d seconds and try again. Operation type: %s", seconds, word),
	}
}

// errAbandoned is what nobody reads: the caller has gone, or the hub closes.
func errAbandoned() *refuse.Error {
	return &refuse.Error{Status: 503, Code: 503001, Name: "ServiceUnavailable", Text: "The call was abandoned."}
}
