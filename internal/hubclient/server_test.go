package hubclient_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// key is the base64 of "this is not the key of any hub..", which is what the
// tests look for wherever it must not be.
const key = "dGhpcyBpcyBub3QgdGhlIGtleSBvZiBhbnkgaHViLi4="

// exchange is what a fake hub saw of one request.
type exchange struct {
	line   string // "POST /devices/query?api-version=..."
	host   string
	header http.Header
	body   string
}

// fakeHub is an HTTPS server on the loopback that remembers what it was asked.
type fakeHub struct {
	*httptest.Server
	mu   sync.Mutex
	seen []exchange // guarded by mu
}

func newFakeHub(t *testing.T, answer http.HandlerFunc) *fakeHub {
	t.Helper()
	h := &fakeHub{}
	h.Server = httptest.NewUnstartedServer(h.remember(answer))
	h.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

// remember notes a request whole before it is answered.
func (h *fakeHub) remember(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // it never came whole, so the hub has not seen it
		}
		h.mu.Lock()
		h.seen = append(h.seen, exchange{
			line: r.Method + " " + r.RequestURI, host: r.Host, header: r.Header.Clone(), body: string(body),
		})
		h.mu.Unlock()
		answer(w, r)
	})
}

func (h *fakeHub) requests() []exchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]exchange(nil), h.seen...)
}

// address is the hub's host and port.
func (h *fakeHub) address() string { return strings.TrimPrefix(h.URL, "https://") }

// roots holds the hub's certificate.
func (h *fakeHub) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(h.Certificate())
	return pool
}

// client returns a client of the hub, with its options changed by change.
func (h *fakeHub) client(t *testing.T, change func(*hubclient.Options)) *hubclient.Client {
	t.Helper()
	o := hubclient.Options{ConnectionString: connectionString(h.address()), RootCAs: h.roots(), UserAgent: "test/1"}
	if change != nil {
		change(&o)
	}
	return newClient(t, o)
}

func newClient(t *testing.T, o hubclient.Options) *hubclient.Client {
	t.Helper()
	c, err := hubclient.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func connectionString(host string) string {
	return "HostName=" + host + ";SharedAccessKeyName=service;SharedAccessKey=" + key
}

// respond answers with a status, headers in pairs, and a body.
func respond(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// call is a method call with short times, for tests that expect no waiting.
func call() hub.Call {
	return hub.Call{Method: "lockDoor", Payload: []byte(`{"lockTime":"10m"}`), ResponseTimeout: 5 * time.Second}
}

func door() hub.Target { return hub.Target{DeviceID: "door-1"} }

// operation is one of the client's calls, seen from the error it returns.
type operation struct {
	name string
	run  func(context.Context, *hubclient.Client) error
}

func operations() []operation {
	return []operation{
		{"query", func(ctx context.Context, c *hubclient.Client) error {
			_, err := c.Query(ctx, hub.Query{Text: "SELECT deviceId FROM devices"})
			return err
		}},
		{"twin", func(ctx context.Context, c *hubclient.Client) error {
			_, err := c.Twin(ctx, door())
			return err
		}},
		{"patch", func(ctx context.Context, c *hubclient.Client) error {
			_, err := c.PatchTwin(ctx, door(), hub.Patch{Desired: []byte(`{"floor":3}`)}, "AAAAAAAAAAc=")
			return err
		}},
		{"invoke", func(ctx context.Context, c *hubclient.Client) error {
			_, err := c.Invoke(ctx, door(), call())
			return err
		}},
	}
}

// kindOf returns the kind of err, 0 when it is not what the client promises. It
// serves goroutines, which must not end the test.
func kindOf(err error) hub.Kind {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		return e.Kind
	}
	return 0
}

// refusalOf returns err as the one type that the client promises, or fails.
func refusalOf(t *testing.T, err error) *hub.Error {
	t.Helper()
	e, ok := errors.AsType[*hub.Error](err)
	if !ok {
		t.Fatalf("error = %v (%T), want a *hub.Error", err, err)
	}
	return e
}
