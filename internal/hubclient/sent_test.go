package hubclient_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// rawHub speaks TLS and then whatever the test says; it tells whether a
// request came whole.
type rawHub struct {
	*fakeHub // lends its certificate; not asked anything
	listener net.Listener
	saw      chan bool // one value for each connection
}

// newRawHub serves each connection with serve, which returns whether it read a
// whole request.
func newRawHub(t *testing.T, serve func(*rawHub, net.Conn) bool) *rawHub {
	t.Helper()
	h := &rawHub{fakeHub: newFakeHub(t, respond(http.StatusOK, ``)), saw: make(chan bool, 16)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.listener = listener
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				h.saw <- serve(h, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		served.Wait()
	})
	return h
}

// overTLS wraps serve in a handshake with the fake hub's certificate.
func (h *rawHub) overTLS(conn net.Conn) *tls.Conn {
	return tls.Server(conn, &tls.Config{Certificates: h.TLS.Certificates, MinVersion: tls.VersionTLS12})
}

// readWhole reads one request with its body.
func readWhole(conn net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

// TestConnectionEnds ends the connection at every stage of an exchange. What
// the client says must agree with what the hub saw.
func TestConnectionEnds(t *testing.T) {
	answered := func(text string) func(*rawHub, net.Conn) bool {
		return func(h *rawHub, conn net.Conn) bool {
			c := h.overTLS(conn)
			saw := readWhole(c)
			_, _ = io.WriteString(c, text)
			_ = c.Close()
			return saw
		}
	}
	tests := []struct {
		name  string
		serve func(*rawHub, net.Conn) bool
		saw   bool
		kinds []hub.Kind // any of them; more than one where nobody can know
	}{
		{
			name: "before the handshake", kinds: []hub.Kind{hub.KindNotSent},
			serve: func(*rawHub, net.Conn) bool { return false },
		},
		{
			name: "what answers does not speak TLS", kinds: []hub.Kind{hub.KindNotSent},
			serve: func(_ *rawHub, conn net.Conn) bool {
				_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
				return false
			},
		},
		{
			name: "after the handshake", kinds: []hub.Kind{hub.KindNotSent, hub.KindCut},
			serve: func(h *rawHub, conn net.Conn) bool {
				_ = h.overTLS(conn).HandshakeContext(t.Context())
				return false
			},
		},
		{
			name: "once the request was read", saw: true, kinds: []hub.Kind{hub.KindCut},
			serve: func(h *rawHub, conn net.Conn) bool { return readWhole(h.overTLS(conn)) },
		},
		{name: "inside the header", saw: true, kinds: []hub.Kind{hub.KindCut}, serve: answered("HTTP/1.1 200 OK\r\nContent-Le")},
		{name: "inside the body", saw: true, kinds: []hub.Kind{hub.KindCut}, serve: answered("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"status\":2")},
		{name: "inside a chunk", saw: true, kinds: []hub.Kind{hub.KindCut}, serve: answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"status\":2")},
		{name: "what answers does not speak HTTP", saw: true, kinds: []hub.Kind{hub.KindCut}, serve: answered("220 mail.example.com ready\r\n")},
	}
	for _, tt := range tests {
		for _, op := range operations() {
			t.Run(tt.name+"/"+op.name, func(t *testing.T) {
				h := newRawHub(t, tt.serve)
				c := newClient(t, hubclient.Options{
					ConnectionString: connectionString(h.listener.Addr().String()), RootCAs: h.roots(),
				})
				e := refusalOf(t, op.run(t.Context(), c))
				saw := <-h.saw
				if saw != tt.saw {
					t.Errorf("the hub saw the request: %t, want %t", saw, tt.saw)
				}
				if !slices.Contains(tt.kinds, e.Kind) {
					t.Errorf("kind = %s (%v), want one of %v", e.Kind, e, tt.kinds)
				}
				if e.StatusCode != 0 || e.Message == "" {
					t.Errorf("HTTP %d %q, want no status and a message", e.StatusCode, e.Message)
				}
				if more := len(h.saw); more != 0 {
					t.Errorf("the client came %d times more", more)
				}
			})
		}
	}
}

// TestNeverConnected fails before there is anything to send on.
func TestNeverConnected(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	_ = listener.Close()
	h := newFakeHub(t, respond(http.StatusOK, `{}`))
	tests := []struct {
		name    string
		options hubclient.Options
	}{
		{"refused", hubclient.Options{ConnectionString: connectionString(closed)}},
		{"unknown authority", hubclient.Options{ConnectionString: connectionString(h.address())}},
		{"another name in the certificate", hubclient.Options{
			ConnectionString: connectionString("other.example.net"), RootCAs: h.roots(),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, h.address())
			},
		}},
		{"no such host", hubclient.Options{
			ConnectionString: connectionString("nowhere.example.net"),
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.DNSError{Err: "no such host", Name: "nowhere.example.net", IsNotFound: true}
			},
		}},
	}
	for _, tt := range tests {
		c := newClient(t, tt.options)
		for _, op := range operations() {
			if e := refusalOf(t, op.run(t.Context(), c)); e.Kind != hub.KindNotSent || e.Err == nil || e.Message == "" {
				t.Errorf("%s, %s: %s %q, want %s with cause and message", tt.name, op.name, e.Kind, e.Message, hub.KindNotSent)
			}
		}
	}
	if seen := h.requests(); len(seen) != 0 {
		t.Errorf("the hub saw %d requests, want none", len(seen))
	}
}

var errInterrupted = errors.New("interrupted by a signal")

// TestCancelledBeforeWriting gives up while there is no connection to be had.
func TestCancelledBeforeWriting(t *testing.T) {
	dialing := make(chan struct{}, 16)
	stuck := func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialing <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			c := newClient(t, hubclient.Options{ConnectionString: connectionString("example.com"), DialContext: stuck})
			ctx, cancel := context.WithCancelCause(t.Context())
			result := make(chan error, 1)
			go func() { result <- op.run(ctx, c) }() // ends with the cancellation below
			<-dialing
			cancel(errInterrupted)
			e := refusalOf(t, <-result)
			if e.Kind != hub.KindCancelled {
				t.Errorf("kind = %s (%v), want %s", e.Kind, e, hub.KindCancelled)
			}
		})
	}
}

// TestCancelledWaitingForAConnection gives up in the queue of a full pool.
func TestCancelledWaitingForAConnection(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		respond(http.StatusOK, `{"status":200}`)(w, r)
	})
	c := h.client(t, func(o *hubclient.Options) { o.Connections = 1 })
	first := make(chan error, 1)
	go func() { _, err := c.Invoke(t.Context(), door(), call()); first <- err }()
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Invoke(ctx, door(), call())
	if e := refusalOf(t, err); e.Kind != hub.KindCancelled || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("error = %s %v, want %s by the caller's deadline", e.Kind, e, hub.KindCancelled)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the call that had the connection: %v", err)
	}
	if seen := h.requests(); len(seen) != 1 {
		t.Errorf("the hub saw %d requests, want 1", len(seen))
	}
}

// TestCancelledAfterWriting gives up once the hub has the request.
func TestCancelledAfterWriting(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			arrived := make(chan struct{})
			h := newFakeHub(t, func(_ http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-r.Context().Done()
			})
			c := h.client(t, nil)
			ctx, cancel := context.WithCancelCause(t.Context())
			result := make(chan error, 1)
			go func() { result <- op.run(ctx, c) }() // ends with the cancellation below
			<-arrived
			cancel(errInterrupted)
			if e := refusalOf(t, <-result); e.Kind != hub.KindCut {
				t.Errorf("kind = %s (%v), want %s", e.Kind, e, hub.KindCut)
			}
		})
	}
}

func TestCancelledBeforehand(t *testing.T) {
	h := newFakeHub(t, respond(http.StatusOK, `{}`))
	c := h.client(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, op := range operations() {
		if e := refusalOf(t, op.run(ctx, c)); e.Kind != hub.KindCancelled {
			t.Errorf("%s: kind = %s (%v), want %s", op.name, e.Kind, e, hub.KindCancelled)
		}
	}
	if seen := h.requests(); len(seen) != 0 {
		t.Errorf("the hub saw %d requests, want none", len(seen))
	}
}

// TestTimeouts lets the hub be silent, on fake time: a method may take what it
// was given and ten seconds, all else a minute.
func TestTimeouts(t *testing.T) {
	method := func(connect, response time.Duration) func(context.Context, *hubclient.Client) error {
		return func(ctx context.Context, c *hubclient.Client) error {
			_, err := c.Invoke(ctx, door(), hub.Call{Method: "m", ConnectTimeout: connect, ResponseTimeout: response})
			return err
		}
	}
	ops := operations()
	tests := []struct {
		name string
		run  func(context.Context, *hubclient.Client) error
		want time.Duration
	}{
		{"query", ops[0].run, time.Minute},
		{"twin", ops[1].run, time.Minute},
		{"patch", ops[2].run, time.Minute},
		{"short method", method(0, 5*time.Second), 15 * time.Second},
		{"long method", method(300*time.Second, 300*time.Second), 610 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newBubbleHub(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
				h.start()
				c := newClient(t, h.options())
				begin := time.Now()
				e := refusalOf(t, tt.run(t.Context(), c))
				if took := time.Since(begin); took != tt.want {
					t.Errorf("gave up after %v, want %v", took, tt.want)
				}
				if e.Kind != hub.KindCut || !strings.Contains(e.Message, "no answer") {
					t.Errorf("error = %s %q, want %s and that no answer came", e.Kind, e.Message, hub.KindCut)
				}
				h.stop()
			})
		})
	}
}

// TestCallEndsWithTheAnswer lets a device take its time within what it has.
func TestCallEndsWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBubbleHub(t, func(w http.ResponseWriter, r *http.Request) {
			timer := time.NewTimer(299 * time.Second)
			defer timer.Stop()
			<-timer.C
			respond(http.StatusOK, `{"status":200}`)(w, r)
		})
		h.start()
		c := newClient(t, h.options())
		got, err := c.Invoke(t.Context(), door(), hub.Call{Method: "slow", ResponseTimeout: 300 * time.Second})
		if err != nil || got.Status != http.StatusOK {
			t.Errorf("Invoke = %+v, %v, want status 200", got, err)
		}
		c.Close()
		h.stop()
	})
}

// TestNotSentIsNotSent cancels calls at random instants of their way out and
// compares each report with what the hub saw.
func TestNotSentIsNotSent(t *testing.T) {
	const calls = 1500
	var mu sync.Mutex
	seen := map[string]bool{}
	h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[strings.Split(r.URL.Path, "/")[2]] = true
		mu.Unlock()
		respond(http.StatusOK, `{"status":200,"etag":"e"}`)(w, r)
	})
	c := h.client(t, func(o *hubclient.Options) { o.Connections = 8 })
	ops := []func(context.Context, hub.Target) error{
		func(ctx context.Context, d hub.Target) error { _, err := c.Invoke(ctx, d, call()); return err },
		func(ctx context.Context, d hub.Target) error {
			_, err := c.PatchTwin(ctx, d, hub.Patch{Tags: []byte(`{}`)}, hub.AnyETag)
			return err
		},
		func(ctx context.Context, d hub.Target) error { _, err := c.Twin(ctx, d); return err },
	}
	unsent := make([]bool, calls)
	kinds := map[hub.Kind]int{}
	var group sync.WaitGroup
	slots := make(chan struct{}, 24) // more than there are connections, so that some wait
	for i := range calls {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			patience := rand.N(3 * time.Millisecond)
			if i%5 == 0 {
				patience = time.Minute // keeps connections open for the others
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := ops[i%len(ops)](ctx, hub.Target{DeviceID: fmt.Sprintf("d%d", i)})
			if err == nil {
				return
			}
			kind := kindOf(err)
			unsent[i] = kind == hub.KindNotSent || kind == hub.KindCancelled
			mu.Lock()
			kinds[kind]++
			mu.Unlock()
		})
	}
	group.Wait()
	c.Close()
	h.Close() // waits for the handlers, so that seen is final
	for i, claimed := range unsent {
		if claimed && seen[fmt.Sprintf("d%d", i)] {
			t.Errorf("call %d was reported as not sent, but the hub saw it", i)
		}
	}
	t.Logf("%d calls seen by the hub; kinds %v", len(seen), kinds)
	if kinds[hub.KindCancelled] == 0 || len(seen) == 0 {
		t.Errorf("%d calls cancelled in time, %d seen: the test missed the window", kinds[hub.KindCancelled], len(seen))
	}
}
