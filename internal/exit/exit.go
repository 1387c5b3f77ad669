// Package exit is what a command ends with: its code, and an error with a hint
// what to do about it.
package exit

import "errors"

// The exit codes, one cause each. They are part of what runner promises:
// scripts branch on them, so a code never changes its meaning.
const (
	OK       = 0   // every job met its criteria
	Missed   = 1   // finished, but a job missed its criteria or the report its file
	Changes  = 2   // preview --exit-code: changes pending
	Invalid  = 3   // plan invalid or wrong usage; nothing was sent
	Hub      = 4   // hub unreachable, unauthorised or the wrong one
	Stopped  = 5   // stopped by a safety rule, window or deadline
	Locked   = 6   // another run of this plan on this hub holds the lock
	Mismatch = 7   // pinned preview or resumed plan no longer matches
	Internal = 70  // internal error; a panic must not look like code 2
	SIGHUP   = 129 // its terminal was closed; report written
	SIGINT   = 130 // interrupted; report written
	SIGTERM  = 143
)

// Error is an error with its exit code and, if there is one, a hint.
type Error struct {
	Code int
	Err  error
	Hint string
}

// Error returns what went wrong.
func (f *Error) Error() string {
	if f.Err == nil {
		return "the plan would change something"
	}
	return f.Err.Error()
}

// Unwrap returns the cause.
func (f *Error) Unwrap() error { return f.Err }

// Usage is the error of a command that was used wrongly.
func Usage(message, hint string) error {
	return &Error{Code: Invalid, Err: errors.New(message), Hint: hint}
}
