package fleet

import (
	"slices"
	"strings"
	"time"
)

// Operation is a kind of call to the hub, as faults name it.
type Operation string

// The operations that faults distinguish.
const (
	OpQuery         Operation = "query"         // POST /devices/query
	OpTwinRead      Operation = "twinRead"      // GET /twins/...
	OpTwinWrite     Operation = "twinWrite"     // PATCH and PUT /twins/...
	OpMethod        Operation = "method"        // POST /twins/.../methods
	OpRegistryRead  Operation = "registryRead"  // GET /devices/...
	OpRegistryWrite Operation = "registryWrite" // PUT, DELETE and bulk
	OpJob           Operation = "job"           // /jobs/v2/..., each of the four that follow
	OpJobPut        Operation = "jobPut"        // PUT /jobs/v2/{id}
	OpJobGet        Operation = "jobGet"        // GET /jobs/v2/{id}
	OpJobCancel     Operation = "jobCancel"     // POST /jobs/v2/{id}/cancel
	OpJobList       Operation = "jobList"       // GET /jobs/v2/query
	OpStatistics    Operation = "statistics"    // GET /statistics/...

	// What devices do that connect for real. An entry that names no operation
	// does not mean these.

	OpConnect       Operation = "connect"       // CONNECT
	OpTelemetry     Operation = "telemetry"     // a message for the cloud
	OpTwinGet       Operation = "twinGet"       // the device reads its twin
	OpReportedPatch Operation = "reportedPatch" // it writes its reported properties
)

// Operations returns all operations.
func Operations() []Operation {
	return []Operation{
		OpQuery, OpTwinRead, OpTwinWrite, OpMethod, OpRegistryRead, OpRegistryWrite, OpJob, OpJobPut, OpJobGet, OpJobCancel, OpJobList, OpStatistics,
		OpConnect, OpTelemetry, OpTwinGet, OpReportedPatch,
	}
}

// OfDevice says whether it is a device that does the operation, not a service.
func (o Operation) OfDevice() bool {
	return o == OpConnect || o == OpTelemetry || o == OpTwinGet || o == OpReportedPatch
}

// OfJobs says whether it is one of those that OpJob stands for.
func (o Operation) OfJobs() bool {
	return o == OpJobPut || o == OpJobGet || o == OpJobCancel || o == OpJobList
}

// knows says whether a fault can happen to an operation. CONNECT has no answer
// that comes too late for its effect, a message for the cloud none that refuses
// it, and neither a query page.
func (o Operation) knows(k FaultKind) bool {
	switch k {
	case FaultEmptyPage:
		return o == OpQuery
	case FaultUnauthorized:
		return !o.OfDevice() || o == OpConnect
	case FaultBadGateway:
		return o != OpConnect && o != OpTelemetry
	case FaultServerError, FaultUnavailable:
		return o != OpTelemetry
	case FaultThrottled, FaultResetBefore, FaultResetAfter, FaultSlow:
	}
	return true
}

// FaultKind is what goes wrong on the hub's side. Its value is the word of the
// fleet file.
type FaultKind string

// The kinds of fault. Each says whether the call had its effect.
const (
	FaultThrottled    FaultKind = "throttled"    // 429 with a hint to wait; without effect
	FaultUnauthorized FaultKind = "unauthorized" // 401 as for an expired token; without effect
	FaultServerError  FaultKind = "serverError"  // 500; without effect
	FaultBadGateway   FaultKind = "badGateway"   // 502, after the call had its effect
	FaultUnavailable  FaultKind = "unavailable"  // 503; without effect
	FaultResetBefore  FaultKind = "resetBefore"  // the connection is cut before the call has an effect
	FaultResetAfter   FaultKind = "resetAfter"   // the connection is cut after it had its effect
	FaultSlow         FaultKind = "slow"         // the call works, its answer is late by Latency
	FaultEmptyPage    FaultKind = "emptyPage"    // a query page without rows, and a token to go on
)

// FaultKinds returns all kinds of fault.
func FaultKinds() []FaultKind {
	return []FaultKind{
		FaultThrottled, FaultUnauthorized, FaultServerError, FaultBadGateway, FaultUnavailable,
		FaultResetBefore, FaultResetAfter, FaultSlow, FaultEmptyPage,
	}
}

// Fault is what goes wrong with one call.
type Fault struct {
	Kind    FaultKind
	Wait    time.Duration // of FaultThrottled: what the hub asks the caller to wait
	Latency time.Duration // before the fault shows
}

// Call is one call to the hub. Numbers count from 1 and are kept by the caller,
// for each operation apart.
type Call struct {
	Operation   Operation
	Device      int    // -1 when the call addresses no device of the fleet
	ID          string // of the device, where it is not the fleet's
	NthOfDevice int    // of this operation on this device
	NthOfHub    int    // of this operation on the hub
}

// A faultRule is one entry of the file's list of faults.
type faultRule struct {
	kind       FaultKind
	operations []Operation // empty for all
	ids        []string    // empty for all; a trailing * matches any ending
	calls      calls
	share      float64
	draws      stream
	howLong    stream
	from       time.Duration
	until      time.Duration // 0 for no end
	wait       time.Duration
	latency    delay
}

// Fault returns what goes wrong with a call at the given time after the start:
// the first entry of the file that fits and draws it. A call that addresses a
// device draws by the device and its own count, so that the order in which
// devices are called does not matter; others draw by the hub's count.
func (f *Fleet) Fault(c Call, since time.Duration) (Fault, bool) {
	for i := range f.faults {
		r := &f.faults[i]
		if !r.fits(f, c, since) {
			continue
		}
		device, nth := c.drawnBy()
		if r.share < 1 && r.draws.unit(device, nth) >= r.share {
			continue
		}
		return Fault{Kind: r.kind, Wait: r.wait, Latency: r.latency.at(r.howLong.unit(device, nth))}, true
	}
	return Fault{}, false
}

func (c Call) drawnBy() (device int, nth int64) {
	switch {
	case c.Device >= 0:
		return c.Device, int64(c.NthOfDevice)
	case c.ID != "":
		return int(newStream(0, c.ID) >> 1), int64(c.NthOfDevice) //nolint:gosec // half of the range fits
	}
	return -1, int64(c.NthOfHub)
}

func (r *faultRule) fits(f *Fleet, c Call, since time.Duration) bool {
	if since < r.from || r.until > 0 && since >= r.until {
		return false
	}
	switch {
	case len(r.operations) > 0 && !slices.Contains(r.operations, c.Operation):
		return false
	case len(r.operations) == 0 && (c.Operation.OfDevice() || c.Operation.OfJobs()):
		return false // those of jobs are asked about as OpJob, too
	case !c.Operation.knows(r.kind):
		return false
	}
	if _, nth := c.drawnBy(); !r.calls.contain(nth) {
		return false
	}
	return len(r.ids) == 0 || r.names(f, c)
}

func (r *faultRule) names(f *Fleet, c Call) bool {
	var buf [maxID]byte
	id := append(buf[:0], c.ID...)
	if c.Device >= 0 {
		g, k := f.locate(c.Device)
		id = g.appendID(buf[:0], k)
	}
	if len(id) == 0 {
		return false
	}
	for _, want := range r.ids {
		if prefix, ok := strings.CutSuffix(want, "*"); ok && len(id) >= len(prefix) && string(id[:len(prefix)]) == prefix {
			return true
		}
		if string(id) == want {
			return true
		}
	}
	return false
}
