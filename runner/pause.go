package runner

import "time"

// Pause is that a hub takes no calls of a kind for now.
type Pause struct {
	Hub   string
	Calls string    // those that wait: queries, twinReads, twinUpdates or methodCalls
	Until time.Time // when the next one is made
	Err   error     // what the hub answered
}

// worthTelling is the shortest pause that anybody is told of.
const worthTelling = 2 * time.Second
