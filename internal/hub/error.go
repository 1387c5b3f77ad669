package hub

import (
	"fmt"
	"strings"
	"time"
)

// Kind classifies how a call to the hub went wrong. The set is closed: whoever
// decides by kind handles every one of them.
type Kind int

// The kinds, from "it was never sent" to "nobody knows". Each says whether the
// call can have had an effect, because that is what retries hang on.
const (
	// KindNotSent means that the request never left completely: no connection,
	// no TLS, no token. Without effect.
	KindNotSent Kind = iota + 1
	// KindCancelled means that our own context ended before the request was
	// written. Without effect.
	KindCancelled
	// KindInvalid means that the hub refused the request as malformed or as
	// out of its limits (400, 413). Without effect, and always will be.
	KindInvalid
	// KindUnauthorized means that the credentials do not reach (401). Without effect.
	KindUnauthorized
	// KindTokenExpired means that a token which was good before was refused
	// (401) and has been replaced, or that its successor was before anybody knows
	// whether it is good; then Wait says when to try again, for all calls to the
	// hub. Without effect, and worth another try.
	KindTokenExpired
	// KindForbidden means that the hub refuses for reasons of tier or limits (403).
	// Without effect.
	KindForbidden
	// KindNotFound means that the device or module is not registered (404001,
	// 404010) or that the hub does not know the path. Without effect.
	KindNotFound
	// KindOffline means that the device was not connected in the time given
	// (404103). Without effect: the call never reached it.
	KindOffline
	// KindConflict means that the thing exists already (409). Without effect.
	KindConflict
	// KindPrecondition means that the etag no longer matches (412). Without effect.
	KindPrecondition
	// KindThrottled means that the hub has too much to do (429). Without effect.
	KindThrottled
	// KindNotReady means that the hub or the device is busy with itself: failing
	// over, upgrading, with its quota for the day used up, or with too many calls
	// of the device under way (404012, 400029, 403002, 403800). Without effect,
	// and it passes.
	KindNotReady
	// KindNoAnswer means that the hub handed the call to the device and no
	// usable answer came back (504101, 404104, 502). The device may have acted.
	KindNoAnswer
	// KindServer means that the hub failed (500, 503 and what nobody foresaw).
	// It may have acted.
	KindServer
	// KindCut means that the request was written and the connection ended, or
	// our own time ran out, before an answer was read. The hub may have acted.
	KindCut
	// KindBadAnswer means that the hub answered 200 with a body that is not
	// what was promised. It has acted.
	KindBadAnswer
)

// String returns the kind's name as it stands in the report.
func (k Kind) String() string {
	names := [...]string{
		KindNotSent:      "notSent",
		KindCancelled:    "cancelled",
		KindInvalid:      "invalid",
		KindUnauthorized: "unauthorized",
		KindTokenExpired: "tokenExpired",
		KindForbidden:    "forbidden",
		KindNotFound:     "notFound",
		KindOffline:      "offline",
		KindConflict:     "conflict",
		KindPrecondition: "preconditionFailed",
		KindThrottled:    "throttled",
		KindNotReady:     "notReady",
		KindNoAnswer:     "noAnswer",
		KindServer:       "serverError",
		KindCut:          "connectionCut",
		KindBadAnswer:    "badAnswer",
	}
	if k <= 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind(%d)", int(k))
	}
	return names[k]
}

// ParseKind returns the kind of this name, 0 if there is none.
func ParseKind(name string) Kind {
	for k := KindNotSent; k <= KindBadAnswer; k++ {
		if k.String() == name {
			return k
		}
	}
	return 0
}

// Error is a call that did not end well. It is made once, at the transport's
// border; above it nobody looks at HTTP.
type Error struct {
	Kind       Kind
	Code       int           // the hub's number, such as 404103; 0 when it gave none
	Name       string        // the hub's name for it, such as DeviceNotOnline
	StatusCode int           // of HTTP; 0 when no answer was read
	TrackingID string        // what Microsoft's support asks for
	Message    string        // the hub's words, or the transport's; never a secret
	Wait       time.Duration // the hub's hint to wait; 0 when it gave none
	Err        error         // what the transport reported, if it did
}

// Error reads as "hub answered 404103 DeviceNotOnline: ..." or as the
// transport's own message.
func (e *Error) Error() string {
	var b strings.Builder
	if e.StatusCode != 0 {
		b.WriteString("hub answered ")
		if e.Code != 0 {
			fmt.Fprintf(&b, "%d", e.Code)
		} else {
			fmt.Fprintf(&b, "HTTP %d", e.StatusCode)
		}
		if e.Name != "" {
			b.WriteString(" " + e.Name)
		}
		if e.Message != "" {
			b.WriteString(": " + e.Message)
		}
		return b.String()
	}
	if e.Message != "" {
		return e.Message
	}
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Kind.String()
}

// Unwrap returns what the transport reported.
func (e *Error) Unwrap() error { return e.Err }
