//go:build unix

package hubclient_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"iothub-runner/internal/hubclient"
)

// counted is a connection that counts as open until it is closed.
type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int32
}

// Close closes the connection and counts it out, once.
func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// TestShortage: a machine that can open few connections makes its calls on
// these, and says so once.
func TestShortage(t *testing.T) {
	const calls, files = 60, 4
	h := newFakeHub(t, respond(http.StatusOK, `{"status":200}`))
	var open, refused atomic.Int32
	var said bytes.Buffer
	c := h.client(t, func(o *hubclient.Options) {
		o.Connections = calls
		o.Log = slog.New(slog.NewTextHandler(&said, nil))
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if open.Add(1) > files {
				open.Add(-1)
				refused.Add(1)
				return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("socket", syscall.EMFILE)}
			}
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &counted{Conn: conn, open: &open}, err
		}
	})
	for range 3 {
		var all sync.WaitGroup
		for range calls {
			all.Go(func() {
				if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
					t.Errorf("Invoke: %v", err)
				}
			})
		}
		all.Wait()
	}
	if n := strings.Count(said.String(), "cannot open more connections"); n != 1 || refused.Load() == 0 {
		t.Errorf("said %d times after %d refusals: %s", n, refused.Load(), said.String())
	}
}

// TestShortageOfEverything ends with the time for the call, and without a call.
func TestShortageOfEverything(t *testing.T) {
	h := newFakeHub(t, respond(http.StatusOK, `{"status":200}`))
	c := h.client(t, func(o *hubclient.Options) {
		o.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ENFILE }
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := operations()[3].run(ctx, c); err == nil || len(h.requests()) != 0 {
		t.Errorf("error = %v after %d requests", err, len(h.requests()))
	}
}
