package target

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrLimit ends a listing that has reached target.limit. It is no failure.
	ErrLimit = errors.New("target.limit is reached")
	// ErrNoTargets ends a job whose target matched nothing.
	ErrNoTargets = errors.New("the target matched no device; set target.allowEmpty: true if that is fine")
)

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

// ExpectError means that a cohort has another size than the plan expects, or
// that it does not have what the plan leaves out of it.
type ExpectError struct {
	Min, Max, Have int
	Idle           []string // what is left out and was not there
}

// Error gives the sizes.
func (e *ExpectError) Error() string {
	if len(e.Idle) > 0 {
		return IdleText(e.Idle) + ", and expect.excluded is true"
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

// IdleText says that exclusions left nobody out.
func IdleText(idle []string) string {
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

// AsFatal tells whether err ends the whole run, not only the job it came up in.
func AsFatal(err error) (*HubError, bool) { return errors.AsType[*HubError](err) }
