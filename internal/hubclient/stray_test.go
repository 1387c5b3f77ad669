package hubclient_test

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// repeater is a hub behind a gateway that says more than it was asked. Each of
// its connections numbers its answers.
func repeater(t *testing.T, after func(c *tls.Conn, raw *glue, answer string)) (c *hubclient.Client, opened *atomic.Int32) {
	t.Helper()
	h := newFakeHub(t, respond(http.StatusOK, `{}`)) // for its certificate alone
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opened = &atomic.Int32{}
	var requests atomic.Int32
	serve := func(conn net.Conn) {
		raw := &glue{Conn: conn}
		defer raw.Close()
		c := tls.Server(raw, &tls.Config{Certificates: h.TLS.Certificates, MinVersion: tls.VersionTLS12})
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			body := fmt.Sprintf(`{"status":%d}`, requests.Add(1))
			after(c, raw, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
	}
	done := make(chan struct{})
	go func() { // ends when the listener is closed; the cleanup waits for it
		defer close(done)
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			opened.Add(1)
			go serve(raw) // ends with its connection, which the client's Close ends
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return newClient(t, hubclient.Options{ConnectionString: connectionString(listener.Addr().String()), RootCAs: h.roots(), Connections: 1}), opened
}

// TestAnswersThatNobodyAskedFor: whatever waits on a connection between two
// calls, it is not the answer to the next one.
func TestAnswersThatNobodyAskedFor(t *testing.T) {
	tests := map[string]func(c *tls.Conn, raw *glue, answer string){
		"twice in one record":  func(c *tls.Conn, _ *glue, a string) { _, _ = io.WriteString(c, a+a) },
		"twice in one segment": twiceInOneSegment,
		"again at once":        func(c *tls.Conn, _ *glue, a string) { _, _ = io.WriteString(c, a); _, _ = io.WriteString(c, a) },
		"a part of a record": func(c *tls.Conn, raw *glue, a string) {
			_, _ = io.WriteString(c, a)
			_, _ = raw.Write([]byte{23, 3, 3})
		},
		"a byte":                    func(c *tls.Conn, _ *glue, a string) { _, _ = io.WriteString(c, a); _, _ = io.WriteString(c, "\n") },
		"a goodbye":                 func(c *tls.Conn, _ *glue, a string) { _, _ = io.WriteString(c, a); _ = c.CloseWrite() },
		"the end of the connection": func(c *tls.Conn, raw *glue, a string) { _, _ = io.WriteString(c, a); _ = raw.Close() },
	}
	for name, after := range tests {
		t.Run(name, func(t *testing.T) {
			c, opened := repeater(t, after)
			for n := range 5 {
				got, err := c.Invoke(t.Context(), door(), call())
				if err != nil || got.Status != n+1 {
					t.Errorf("call %d: answer %+v, %v", n+1, got, err)
				}
				time.Sleep(20 * time.Millisecond) // real time, in which the rest arrives; a call that came earlier could only meet it by luck
			}
			if opened.Load() != 5 {
				t.Errorf("%d connections were opened, want a new one for each call", opened.Load())
			}
		})
	}
}

// glue is a connection that can hold back what is written to it.
type glue struct {
	net.Conn
	hold bool
	held []byte
}

// Write writes at once, or when what is held back is let go.
func (g *glue) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	if g.hold {
		return len(p), nil
	}
	_, err := g.Conn.Write(g.held)
	g.held = g.held[:0]
	return len(p), err
}

// twiceInOneSegment sends two records in one piece, so that TLS reads both when
// the first is asked for.
func twiceInOneSegment(c *tls.Conn, raw *glue, answer string) {
	raw.hold = true
	_, _ = io.WriteString(c, answer)
	raw.hold = false
	_, _ = io.WriteString(c, answer)
}

// TestQuietConnectionIsUsedAgain is the other side: nothing waits, nothing is lost.
func TestQuietConnectionIsUsedAgain(t *testing.T) {
	c, opened := repeater(t, func(c *tls.Conn, _ *glue, a string) { _, _ = io.WriteString(c, a) })
	for n := range 200 {
		if got, err := c.Invoke(t.Context(), door(), call()); err != nil || got.Status != n+1 {
			t.Fatalf("call %d: answer %+v, %v", n+1, got, err)
		}
	}
	if opened.Load() != 1 {
		t.Errorf("%d connections were opened, want 1", opened.Load())
	}
}

// TestErrorsThatAreNotWhole: a status whose code was not read decides nothing
// about whether the device has acted.
func TestErrorsThatAreNotWhole(t *testing.T) {
	closed := `{"Message":"{\"errorCode\":404104,\"message\":\"` + strings.Repeat("x", 200) + `\"}"}`
	cut := func(w http.ResponseWriter, status int, encoding string, body []byte) {
		w.Header().Set("Content-Length", "5000")
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	var zipped strings.Builder
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, closed)
	_ = z.Close()
	answers := map[string]func(w http.ResponseWriter, status int){
		"cut":             func(w http.ResponseWriter, status int) { cut(w, status, "", []byte(closed[:30])) },
		"cut at once":     func(w http.ResponseWriter, status int) { cut(w, status, "", nil) },
		"cut in its gzip": func(w http.ResponseWriter, status int) { cut(w, status, "gzip", []byte(zipped.String()[:20])) },
		"another encoding": func(w http.ResponseWriter, status int) {
			w.Header().Set("Content-Encoding", "br")
			w.WriteHeader(status)
		},
		"too long": func(w http.ResponseWriter, status int) {
			w.Header().Set("Content-Length", "99999999")
			w.WriteHeader(status)
		},
	}
	for name, answer := range answers {
		for status, want := range map[int]hub.Kind{
			400: hub.KindNoAnswer, 404: hub.KindNoAnswer, 499: hub.KindNoAnswer,
			403: hub.KindForbidden, 409: hub.KindConflict, 412: hub.KindPrecondition, 429: hub.KindThrottled, 500: hub.KindServer,
		} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				h := newFakeHub(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, status) })
				e := refusalOf(t, operations()[3].run(t.Context(), h.client(t, nil)))
				if e.Kind != want || e.StatusCode != status || strings.Contains(e.Message, "\x00") {
					t.Errorf("%s of %d: %q, want %s", e.Kind, e.StatusCode, e.Message, want)
				}
			})
		}
	}
	h := newFakeHub(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "GZIP")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, zipped.String())
	})
	if e := refusalOf(t, operations()[3].run(t.Context(), h.client(t, nil))); e.Code != 404104 || e.Kind != hub.KindNoAnswer {
		t.Errorf("a zipped error: %s %d", e.Kind, e.Code)
	}
}
