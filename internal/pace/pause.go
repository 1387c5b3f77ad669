package pace

import (
	"fmt"
	"time"
)

// Pause is that a hub takes no calls of a kind for now, or does again.
type Pause struct {
	Hub    string
	Calls  string    // those that wait: queries, twinReads, twinUpdates or methodCalls
	Since  time.Time // when it began
	Until  time.Time // when the next call is made
	GiveUp time.Time // when jobs stop that wait for it
	Err    error     // what the hub answered
	Over   bool      // the hub takes calls again, since Until
}

// worthTelling is the shortest pause that anybody is told of.
const worthTelling = 2 * time.Second

// NotReadyError means that a hub took no calls of a kind for longer than a job
// waits for it.
type NotReadyError struct {
	Hub   string
	Calls string // as in [Pause]
	For   time.Duration
	Err   error // what the hub answered last
}

// Error gives all of it.
func (e *NotReadyError) Error() string {
	return "hub " + e.Hub + " " + e.Reason()
}

// Reason is the error without the name of the hub.
func (e *NotReadyError) Reason() string { return fmt.Sprintf("was not ready for %s: %v", e.For, e.Err) }

// Unwrap returns what the hub answered last.
func (e *NotReadyError) Unwrap() error { return e.Err }
