package runner

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"iothub-runner/internal/hub"
)

// Why a run or a job ended early. They are causes of contexts, and what the
// report gives as reason.
var (
	// errDeadline ends a job whose time budget is used up.
	errDeadline = errors.New("the job's deadline has passed")
	// errLimit ends a listing that has reached target.limit. It is no failure.
	errLimit = errors.New("target.limit is reached")
	// errUnlisted is why a job is not done whose cohort nobody knows in full.
	errUnlisted = errors.New("its listing is incomplete: the run ended before it had listed all targets, and only some outcomes were taken up again")
	// errNotPicked keeps a job from beginning that no outcome was picked of.
	errNotPicked = errors.New("it had not begun, and only some outcomes were taken up again")
	// errNoTargets ends a job whose target matched nothing.
	errNoTargets = errors.New("the target matched no device; set target.allowEmpty: true if that is fine")
)

func isDeadline(cause error) bool { return errors.Is(cause, errDeadline) }

// InterruptedError is the cause to cancel Apply's context with when a signal asks
// the run to stop: attempts in flight end, no new one begins.
type InterruptedError struct {
	Signal   string
	ExitCode int
}

// Error names the signal.
func (i *InterruptedError) Error() string { return "interrupted by " + i.Signal }

// HubError means that a hub could not be used at all: it is unreachable, it
// refuses our credentials, or it is not the hub that the plan is for.
type HubError struct {
	Hub string
	Err error
}

// Error names the hub.
func (e *HubError) Error() string { return fmt.Sprintf("hub %s: %v", e.Hub, e.Err) }

// Unwrap returns what the hub or the connection to it said.
func (e *HubError) Unwrap() error { return e.Err }

// WrongHubError means that the plan, or the pinned preview of one, is for
// another hub than the one at hand.
type WrongHubError struct {
	Want, Have string
	Pinned     bool // it is the preview that says so
}

// Error names both.
func (e *WrongHubError) Error() string {
	if e.Pinned {
		return fmt.Sprintf("the pinned preview was made on hub %s, this is %s", e.Want, e.Have)
	}
	return fmt.Sprintf("the plan is for hub %s, the connection string is for %s", e.Want, e.Have)
}

// NeedError means that a job needs one that is not part of the run.
type NeedError struct{ Job, Need string }

// Error names both jobs.
func (e *NeedError) Error() string {
	return fmt.Sprintf("job %s needs job %s, which is not part of this run", e.Job, e.Need)
}

// JournalError means that the journal can no longer be written. Nothing is
// sent that could not be recorded.
type JournalError struct{ Err error }

// Error says so.
func (e *JournalError) Error() string { return fmt.Sprintf("journal: %v", e.Err) }

// Unwrap returns what the file system said.
func (e *JournalError) Unwrap() error { return e.Err }

// ExpectError means that a cohort has another size than the plan expects, or
// that it does not have what the plan leaves out of it.
type ExpectError struct {
	Min, Max, Have int
	Idle           []string // what is left out and was not there
}

// Error gives the sizes.
func (e *ExpectError) Error() string {
	if len(e.Idle) > 0 {
		return idleText(e.Idle) + ", and expect.excluded is true"
	}
	devices := "devices"
	if e.Have == 1 {
		devices = "device"
	}
	if e.Have < e.Min {
		return fmt.Sprintf("the target matched %d %s, expect.min is %d", e.Have, devices, e.Min)
	}
	return fmt.Sprintf("the target matched at least %d %s, expect.max is %d", e.Have, devices, e.Max)
}

// ContinuationError means that a page of a query ends with a continuation token
// that an earlier page ended with: following it would list the same for ever.
type ContinuationError struct {
	Hub   string
	Page  int // from 1
	Token string
}

// Error names the hub, the page and the token, which may be long.
func (e *ContinuationError) Error() string {
	const most = 60
	token := e.Token
	if len(token) > most {
		token = token[:most] + "…"
	}
	return fmt.Sprintf("hub %s: page %d of the query ends with the continuation token %q, which an earlier page had: "+
		"the listing would never end", e.Hub, e.Page, token)
}

// idleText says that exclusions left nobody out.
func idleText(idle []string) string {
	const most = 5
	var names []string
	for _, id := range idle[:min(len(idle), most)] {
		names = append(names, strconv.Quote(id))
	}
	text := "target.exclude names " + strings.Join(names, ", ")
	if n := len(idle) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text + ", which the target does not select (letter case counts)"
}

// asFatal tells whether err ends the whole run, not only the job it came up in.
func asFatal(err error) (*HubError, bool) { return errors.AsType[*HubError](err) }

// asHubError returns err as what every method of a Hub promises to return.
func asHubError(err error) *hub.Error {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		return e
	}
	return &hub.Error{Kind: hub.KindServer, Message: err.Error(), Err: err}
}
