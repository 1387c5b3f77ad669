package hubclient_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"iothub-runner/internal/hubclient"
)

// pipes is a listener whose connections never leave the process, so that they
// wait on the fake clock of a synctest bubble. Real sockets do not.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubbleHub is an HTTPS hub on fake time, known as example.com.
type bubbleHub struct {
	server *httptest.Server
	pipes  *pipes
}

func newBubbleHub(t *testing.T, answer http.HandlerFunc) *bubbleHub {
	t.Helper()
	h := &bubbleHub{pipes: newPipes()}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only once the body is read does a server notice that its client went away.
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	_ = h.server.Listener.Close()
	h.server.Listener = h.pipes
	return h
}

// start begins to answer, once the test has set up the server as it wants it.
func (h *bubbleHub) start() { h.server.StartTLS() }

// stop ends the hub; the bubble ends only when all its goroutines have.
func (h *bubbleHub) stop() { h.server.Close() }

func (h *bubbleHub) options() hubclient.Options {
	pool := x509.NewCertPool()
	pool.AddCert(h.server.Certificate())
	return hubclient.Options{
		ConnectionString: connectionString("example.com"), RootCAs: pool, DialContext: h.pipes.dial,
	}
}
