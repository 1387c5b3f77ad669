package hubclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/hub"
)

// transportError turns an exchange without a whole answer into a kind. Whether
// the request was sent is the one thing that matters.
func transportError(ctx context.Context, failed *exchangeError) *hub.Error {
	e := &hub.Error{Kind: hub.KindNotSent, Message: redact(failed.err.Error()), Err: failed.err}
	if e.Message != failed.err.Error() {
		e.Err = errors.New(e.Message) // a peer that echoes what it was sent is quoted in there
	}
	late := ctx.Err() == nil && failed.late
	switch {
	case failed.sent:
		e.Kind = hub.KindCut
		if late {
			e.Message = "no answer from the hub in the time given"
		} else if errors.Is(failed.err, io.EOF) || errors.Is(failed.err, io.ErrUnexpectedEOF) {
			e.Message = "the connection ended before an answer was read"
		}
	case ctx.Err() != nil:
		e.Kind = hub.KindCancelled
	case late:
		e.Message = "no connection to the hub in the time given"
	}
	return e
}

// badAnswer is a 200 whose body does not hold what it should: the hub acted,
// and we do not know with what result.
func badAnswer(a answer, err error) *hub.Error {
	return &hub.Error{Kind: hub.KindBadAnswer, StatusCode: a.status, Message: err.Error(), Err: err}
}

// refusal reads an answer that is not a success.
// One that was not read whole may lack the code that tells whether the device
// has acted.
func (c *Client) refusal(a answer, failed *exchangeError, tok *token) *hub.Error {
	e := parseRefusal(a.status, a.header, a.body, tok.hide)
	if failed != nil && e.Code == 0 && hangsOnCode(a.status) {
		e.Kind = hub.KindNoAnswer
		e.Message = strings.TrimPrefix(e.Message+"; the error could not be read whole: ", "; ") + show(redact(failed.err.Error()), maxMessage)
	}
	if provesToken(e) {
		c.credential.accept(tok)
	}
	if e.Kind == hub.KindUnauthorized {
		if wait, ok := c.credential.mayHaveExpired(tok, a.status, time.Now()); ok {
			e.Kind, e.Wait = hub.KindTokenExpired, wait
		}
	}
	return e
}

// provesToken tells whether the hub must have taken the token before it could
// refuse like this: it looked for what the request is about.
func provesToken(e *hub.Error) bool {
	switch e.Kind {
	case hub.KindNotFound, hub.KindOffline, hub.KindConflict, hub.KindPrecondition, hub.KindNoAnswer:
		return e.Code != 0
	case hub.KindNotSent, hub.KindCancelled, hub.KindInvalid, hub.KindUnauthorized, hub.KindTokenExpired, hub.KindNotReady,
		hub.KindForbidden, hub.KindThrottled, hub.KindServer, hub.KindCut, hub.KindBadAnswer:
	}
	return false
}

// parseRefusal maps an error answer, in any of the shapes the hub is known to
// use, to the one error type.
//
// The shapes, with the letters of the protocol notes: (A) "ErrorCode:Name;text"
// in Message, with a tracking id in ExceptionMessage; (B) Message holds a JSON
// object as a string; (C) Message is that object; (D) A whose text holds
// another A, quoted; (E) the object of B on its own.
//
// The function hide takes our own secrets out of a text.
func parseRefusal(status int, h http.Header, body []byte, hide func(string) string) *hub.Error {
	e := &hub.Error{StatusCode: status, Name: h.Get("Iothub-Errorcode")}
	if valid(body) {
		readBodyShapes(e, gjson.ParseBytes(body), 0)
	} else if text := strings.TrimSpace(string(body)); text != "" {
		e.Message = firstLine(text)
	}
	if e.TrackingID == "" {
		e.TrackingID = h.Get("X-Ms-Request-Id")
	}
	if e.Code == 0 {
		e.Code = codeOf(e.Name)
	}
	if e.Name == "" {
		e.Name = nameOf(e.Code)
	}
	e.Wait = waitHint(h.Get("Retry-After"), e.Message)
	e.Kind = kindOf(status, e.Code)
	if e.Kind == hub.KindNotFound && e.Code == 0 && strings.Contains(e.Message, deviceGone) {
		e.Kind = hub.KindNoAnswer
	}
	e.Name = show(hide(e.Name), maxName)
	e.TrackingID = show(hide(e.TrackingID), maxName)
	e.Message = show(hide(e.Message), maxMessage)
	return e
}

// deviceGone is how older hubs say, without a number, that the device's
// connection went away under the call.
const deviceGone = "Device unavailable"

// What of an answer's texts is kept: a gateway may send a whole page.
const (
	maxName    = 128
	maxMessage = 1024
)

// show makes a foreign text fit to be shown: without secrets, and bounded.
func show(s string, limit int) string {
	s = strings.ToValidUTF8(redact(s), "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "..."
}

// maxNesting bounds how often one shape may hold another.
const maxNesting = 3

func readBodyShapes(e *hub.Error, doc gjson.Result, depth int) {
	if !doc.IsObject() || depth > maxNesting {
		return
	}
	if doc.Get("errorCode").Exists() {
		readInner(e, doc)
		return
	}
	if id, ok := trackingID(doc.Get("ExceptionMessage").Str); ok && e.TrackingID == "" {
		e.TrackingID = id
	}
	message := doc.Get("Message")
	switch {
	case message.IsObject():
		readBodyShapes(e, message, depth+1)
	case valid([]byte(message.Str)) && gjson.Parse(message.Str).IsObject():
		readBodyShapes(e, gjson.Parse(message.Str), depth+1)
	default:
		readCodeAndText(e, message.Str, depth)
	}
}

// readInner reads the object that direct methods answer with.
func readInner(e *hub.Error, doc gjson.Result) {
	if code, ok := sixDigits(doc.Get("errorCode").String()); ok {
		e.Code = code
	} else if e.Name == "" {
		e.Name = doc.Get("errorCode").String()
	}
	if id := doc.Get("trackingId").Str; id != "" {
		e.TrackingID = id
	}
	e.Message = firstLine(doc.Get("message").String())
}

// readCodeAndText reads "ErrorCode:Name;text", where Name may be a number and
// text may hold a whole other answer.
func readCodeAndText(e *hub.Error, text string, depth int) {
	rest, ok := strings.CutPrefix(text, "ErrorCode:")
	if !ok {
		if e.Message == "" {
			e.Message = firstLine(text)
		}
		return
	}
	name, message, _ := strings.Cut(rest, ";")
	if code, ok := sixDigits(name); ok {
		e.Code = code
	} else if e.Name == "" || depth == 0 {
		e.Name = name
	}
	e.Message = firstLine(message)
	if i := strings.IndexByte(message, '{'); i >= 0 && depth < maxNesting {
		nested := message[i:]
		if !valid([]byte(nested)) {
			nested = strings.ReplaceAll(nested, `\"`, `"`)
		}
		if valid([]byte(nested)) {
			readBodyShapes(e, gjson.Parse(nested), depth+1)
		}
	}
}

// sixDigits reads the hub's number: some gateways append more digits to it.
func sixDigits(s string) (int, bool) {
	if len(s) < 6 {
		return 0, false
	}
	if _, err := strconv.ParseUint(s, 10, 64); err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(s[:6])
	return n, err == nil
}

func trackingID(text string) (string, bool) {
	_, id, ok := strings.Cut(text, "Tracking ID:")
	return strings.TrimSpace(id), ok
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(line)
}

// maxWait is the longest hint that is believed, in seconds: a day, which is when
// a quota begins anew.
const maxWait = 24 * 3600

// waitHint reads how long the hub asks to wait: from the header, should there
// be one, or from "Wait N seconds" in the text, where it is known to stand.
func waitHint(retryAfter, message string) time.Duration {
	if n, err := strconv.Atoi(retryAfter); err == nil && n >= 0 && n <= maxWait {
		return time.Duration(n) * time.Second
	}
	_, rest, ok := strings.Cut(message, "Wait ")
	if !ok {
		return 0
	}
	number, rest, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > maxWait || !strings.HasPrefix(rest, "second") {
		return 0
	}
	return time.Duration(n) * time.Second
}

// secrets matches what must not be shown wherever it turns up: signatures and
// keys, in tokens and in connection strings.
var secrets = regexp.MustCompile(`(?i)(sig=|SharedAccessKey=|SharedAccessSignature\s+|Bearer\s+)[^\s;&"']+`)

// userInfo matches the name and password of a URL: that of a proxy has them.
var userInfo = regexp.MustCompile(`://[^\s/"']+@`)

func redact(s string) string {
	if !strings.ContainsAny(s, "=:") && !strings.Contains(s, " ") {
		return s
	}
	return userInfo.ReplaceAllString(secrets.ReplaceAllString(s, "${1}***"), "://***@")
}
