package emulator

import (
	"net/http"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// pass is the last gate before an operation has an effect: throttles, and the
// faults that strike before it. A fault that strikes later is kept for done.
func (x *exchange) pass(d store.Device, cost int) *refuse.Error {
	op := x.route.op
	if refusal := x.Paced(x.r.Context(), op.Throttle(), cost, op.ThrottleName()); refusal != nil {
		return refusal
	}
	fault, struck := x.Fault(op.FaultOperation(), d)
	if !struck {
		return nil
	}
	return x.strike(fault)
}

// strike does what a fault does before the operation.
func (x *exchange) strike(f fleet.Fault) *refuse.Error {
	switch f.Kind {
	case fleet.FaultBadGateway, fleet.FaultResetAfter, fleet.FaultSlow, fleet.FaultEmptyPage:
		x.fault = f
		return nil
	case fleet.FaultThrottled, fleet.FaultUnauthorized, fleet.FaultServerError, fleet.FaultUnavailable, fleet.FaultResetBefore:
	}
	if x.Clock.Wait(x.r.Context(), f.Latency) != nil {
		panic(http.ErrAbortHandler) // the caller has gone
	}
	if f.Kind == fleet.FaultResetBefore {
		panic(http.ErrAbortHandler)
	}
	return core.FaultRefusal(f, x.route.op.ThrottleName())
}

// done sends what stands in buf, unless a fault strikes after the operation.
func (x *exchange) done(status int) *refuse.Error {
	if x.fault.Kind != "" {
		if x.Clock.Wait(x.r.Context(), x.fault.Latency) != nil {
			panic(http.ErrAbortHandler)
		}
		switch x.fault.Kind {
		case fleet.FaultResetAfter:
			panic(http.ErrAbortHandler)
		case fleet.FaultBadGateway:
			e := core.ErrBadGateway()
			e.Shape = x.route.op.Shape()
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
