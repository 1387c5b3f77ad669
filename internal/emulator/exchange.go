package emulator

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/fleet"
)

// exchange is one request on its way to an answer.
type exchange struct {
	*Server
	w     http.ResponseWriter
	r     *http.Request
	route route
	grant *grant
	buf   []byte // scratch for the answer, returned to the pool afterwards
	etag  string // for the ETag header; empty sends none

	status      int  // of the answer; 0 before there is one
	bodyBounded bool // what is left of the body, if anything, has a deadline

	fault fleet.Fault // that strikes after the operation; its Kind is empty when none does
}

// The largest bodies taken, by what they hold. They leave room for white space
// around the hub's own limits, which are checked on the values.
const (
	maxMethodBody = 256 << 10
	maxTwinBody   = 512 << 10
	maxBulkBody   = 8 << 20
	maxSmallBody  = 128 << 10
)

// body reads the request's body, at most limit bytes of it. The slice is new:
// parts of it may be kept.
func (x *exchange) body(limit int) ([]byte, *apiError) {
	size := x.r.ContentLength
	if size > int64(limit) {
		return nil, errTooLarge(limit)
	}
	// A body that arrives by drops would hold the connection for ever.
	rc := http.NewResponseController(x.w)
	x.bodyBounded = size == 0 || rc.SetReadDeadline(time.Now().Add(bodyDeadline)) == nil
	b, refusal := x.wholeBody(size, limit)
	if refusal == nil && size != 0 && x.bodyBounded {
		rc.SetReadDeadline(time.Time{}) //nolint:errcheck // it could be set, so it can be cleared
	}
	return b, refusal
}

func (x *exchange) wholeBody(size int64, limit int) ([]byte, *apiError) {
	if size < 0 {
		return x.chunkedBody(limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(x.r.Body, b); err != nil {
		return nil, errFormat("The body of the request ends early.")
	}
	return b, nil
}

func (x *exchange) chunkedBody(limit int) ([]byte, *apiError) {
	b, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, int64(limit)))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, errTooLarge(limit)
	}
	if err != nil {
		return nil, errFormat("The body of the request cannot be read.")
	}
	return b, nil
}

const (
	bodyDeadline   = 30 * time.Second
	answerDeadline = time.Minute // for one that does not fit into the network's buffers
	largeAnswer    = 64 << 10
)

// leaveBody bounds how long the server waits for a body that nobody asked for,
// before it takes the next request from the connection.
func (x *exchange) leaveBody() {
	if x.r.ContentLength == 0 || x.bodyBounded {
		return
	}
	// Where it cannot be set there is no connection to hold.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(bodyDeadline))
}

// jsonBody reads a body that must be one JSON object.
func (x *exchange) jsonBody(limit int) ([]byte, *apiError) {
	b, refusal := x.body(limit)
	if refusal != nil {
		return nil, refusal
	}
	if !validJSON(b) {
		return nil, errFormat("The body of the request is not valid JSON.")
	}
	if firstByte(b) != '{' {
		return nil, errFormat("The body of the request must be a JSON object.")
	}
	return b, nil
}

// maxJSONDepth bounds nesting before any recursive reader sees the text.
const maxJSONDepth = 200

// validJSON says whether b is one JSON value in valid UTF-8 of bounded depth.
func validJSON(b []byte) bool {
	return utf8.Valid(b) && jsonDepth(b) <= maxJSONDepth && gjson.ValidBytes(b)
}

func jsonDepth(b []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func firstByte(b []byte) byte {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// send answers with a JSON body.
func (x *exchange) send(status int, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = x.contentType
	h["Vary"] = x.varyOrigin
	if x.etag != "" {
		x.setETag(h)
	}
	if len(body) > largeAnswer {
		// Who does not read must not keep the answer in memory for ever.
		rc := http.NewResponseController(x.w)
		if err := rc.SetWriteDeadline(time.Now().Add(answerDeadline)); err == nil {
			defer rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // it could be set, so it can be cleared
		}
	}
	if len(body) >= worthZipping && strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		x.sendZipped(status, body)
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.writeHeader(status)
	x.w.Write(body) //nolint:errcheck // the client has gone; there is nobody to tell
}

func (x *exchange) setETag(h http.Header) {
	switch {
	case x.does(knobETagHeader, "quoted"):
		h["Etag"] = []string{`"` + x.etag + `"`}
	case x.does(knobETagHeader, "bare"):
		h["Etag"] = []string{x.etag}
	}
}

// worthZipping is about one network packet: below it zipping saves nothing.
const worthZipping = 1400

func (x *exchange) sendZipped(status int, body []byte) {
	h := x.w.Header()
	h["Content-Encoding"] = []string{"gzip"}
	x.writeHeader(status)
	z, ok := x.zippers.Get().(*gzip.Writer)
	if !ok {
		z, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid constant
	}
	z.Reset(x.w)
	z.Write(body) //nolint:errcheck // as in send
	z.Close()     //nolint:errcheck // as in send
	x.zippers.Put(z)
}

// sendNothing answers 204.
func (x *exchange) sendNothing() {
	x.writeHeader(http.StatusNoContent)
}

func (x *exchange) writeHeader(status int) {
	x.status = status
	x.w.WriteHeader(status)
}

// refuse answers with an error.
func (x *exchange) refuse(e *apiError) {
	tracking := x.trackingID()
	h := x.w.Header()
	if e.name != "" {
		h["Iothub-Errorcode"] = []string{e.name}
	}
	h["X-Ms-Request-Id"] = []string{requestID(tracking)}
	if e.wait > 0 && x.does(knobRetryAfter, "header") {
		h["Retry-After"] = []string{strconv.Itoa(e.wait)}
	}
	x.etag = ""
	x.send(e.status, e.appendBody(x.buf[:0], tracking, x.clock.now()))
	if x.log.Enabled(x.r.Context(), levelTrace) {
		x.log.Log(x.r.Context(), levelTrace, "refused", "method", x.r.Method, "path", x.r.URL.Path, "status", e.status, "name", e.name, "text", e.text)
	}
}

// trackingID makes 32 hexadecimal digits that no other answer of this hub has.
func (s *Server) trackingID() string {
	n := s.requests.Add(1)
	return fmt.Sprintf("%016x%016x", s.instance, mix(s.instance+n))
}

// requestID spells a tracking id as a GUID.
func requestID(t string) string {
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}

// mix spreads the bits of n over all 64 (the finalizer of splitmix64).
func mix(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
