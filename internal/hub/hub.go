package hub

import (
	"encoding/json"
	"time"
)

// Target addresses one twin: a device, or one module of a device.
type Target struct {
	DeviceID string
	ModuleID string // empty for the device itself
}

// String returns the id as people write it: "device" or "device/module".
func (t Target) String() string {
	if t.ModuleID == "" {
		return t.DeviceID
	}
	return t.DeviceID + "/" + t.ModuleID
}

// Query asks for one page of a twin query. A following page repeats Text and
// PageSize and hands back the Continuation of the page before.
type Query struct {
	Text         string
	PageSize     int // 0 leaves the choice to the hub
	Continuation string
}

// Page is one page of a query's rows. A page may be empty and still not be the
// last one: only an empty Continuation ends the query.
type Page struct {
	Rows         []Row
	Continuation string
}

// Row is one twin of a query page. A section that the query did not select, or
// that the twin does not have, is nil. The slices belong to the page: they may
// share one buffer, and nobody writes to them.
type Row struct {
	Target
	ETag     string
	Seen     time.Time // when the hub last heard of it; zero if that was not asked or never
	Tags     json.RawMessage
	Desired  json.RawMessage
	Reported json.RawMessage
}

// Twin is what a read or an accepted patch tells of a twin.
type Twin struct {
	ETag    string
	Version int64
	// Sections as the hub sent them, $metadata and $version included.
	Tags     json.RawMessage
	Desired  json.RawMessage
	Reported json.RawMessage
}

// Patch is a merge patch of a twin (RFC 7396), one object for each section; a
// nil section is left alone.
type Patch struct {
	Tags    json.RawMessage
	Desired json.RawMessage
	Whole   bool // the new twin is wanted with its sections
}

// AnyETag as the precondition of a patch makes it unconditional.
const AnyETag = "*"

// Call is a direct method call.
type Call struct {
	Method          string
	Payload         json.RawMessage // any JSON value; nil sends none
	ConnectTimeout  time.Duration   // how long the hub waits for an offline device
	ResponseTimeout time.Duration   // how long the hub waits for the answer
}

// Answer is what a device answered to a Call. An answered call says nothing
// about success: that is what Status is for.
type Answer struct {
	Status  int
	Payload json.RawMessage // as sent by the device, "null" when it answered null
}
