package emulator

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
)

// exchange is one request on its way to an answer.
type exchange struct {
	*Server
	w     http.ResponseWriter
	r     *http.Request
	route route
	grant *access.Grant
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
func (x *exchange) body(limit int) ([]byte, *refuse.Error) {
	size := x.r.ContentLength
	if size > int64(limit) {
		return nil, refuse.TooLarge(limit)
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

func (x *exchange) wholeBody(size int64, limit int) ([]byte, *refuse.Error) {
	if size < 0 {
		return x.chunkedBody(limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(x.r.Body, b); err != nil {
		return nil, refuse.Format("The body of the request ends early.")
	}
	return b, nil
}

func (x *exchange) chunkedBody(limit int) ([]byte, *refuse.Error) {
	b, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, int64(limit)))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, refuse.TooLarge(limit)
	}
	if err != nil {
		return nil, refuse.Format("The body of the request cannot be read.")
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
func (x *exchange) jsonBody(limit int) ([]byte, *refuse.Error) {
	b, refusal := x.body(limit)
	if refusal != nil {
		return nil, refusal
	}
	if !core.ValidJSON(b) {
		return nil, refuse.Format("The body of the request is not valid JSON.")
	}
	if core.FirstByte(b) != '{' {
		return nil, refuse.Format("The body of the request must be a JSON object.")
	}
	return b, nil
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
		// The server lifts it (liftDeadline); where it cannot be set there is no
		// connection to hold.
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(answerDeadline))
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
	case x.Does(core.KnobETagHeader, "quoted"):
		h["Etag"] = []string{`"` + x.etag + `"`}
	case x.Does(core.KnobETagHeader, "bare"):
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
func (x *exchange) refuse(e *refuse.Error) {
	tracking := x.TrackingID()
	h := x.w.Header()
	if e.Name != "" {
		h["Iothub-Errorcode"] = []string{e.Name}
	}
	h["X-Ms-Request-Id"] = []string{requestID(tracking)}
	if e.Wait > 0 && x.Does(core.KnobRetryAfter, "header") {
		h["Retry-After"] = []string{strconv.Itoa(e.Wait)}
	}
	x.etag = ""
	x.send(e.Status, e.AppendBody(x.buf[:0], tracking, x.Clock.Now()))
	if x.Log.Enabled(x.r.Context(), core.LevelTrace) {
		x.Log.Log(x.r.Context(), core.LevelTrace, "refused", "method", x.r.Method, "path", x.r.URL.Path, "status", e.Status, "name", e.Name, "text", e.Text)
	}
}

// requestID spells a tracking id as a GUID.
func requestID(t string) string {
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}
