package runner

import (
	"errors"
	"fmt"
	"time"

	"iothub-runner/internal/schedule"
	"iothub-runner/spec"
)

// Why a run or a job ended early. They are causes of contexts, and what the
// report gives as reason.
var (
	// errDeadline ends a job whose time budget is used up.
	errDeadline = errors.New("the job's deadline has passed")
	// errUnlisted is why a job is not done whose cohort nobody knows in full.
	errUnlisted = errors.New("its listing is incomplete: the run ended before it had listed all targets, and only some outcomes were taken up again")
	// errFull is why a part of a job waits to be given to the hub.
	errFull = errors.New("it runs as many of its own jobs as its tier allows")
	// errNotPicked keeps a job from beginning that no outcome was picked of.
	errNotPicked = errors.New("it had not begun, and only some outcomes were taken up again")
)

func isDeadline(cause error) bool { return errors.Is(cause, errDeadline) }

// WindowError means that the window of a job has closed before it had ended.
type WindowError struct {
	Closed, Opens time.Time // then, and again
}

func closed(w *spec.Window, at time.Time) *WindowError {
	opens, _ := schedule.NextOpening(w, at)
	return &WindowError{Closed: at.In(w.Location), Opens: opens.In(w.Location)}
}

// Error gives both times, in the window's time zone.
func (e *WindowError) Error() string {
	return fmt.Sprintf("the window closed at %s; it opens next at %s", e.Closed.Format(time.RFC3339), e.Opens.Format(time.RFC3339))
}

func isClosed(cause error) bool {
	_, ok := errors.AsType[*WindowError](cause)
	return ok
}

// InterruptedError is the cause to cancel Apply's context with when a signal asks
// the run to stop: attempts in flight end, no new one begins.
type InterruptedError struct {
	Signal   string
	ExitCode int
}

// Error names the signal.
func (i *InterruptedError) Error() string { return "interrupted by " + i.Signal }

// JournalError means that the journal can no longer be written. Nothing is
// sent that could not be recorded.
type JournalError struct{ Err error }

// Error says so.
func (e *JournalError) Error() string { return fmt.Sprintf("journal: %v", e.Err) }

// Unwrap returns what the file system said.
func (e *JournalError) Unwrap() error { return e.Err }
