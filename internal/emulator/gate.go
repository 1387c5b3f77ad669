package emulator

import (
	"fmt"
	"net/http"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

// The operations whose calls are counted, so that a fault can hit the nth: the
// first of them, which address a device, for each device too.
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
	if refusal := x.admitPaced(x.r.Context(), x.route.op, cost); refusal != nil {
		return refusal
	}
	faults := x.faults.Load()
	if faults == nil {
		return nil
	}
	call := fleet.Call{Operation: x.route.op.faultOperation(), Device: -1}
	if x.faultsOff.Load() || call.Operation == "" {
		return nil
	}
	count := counted(call.Operation)
	call.NthOfHub = int(x.opCalls[count].Add(1))
	if d.slot >= 0 && d.slot < x.store.fleetLen && count < countedOfDevice {
		call.Device = d.slot
		call.NthOfDevice = int(x.store.slot(d.slot).calls[count].Add(1))
	}
	fault, struck := faults.Fault(call, x.since())
	if !struck {
		return nil
	}
	return x.strike(fault)
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
	switch f.Kind {
	case fleet.FaultThrottled:
		return errThrottled(x.route.op, f.Wait)
	case fleet.FaultUnauthorized:
		return errUnauthorized("token expired")
	case fleet.FaultServerError:
		return errInternal("An internal error occurred.")
	case fleet.FaultUnavailable:
		return &apiError{status: 503, code: 503001, name: "ServiceUnavailable", text: "The service is unavailable."}
	case fleet.FaultResetBefore:
		panic(http.ErrAbortHandler)
	case fleet.FaultBadGateway, fleet.FaultResetAfter, fleet.FaultSlow, fleet.FaultEmptyPage:
	}
	return nil
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
			return &apiError{status: 502, code: 502000, name: "InvalidResponseWhileProxying", shape: x.route.op.shape(), text: "The response of the service behind the gateway cannot be used."}
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
func errThrottled(op operation, wait time.Duration) *apiError {
	seconds := max(1, int(wait/time.Second))
	return &apiError{
		status: 429, code: 429003, name: "ThrottlingBacklogTimeout",
		wait: seconds,
		text: fmt.Sprintf("The request has been throttled. Wait %d seconds and try again. Operation type: %s", seconds, op.throttleName()),
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
