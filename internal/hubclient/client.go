// Package hubclient speaks the service protocol of IoT Hub over HTTPS: queries,
// twins and direct methods, with the credentials of a shared access policy.
//
// A Client makes exactly one request for each call and never repeats one: who
// retries, and how often a device may be called, is decided by its caller. What
// goes wrong comes back as a [*hub.Error] whose kind says whether the request
// can have had an effect. No key and no token ever reaches an error or a log.
package hubclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"iothub-runner/internal/hub"
)

// apiVersion is the newest version that Microsoft's documentation and SDKs use.
const apiVersion = "2021-04-12"

const (
	// requestTimeout bounds everything that is not a direct method.
	requestTimeout = 60 * time.Second
	// methodMargin is what a direct method may take beyond the time that the
	// hub itself gives it, so that the hub's own 504 arrives before we hang up.
	methodMargin = 10 * time.Second

	dialTimeout  = 15 * time.Second
	idleTimeout  = 50 * time.Second
	maxAnswer    = 8 << 20  // a twin with all its metadata stays far below
	maxPage      = 64 << 20 // a hundred of the largest twins
	maxErrorBody = 64 << 10
	readBuffer   = 8 << 10
)

// Options say which hub to speak to and how.
type Options struct {
	// ConnectionString of a shared access policy, with HostName (a port is
	// allowed), SharedAccessKeyName and SharedAccessKey.
	ConnectionString string
	// Connections is how many may be open at once; 0 means 64.
	Connections int
	// RootCAs to trust instead of the system's; nil means the system's.
	RootCAs *x509.CertPool
	// Proxy chooses a proxy, as in [http.Transport]; nil means none.
	Proxy func(*http.Request) (*url.URL, error)
	// DialContext replaces the network, for tests; nil means the real one.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// UserAgent names the program to the hub.
	UserAgent string
	// Log receives one debug line a request, without headers; nil discards.
	Log *slog.Logger
}

// Client speaks to one hub. It is safe for concurrent use.
type Client struct {
	host       string
	transport  *http.Transport
	credential *sasCredential
	userAgent  string
	log        *slog.Logger
	headers    sync.Map // *token -> *headerSet, so that headers are built once a token
}

// New returns a client for the hub that the connection string names. It makes
// no request.
func New(o Options) (*Client, error) {
	cs, err := ParseConnectionString(o.ConnectionString)
	if err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	transport, err := newTransport(cs.HostName, o)
	if err != nil {
		return nil, err
	}
	return &Client{
		host:       cs.HostName,
		transport:  transport,
		credential: newSASCredential(cs),
		userAgent:  o.UserAgent,
		log:        log,
	}, nil
}

// newTransport returns a pool of kept-alive HTTP/1.1 connections, as many as
// there may be requests under way. HTTP/2 would put them all on one
// connection, which the hub's gateways then serve one after the other.
func newTransport(host string, o Options) (*http.Transport, error) {
	connections := o.Connections
	if connections <= 0 {
		connections = 64
	}
	dial := o.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	t := &http.Transport{
		DialContext:         dial,
		MaxConnsPerHost:     connections,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: dialTimeout,
		ReadBufferSize:      readBuffer,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(connections),
		},
	}
	if o.Proxy == nil {
		return t, nil
	}
	// One hub, one proxy: ask once instead of at each request.
	proxy, err := o.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
	if err != nil {
		// Not wrapped: the cause may quote an address with a password in it.
		return nil, fmt.Errorf("choose a proxy for %s: %s", host, redact(err.Error()))
	}
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return t, nil
}

// HostName returns the hub's name as the connection string gave it, with its
// port if there was one.
func (c *Client) HostName() string { return c.host }

// Close ends the idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// request is one exchange with the hub.
type request struct {
	op      string // for messages: "query devices", "read twin"
	method  string
	path    string // escaped
	body    []byte // nil for none
	extra   header // headers beside those of every request
	timeout time.Duration
	limit   int64 // bytes of answer that are read at most
}

// header is a small set of headers; most requests have none or one.
type header []struct{ key, value string }

// answer is what came back with a 2xx status. Its body belongs to the caller.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes one request and reads its answer whole.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	tok, err := c.credential.current(time.Now())
	if err != nil {
		return answer{}, &hub.Error{Kind: hub.KindNotSent, Message: "sign a token: " + err.Error(), Err: err}
	}
	within, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var sent sent
	req := c.newRequest(sent.watch(within), r, tok)
	begin := time.Now()
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		c.logRequest(r, 0, begin, err)
		return answer{}, transportError(ctx, within, err, sent.maybe())
	}
	defer func() {
		drain(res.Body)
		_ = res.Body.Close()
	}()
	a := answer{status: res.StatusCode, header: res.Header}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		herr := c.refusal(res, tok)
		c.logRequest(r, res.StatusCode, begin, herr)
		return answer{}, herr
	}
	tok.accepted.Store(true)
	a.body, err = readBody(res, r.limit)
	c.logRequest(r, res.StatusCode, begin, err)
	if errors.Is(err, errTooLong) {
		return answer{}, badAnswer(a, err)
	}
	if err != nil {
		// The status line is there, the rest is not: the hub acted on it.
		return answer{}, transportError(ctx, within, err, true)
	}
	return a, nil
}

// newRequest builds a request without parsing what is known already: an opaque
// URL goes on the wire as it stands.
func (c *Client) newRequest(ctx context.Context, r request, tok *token) *http.Request {
	u := &url.URL{Scheme: "https", Host: c.host, Opaque: r.path, RawQuery: "api-version=" + apiVersion}
	req := &http.Request{
		Method: r.method, URL: u, Host: c.host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.headerFor(tok, r.extra),
	}
	if r.body != nil {
		// A reader that the transport knows to be in memory goes out in one
		// write with the header.
		req.Body = io.NopCloser(bytes.NewReader(r.body))
		req.ContentLength = int64(len(r.body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.body)), nil }
	}
	return req.WithContext(ctx)
}

// headerFor returns the headers of a request. Those that every request has are
// built once for each token and shared: the transport does not write to them.
func (c *Client) headerFor(tok *token, extra header) http.Header {
	shared, ok := c.headers.Load(tok)
	if !ok {
		h := http.Header{
			"Authorization": {tok.text},
			"Content-Type":  {"application/json; charset=utf-8"},
			"User-Agent":    {c.userAgent},
		}
		c.headers.Clear() // only the newest token is of use
		shared, _ = c.headers.LoadOrStore(tok, h)
	}
	base, _ := shared.(http.Header)
	if len(extra) == 0 {
		return base
	}
	h := make(http.Header, len(base)+len(extra))
	maps.Copy(h, base)
	for _, e := range extra {
		h[e.key] = []string{e.value}
	}
	return h
}

func (c *Client) logRequest(r request, status int, begin time.Time, err error) {
	if !c.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []any{"op", r.op, "method", r.method, "path", r.path, "status", status, "took", time.Since(begin)}
	if err != nil {
		attrs = append(attrs, "error", redact(err.Error()))
	}
	c.log.Debug("request", attrs...)
}

// readBody reads an answer whole, in one piece when its length is announced.
func readBody(res *http.Response, limit int64) ([]byte, error) {
	if res.ContentLength > limit {
		return nil, tooLong(limit)
	}
	if res.ContentLength >= 0 {
		b := make([]byte, res.ContentLength)
		_, err := io.ReadFull(res.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = tooLong(limit)
	}
	return b, err
}

var errTooLong = errors.New("the answer is too long")

func tooLong(limit int64) error {
	return fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
}

// drain reads what is left of a short answer, so that its connection can be
// used again. One that is longer costs its connection, which is cheaper.
func drain(body io.Reader) {
	_, _ = io.CopyN(io.Discard, body, maxErrorBody)
}
