package emulator

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

// The operations whose calls are counted, so that a fault can hit the nth: the
// first of them, which address a device, for each device too, and so the last,
// which devices do themselves.
const (
	countMethod = iota
	countTwinRead
	countTwinWrite
	countRegistryRead
	countRegistryWrite
	countedOfDevice // how many those are

	countQuery = iota - 1
	countJob
	countStatistics
	countConnect
	countTelemetry
	countTwinGet
	countReportedPatch
	countedOfHub
)

// counted says which counter an operation has.
func counted(op fleet.Operation) int {
	switch op {
	case fleet.OpMethod:
		return countMethod
	case fleet.OpTwinRead:
		return countTwinRead
	case fleet.OpTwinWrite:
		return countTwinWrite
	case fleet.OpRegistryRead:
		return countRegistryRead
	case fleet.OpRegistryWrite:
		return countRegistryWrite
	case fleet.OpQuery:
		return countQuery
	case fleet.OpJob:
		return countJob
	case fleet.OpStatistics:
		return countStatistics
	case fleet.OpConnect:
		return countConnect
	case fleet.OpTelemetry:
		return countTelemetry
	case fleet.OpTwinGet:
		return countTwinGet
	case fleet.OpReportedPatch:
		return countReportedPatch
	}
	panic("emulator: an operation of fault rules that is not counted: " + string(op))
}

// faultOperation is an operation as fault rules name it.
func (o operation) faultOperation() fleet.Operation {
	switch o {
	case opGetTwin:
		return fleet.OpTwinRead
	case opPatchTwin, opPutTwin:
		return fleet.OpTwinWrite
	case opInvoke:
		return fleet.OpMethod
	case opQuery:
		return fleet.OpQuery
	case opGetDevice, opListDevices, opListModules, opGetModule:
		return fleet.OpRegistryRead
	case opPutDevice, opDeleteDevice, opBulk, opPutModule, opDeleteModule, opPurge:
		return fleet.OpRegistryWrite
	case opPutJob, opGetJob, opCancelJob, opListJobs, opListOldJobs, opGetOldJob:
		return fleet.OpJob
	case opDeviceStatistics, opServiceStatistics:
		return fleet.OpStatistics
	case opUnknown, opNotEmulated:
	}
	return ""
}

// nowhere is the device of an operation that addresses none.
func nowhere() device { return device{slot: -1} }

// pass is the last gate before an operation has an effect: throttles, and the
// faults that strike before it. A fault that strikes later is kept for done.
func (x *exchange) pass(d device, cost int) *apiError {
	op := x.route.op
	if refusal := x.paced(x.r.Context(), op.throttle(), cost, op.throttleName()); refusal != nil {
		return refusal
	}
	fault, struck := x.Server.fault(op.faultOperation(), d)
	if !struck {
		return nil
	}
	return x.strike(fault)
}

// fault counts a call, and says what goes wrong with it.
func (s *Server) fault(op fleet.Operation, d device) (fleet.Fault, bool) {
	faults := s.faults.Load()
	if faults.fleet == nil || s.faultsOff.Load() || op == "" {
		return fleet.Fault{}, false
	}
	count := counted(op)
	call := fleet.Call{Operation: op, Device: -1, NthOfHub: int(s.opCalls[count].Add(1))}
	if n := s.store.counter(d, count); n != nil {
		call.NthOfDevice = int(n.Add(1))
		if call.Device = d.slot; d.slot >= s.store.fleetLen {
			call.Device, call.ID = -1, d.id
		}
	}
	return faults.fleet.Fault(call, s.since()-faults.since)
}

// faultSet is the faults that are in force, and since when: those of the fleet
// file from the start.
type faultSet struct {
	fleet *fleet.Fleet // nil if there are none
	since time.Duration
}

// counter is where a device's calls of one kind are counted; nil for calls that
// address no device.
func (s *store) counter(d device, count int) *atomic.Uint32 {
	switch {
	case d.slot < 0:
	case count < countedOfDevice:
		return &s.slot(d.slot).calls[count]
	case count >= countConnect:
		return &s.slot(d.slot).ofLine().calls[count-countConnect]
	}
	return nil
}

// strike does what a fault does before the operation.
func (x *exchange) strike(f fleet.Fault) *apiError {
	switch f.Kind {
	case fleet.FaultBadGateway, fleet.FaultResetAfter, fleet.FaultSlow, fleet.FaultEmptyPage:
		x.fault = f
		return nil
	case fleet.FaultThrottled, fleet.FaultUnauthorized, fleet.FaultServerError, fleet.FaultUnavailable, fleet.FaultResetBefore:
	}
	if x.clock.wait(x.r.Context(), f.Latency) != nil {
		panic(http.ErrAbortHandler) // the caller has gone
	}
	if f.Kind == fleet.FaultResetBefore {
		panic(http.ErrAbortHandler)
	}
	return faultRefusal(f, x.route.op.throttleName())
}

// faultRefusal is the hub's answer in place of an operation; nil for faults
// that do not prevent it.
func faultRefusal(f fleet.Fault, word string) *apiError {
	switch f.Kind {
	case fleet.FaultThrottled:
		return errThrottled(word, f.Wait)
	case fleet.FaultUnauthorized:
		return errUnauthorized("token expired")
	case fleet.FaultServerError:
		return errInternal("An internal error occurred.")
	case fleet.FaultUnavailable:
		return &apiError{status: 503, code: 503001, name: "ServiceUnavailable", text: "The service is unavailable."}
	case fleet.FaultBadGateway, fleet.FaultResetBefore, fleet.FaultResetAfter, fleet.FaultSlow, fleet.FaultEmptyPage:
	}
	return nil
}

// errBadGateway comes after the operation had its effect.
func errBadGateway() *apiError {
	return &apiError{status: 502, code: 502000, name: "InvalidResponseWhileProxying", text: "The response of the service behind the gateway cannot be used."}
}

// done sends what stands in buf, unless a fault strikes after the operation.
func (x *exchange) done(status int) *apiError {
	if x.fault.Kind != "" {
		if x.clock.wait(x.r.Context(), x.fault.Latency) != nil {
			panic(http.ErrAbortHandler)
		}
		switch x.fault.Kind {
		case fleet.FaultResetAfter:
			panic(http.ErrAbortHandler)
		case fleet.FaultBadGateway:
			e := errBadGateway()
			e.shape = x.route.op.shape()
			return e
		case fleet.FaultSlow, fleet.FaultEmptyPage, fleet.FaultThrottled, fleet.FaultUnauthorized,
			fleet.FaultServerError, fleet.FaultUnavailable, fleet.FaultResetBefore:
		}
	}
	if status == http.StatusNoContent {
		x.sendNothing()
		return nil
	}
	x.send(status, x.buf)
	return nil
}

// errAbandoned is what nobody reads: the caller has gone, or the hub closes.
func errAbandoned() *apiError {
	return &apiError{status: 503, code: 503001, name: "ServiceUnavailable", text: "The call was abandoned."}
}

// errThrottled is a 429. The text is the only hint that the hub gives.
func errThrottled(word string, wait time.Duration) *apiError {
	seconds := max(1, int(wait/time.Second))
	return &apiError{
		status: 429, code: 429003, name: "ThrottlingBacklogTimeout",
		wait: seconds,
		text: fmt.Sprintf("The request has been throttled. Wait %d seconds and try again. Operation type: %s", seconds, word),
	}
}

// throttleName is the hub's word for the class of an operation in that text.
func (o operation) throttleName() string {
	switch o {
	case opInvoke:
		return "DirectMethods"
	case opQuery:
		return "Query"
	case opGetTwin:
		return "TwinReads"
	case opPatchTwin, opPutTwin:
		return "TwinUpdates"
	case opPutJob, opGetJob, opCancelJob, opListJobs, opListOldJobs, opGetOldJob:
		return "Jobs"
	case opGetDevice, opPutDevice, opDeleteDevice, opListDevices, opBulk, opListModules, opGetModule,
		opPutModule, opDeleteModule, opDeviceStatistics, opServiceStatistics, opPurge, opUnknown, opNotEmulated:
	}
	return "CRUD"
}
