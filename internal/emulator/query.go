package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/twinquery"
)

// This file follows "IoT Hub query language for device and module twins, jobs,
// and message routing" and the service's REST reference for queries.

const maxPage = 100

// The words of x-ms-item-type.
const (
	itemTwin      = "Twin"
	itemRaw       = "Raw"
	itemDeviceJob = "DeviceJob"
)

// cursor is where a query goes on. It is all that a page token holds, so the
// hub keeps nothing between two pages.
type cursor struct {
	query uint64 // hash of the text: a token is good for its own query only
	slot  uint64
	inner uint64 // how many modules of the slot, or rows of groups, are behind
	given uint64 // rows so far, for TOP
}

// query serves POST /devices/query.
func (x *exchange) query() *refuse.Error {
	q, at, size, refusal := x.querySpec()
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	item := itemRaw
	next := at
	more := true
	x.buf = append(x.buf[:0], '[')
	switch {
	case x.fault.Kind == fleet.FaultEmptyPage:
		// Nothing was looked at: the next page starts where this one would.
	case q.Source == twinquery.Jobs:
		item = itemDeviceJob
		next, more = x.jobRowPage(q, at, size)
	case q.Aggregates():
		next, more = x.groupPage(q, at, size)
	default:
		if len(q.Items) == 0 {
			item = itemTwin
		}
		next, more = x.twinPage(q, at, size)
	}
	x.buf = append(x.buf, ']')
	if item == itemDeviceJob && len(x.buf) == len("[]") && x.Does(core.KnobJobShapes, "odd") {
		x.buf = append(x.buf[:0], "null"...)
	}
	h := x.w.Header()
	h["X-Ms-Item-Type"] = []string{item}
	if more {
		h["X-Ms-Continuation"] = []string{x.seal(next)}
	}
	return x.done(200)
}

// querySpec reads what the request asks for.
func (x *exchange) querySpec() (*twinquery.Query, cursor, int, *refuse.Error) {
	body, refusal := x.jsonBody(maxSmallBody)
	if refusal != nil {
		return nil, cursor{}, 0, refusal
	}
	text := ""
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		if is(k.Str, "query") {
			text = v.String()
		}
		return true
	})
	if strings.TrimSpace(text) == "" {
		return nil, cursor{}, 0, refuse.Argument("The query must not be empty.")
	}
	if n := utf8.RuneCountInString(text); n > twinquery.MaxLength {
		return nil, cursor{}, 0, refuse.Argument("The query has %d characters; the limit is %d.", n, twinquery.MaxLength)
	}
	q, err := twinquery.Parse(text)
	if err != nil {
		return nil, cursor{}, 0, refuse.Argument("The query cannot be read: %s.", err)
	}
	if q.Where != nil && q.Where.Unknown() != nil {
		return nil, cursor{}, 0, refuse.Argument("The query cannot be evaluated: %s.", q.Where.Unknown())
	}
	size, refusal := x.pageSize(x.r)
	if refusal != nil {
		return nil, cursor{}, 0, refusal
	}
	at := cursor{query: textHash(text)}
	if token := x.r.Header.Get("X-Ms-Continuation"); token != "" {
		opened, ok := x.open(token)
		if !ok || opened.query != at.query {
			return nil, cursor{}, 0, refuse.Argument("The continuation token does not belong to the query.")
		}
		at = opened
	}
	return q, at, size, nil
}

// pageSize reads x-ms-max-item-count. More than the hub gives is clamped.
func (s *Server) pageSize(r *http.Request) (int, *refuse.Error) {
	text := r.Header.Get("X-Ms-Max-Item-Count")
	if text == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < -1 || n == 0 {
		return 0, refuse.Argument("x-ms-max-item-count must be a positive number.")
	}
	if n > maxPage && s.Does(core.KnobPageOverMax, "refuse") {
		return 0, refuse.Argument("x-ms-max-item-count must not be larger than %d.", maxPage)
	}
	if n == -1 || n > maxPage { // -1 is how some clients ask for the default
		return maxPage, nil
	}
	return n, nil
}

// twinPage appends the rows of one page, starting at the cursor. It walks the
// slots only as far as it must.
func (x *exchange) twinPage(q *twinquery.Query, at cursor, size int) (cursor, bool) {
	now := x.Clock.Now()
	rows := 0
	walk := x.Store.Walk(q)
	for looked := 0; ; looked++ {
		n, ok := walk.From(int(at.slot)) //nolint:gosec // sealed by us
		if !ok || looked%4096 == 4095 && x.r.Context().Err() != nil {
			return at, false
		}
		if uint64(n) != at.slot { //nolint:gosec // a slot
			at.slot, at.inner = uint64(n), 0 //nolint:gosec // a slot
		}
		d, ok := x.Indexed(n, now)
		if !ok {
			at.slot, at.inner = at.slot+1, 0
			continue
		}
		for _, m := range x.Sources(q.Source, d, at.inner) {
			at.inner++
			doc := core.TwinDoc{Hub: x.Hub, Subject: m}
			if !q.Match(&doc) {
				continue
			}
			if q.Top > 0 && at.given >= uint64(q.Top) { //nolint:gosec // positive
				return at, false
			}
			if rows == size {
				at.inner--
				return at, true
			}
			if rows > 0 {
				x.buf = append(x.buf, ',')
			}
			x.buf = q.AppendRow(x.buf, &doc, x.keyRule())
			rows++
			at.given++
		}
		at.slot, at.inner = at.slot+1, 0
	}
}

// groupPage walks everything for its rows, each time: aggregates are few and
// a hub that kept their state between pages would have to bound it.
func (x *exchange) groupPage(q *twinquery.Query, at cursor, size int) (cursor, bool) {
	now := x.Clock.Now()
	groups := twinquery.NewGroups(q, x.keyRule())
	walk := x.Store.Walk(q)
	for n, ok := walk.From(0); ok; n, ok = walk.From(n + 1) {
		if n%4096 == 4095 && x.r.Context().Err() != nil {
			return at, false
		}
		d, there := x.Indexed(n, now)
		if !there {
			continue
		}
		for _, m := range x.Sources(q.Source, d, 0) {
			if doc := (core.TwinDoc{Hub: x.Hub, Subject: m}); q.Match(&doc) {
				groups.Add(&doc)
			}
		}
	}
	limit := groups.Len()
	if q.Top > 0 {
		limit = min(limit, q.Top)
	}
	first := min(int(at.inner), limit) //nolint:gosec // sealed by us
	last := min(first+size, limit)
	for i := first; i < last; i++ {
		if i > first {
			x.buf = append(x.buf, ',')
		}
		x.buf = groups.AppendRow(x.buf, i)
	}
	at.inner = uint64(last) //nolint:gosec // a count
	return at, last < limit
}

// keyRule names what a nested path without alias is called in a row.
func (s *Server) keyRule() twinquery.KeyRule {
	if s.Does(core.KnobNestedKey, "path") {
		return twinquery.WholePath
	}
	return twinquery.LastSegment
}

func textHash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

const sealSize = 8

// seal makes a token of a cursor. It is signed, so that a client that makes
// tokens up is refused instead of reading somewhere.
func (s *Server) seal(c cursor) string {
	b := make([]byte, 0, 48)
	for _, n := range []uint64{c.query, c.slot, c.inner, c.given} {
		b = binary.AppendUvarint(b, n)
	}
	return base64.StdEncoding.EncodeToString(append(b, s.sealOf(b)...))
}

func (s *Server) sealOf(b []byte) []byte {
	mac := hmac.New(sha256.New, s.Keys.Secret)
	mac.Write([]byte("cursor"))
	mac.Write(b)
	return mac.Sum(nil)[:sealSize]
}

func (s *Server) open(token string) (cursor, bool) {
	var c cursor
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(b) < sealSize {
		return c, false
	}
	b, sum := b[:len(b)-sealSize], b[len(b)-sealSize:]
	if !hmac.Equal(sum, s.sealOf(b)) {
		return c, false
	}
	for _, field := range []*uint64{&c.query, &c.slot, &c.inner, &c.given} {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return c, false
		}
		*field, b = n, b[size:]
	}
	return c, true
}
