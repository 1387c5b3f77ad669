package hubclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// request is one exchange with the hub.
type request struct {
	op      string // for messages: "query devices", "read twin"
	method  string
	path    string // escaped
	query   string // behind the version, escaped, from its first & on
	body    []byte // nil for none
	extra   header // headers beside those of every request
	timeout time.Duration
	limit   int64 // bytes of answer that are read at most
}

// header is a small set of headers; most requests have none or one.
type header []struct{ key, value string }

// answer is what came back, read whole. Its body belongs to the caller.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// exchangeError is an exchange that brought no whole answer.
type exchangeError struct {
	err  error
	sent bool // the request was written to its end: the hub may have acted
	late bool // the time given has passed
}

// exchange makes one request on one connection. It is written in one piece, so
// that there are two possibilities and no third: it left whole, and the hub may
// have acted, or it did not, and the hub cannot have.
func (c *Client) exchange(ctx context.Context, r request, tok *token) (a answer, failed *exchangeError) {
	deadline := time.Now().Add(r.timeout)
	cn, err := c.pool.get(ctx, deadline)
	if err != nil {
		return a, &exchangeError{err: err, late: !time.Now().Before(deadline)}
	}
	keep := false
	// Cuts the exchange off below TLS: a goodbye could bring an answer yet.
	stop := context.AfterFunc(ctx, func() { _ = cn.raw.Close() })
	defer func() { c.pool.put(cn, stop() && keep) }()

	cn.meter.left = r.limit + maxHeader
	cn.out = c.appendRequest(cn.out[:0], r, tok)
	if err = cn.SetDeadline(deadline); err == nil {
		_, err = cn.Write(cn.out)
	}
	if err != nil {
		return a, &exchangeError{err: err, late: !time.Now().Before(deadline)}
	}
	a, keep, err = readAnswer(cn, r.limit)
	if err != nil {
		return a, &exchangeError{err: err, sent: true, late: !time.Now().Before(deadline)}
	}
	return a, nil
}

// appendRequest writes a request as it goes on the wire. No value of it holds a
// line break: paths are escaped, and what a header carries is ours or came in
// a header itself.
func (c *Client) appendRequest(b []byte, r request, tok *token) []byte {
	b = append(append(append(b, r.method...), ' '), r.path...)
	b = append(append(append(b, "?api-version="+apiVersion...), r.query...), " HTTP/1.1\r\n"...)
	b = append(b, c.headerBlock(tok)...)
	for _, h := range r.extra {
		b = append(append(append(b, h.key...), ": "...), h.value...)
		b = append(b, "\r\n"...)
	}
	if r.body != nil {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(append(b, "\r\n"...), r.body...)
}

// headerBlock is what every request with the same token has in common.
type headerBlock struct {
	tok  *token
	text []byte
}

func (c *Client) headerBlock(tok *token) []byte {
	if block := c.headers.Load(); block != nil && block.tok == tok {
		return block.text
	}
	text := fmt.Appendf(nil, "Host: %s\r\nUser-Agent: %s\r\nAuthorization: %s\r\n"+
		"Content-Type: application/json; charset=utf-8\r\nAccept-Encoding: gzip\r\n", c.host, c.userAgent, tok.text)
	c.headers.Store(&headerBlock{tok: tok, text: text})
	return text
}

// maxInterim is how many answers of class 1xx may come before the real one.
const maxInterim = 5

// readAnswer reads an answer to its end; keep tells whether the connection can
// carry another request.
func readAnswer(cn *conn, limit int64) (a answer, keep bool, err error) {
	var res *http.Response
	for n := 0; ; n++ {
		// The body holds nothing of its own to close: what it was not read to the
		// end of is closed with the connection.
		if res, err = http.ReadResponse(cn.in, nil); err != nil { //nolint:bodyclose // see above
			return a, false, err
		}
		if res.StatusCode >= 200 || n == maxInterim {
			break
		}
	}
	a.status, a.header = res.StatusCode, res.Header
	a.body, err = cn.readBody(res, limit)
	return a, err == nil && !res.Close && cn.in.Buffered() == 0, err
}

// readBody reads a body whole, in one piece when its length is announced.
func (cn *conn) readBody(res *http.Response, limit int64) ([]byte, error) {
	if res.ContentLength > limit {
		return nil, tooLong(limit)
	}
	switch encoding := res.Header.Get("Content-Encoding"); {
	case strings.EqualFold(encoding, "gzip"), strings.EqualFold(encoding, "x-gzip"):
		return cn.readCompressed(res.Body, limit)
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return nil, fmt.Errorf("%w %q", errEncoding, encoding)
	}
	if res.ContentLength >= 0 {
		b := make([]byte, res.ContentLength)
		n, err := io.ReadFull(res.Body, b)
		return b[:n], err
	}
	return readUpTo(res.Body, limit)
}

// readCompressed takes a decompressor from the pool: it is the largest thing
// that reading an answer takes.
func (cn *conn) readCompressed(body io.Reader, limit int64) (b []byte, err error) {
	unzip := cn.pool.takeUnzip()
	if err = unzip.Reset(body); err != nil {
		return nil, err
	}
	defer cn.pool.putUnzip(unzip)
	b, err = readUpTo(unzip, limit)
	if err == nil {
		_, err = io.Copy(io.Discard, body) // the end of a chunked body
	}
	return b, err
}

func readUpTo(body io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = tooLong(limit)
	}
	return b, err
}

var errEncoding = errors.New("the answer has the content encoding")

var errTooLong = errors.New("the answer is too long")

func tooLong(limit int64) error {
	return fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
}
