// Package hubclient speaks the service protocol of IoT Hub over HTTPS: queries,
// twins and direct methods, with the credentials of a shared access policy.
//
// A Client makes exactly one request for each call and never repeats one: who
// retries, and how often a device may be called, is decided by its caller. What
// goes wrong comes back as a [*hub.Error] whose kind says whether the request
// can have had an effect. No key and no token ever reaches an error or a log.
package hubclient

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
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

	maxAnswer = 8 << 20  // a twin with all its metadata stays far below
	maxPage   = 64 << 20 // a hundred of the largest twins
	maxHeader = 1 << 20  // and what TLS adds to an answer
)

// Options say which hub to speak to and how.
type Options struct {
	// ConnectionString of a shared access policy, with HostName (a port is
	// allowed), SharedAccessKeyName and SharedAccessKey.
	ConnectionString string
	// HostName is the hub's instead, for SASToken or Token.
	HostName string
	// SASToken is a shared access signature that was made elsewhere.
	SASToken string
	// Token gets tokens of Entra ID.
	Token TokenSource
	// Connections is how many may be open at once; 0 means 64.
	Connections int
	// RootCAs to trust instead of the system's; nil means the system's.
	RootCAs *x509.CertPool
	// Proxy chooses a proxy, as in [http.Transport]; nil means none.
	Proxy func(*http.Request) (*url.URL, error)
	// DialContext replaces the network, for tests; nil means the real one.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// TraceParent returns the traceparent header of a request, by its context; empty or
	// nil for none.
	TraceParent func(ctx context.Context) string
	// UserAgent names the program to the hub.
	UserAgent string
	// Log receives one debug line a request, without headers; nil discards.
	Log *slog.Logger
}

// Client speaks to one hub. It is safe for concurrent use.
type Client struct {
	host       string
	pool       *pool
	credential *credential
	userAgent  string
	traceOf    func(ctx context.Context) string
	log        *slog.Logger
	headers    atomic.Pointer[headerBlock]
}

// New returns a client for the hub that the connection string names. It makes
// no request.
func New(o Options) (*Client, error) {
	host, signs, err := credentialOf(&o)
	if err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	connections := o.Connections
	if connections <= 0 {
		connections = 64
	}
	dialer, err := newDialer(host, connections, o)
	if err != nil {
		return nil, err
	}
	pool := newPool(dialer, connections)
	pool.onShortage = func(err error) {
		log.Warn("this machine cannot open more connections; going on with fewer, which is slower", "error", redact(err.Error()))
	}
	return &Client{
		host:       host,
		pool:       pool,
		credential: signs,
		userAgent:  o.UserAgent,
		traceOf:    o.TraceParent,
		log:        log,
	}, nil
}

// credentialOf returns the hub's name and what signs requests to it.
func credentialOf(o *Options) (host string, signs *credential, err error) {
	if o.Token == nil && o.SASToken == "" {
		cs, parseErr := ParseConnectionString(o.ConnectionString)
		return cs.HostName, withKey(cs), parseErr
	}
	if host, err = hostOf(o.HostName); err != nil {
		return "", nil, err
	}
	if o.Token != nil {
		return host, withSource(o.Token), nil
	}
	return host, withToken(o.SASToken), checkSASToken(o.SASToken)
}

// HostName returns the hub's name as the connection string gave it, with its
// port if there was one.
func (c *Client) HostName() string { return c.host }

// Close ends the idle connections.
func (c *Client) Close() { c.pool.close() }

// do makes one request and reads its answer whole.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, &hub.Error{Kind: hub.KindCancelled, Message: err.Error(), Err: err}
	}
	begin := time.Now()
	tok, err := c.credential.current(begin)
	if err != nil {
		return answer{}, &hub.Error{Kind: hub.KindNotSent, Message: "get a token: " + redact(err.Error()), Err: err}
	}
	if c.traceOf != nil {
		if trace := c.traceOf(ctx); trace != "" {
			r.extra = append(slices.Clip(r.extra), header{{"traceparent", trace}}...)
		}
	}
	a, failed := c.exchange(ctx, r, tok)
	var herr *hub.Error
	switch {
	case failed == nil && a.status >= 200 && a.status <= 299:
		c.credential.accept(tok)
	case a.status >= 300 || failed == nil:
		herr = c.refusal(a, failed, tok)
	case failed.sent && (errors.Is(failed.err, errTooLong) || errors.Is(failed.err, errEncoding)):
		herr = badAnswer(a, failed.err)
	default:
		herr = transportError(ctx, failed)
	}
	c.logRequest(r, a.status, begin, herr)
	if herr != nil {
		return answer{}, herr
	}
	return a, nil
}

func (c *Client) logRequest(r request, status int, begin time.Time, err *hub.Error) {
	if !c.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []any{"op", r.op, "method", r.method, "path", r.path, "status", status, "took", time.Since(begin)}
	if err != nil {
		attrs = append(attrs, "error", redact(err.Error()))
	}
	c.log.Debug("request", attrs...)
}
