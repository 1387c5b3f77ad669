package hubclient_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// proxy is an HTTP proxy that only knows CONNECT. It counts its tunnels.
type proxy struct {
	server *httptest.Server
	mu     sync.Mutex
	asked  []string // guarded by mu: "host:port user:password"
}

func newProxy(t *testing.T, status int) *proxy {
	t.Helper()
	p := &proxy{}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _ := base64.StdEncoding.DecodeString(trimBasic(r.Header.Get("Proxy-Authorization")))
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.RequestURI+" "+string(user))
		p.mu.Unlock()
		if status != http.StatusOK {
			http.Error(w, "no", status)
			return
		}
		tunnel(w, r)
	}))
	t.Cleanup(p.server.Close)
	return p
}

func trimBasic(s string) string {
	const prefix = "Basic "
	if len(s) < len(prefix) {
		return ""
	}
	return s[len(prefix):]
}

// tunnel joins the client to where it asked to go, until either side ends.
func tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.RequestURI)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	w.WriteHeader(http.StatusOK)
	here, said, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(there, said) // with what the server had read ahead
		_ = there.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(here, there)
		_ = here.Close()
	})
	both.Wait()
}

func (p *proxy) tunnels() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

// url returns the proxy's address, with a name and a password.
func (p *proxy) url(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(p.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("user", "pass")
	return u
}

func TestProxy(t *testing.T) {
	p := newProxy(t, http.StatusOK)
	h := newFakeHub(t, respond(http.StatusOK, `{"status":200,"etag":"e"}`))
	var chosen atomic.Int32
	c := h.client(t, func(o *hubclient.Options) {
		o.Proxy = func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" || r.URL.Host != h.address() {
				t.Errorf("the proxy is chosen for %s, want https://%s", r.URL, h.address())
			}
			chosen.Add(1)
			return p.url(t), nil
		}
	})
	for range 3 {
		if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := p.tunnels(), "CONNECT "+h.address()+" user:pass"; len(got) != 1 || got[0] != want {
		t.Errorf("the proxy was asked %q, want once %q", got, want)
	}
	if n := chosen.Load(); n != 1 {
		t.Errorf("the proxy was chosen %d times, want once", n)
	}
	c.Close()
}

// TestProxyRefuses covers a proxy that is in the way: nothing reached the hub.
func TestProxyRefuses(t *testing.T) {
	h := newFakeHub(t, respond(http.StatusOK, `{"status":200}`))
	for _, status := range []int{http.StatusProxyAuthRequired, http.StatusForbidden, http.StatusBadGateway} {
		p := newProxy(t, status)
		c := h.client(t, func(o *hubclient.Options) {
			o.Proxy = func(*http.Request) (*url.URL, error) { return p.url(t), nil }
		})
		_, err := c.Invoke(t.Context(), door(), call())
		if e := refusalOf(t, err); e.Kind != hub.KindNotSent {
			t.Errorf("proxy answers %d: %s %v, want %s", status, e.Kind, e, hub.KindNotSent)
		}
	}
	if seen := h.requests(); len(seen) != 0 {
		t.Errorf("the hub saw %d requests, want none", len(seen))
	}
}

func TestNoProxy(t *testing.T) {
	h := newFakeHub(t, respond(http.StatusOK, `{"status":200}`))
	c := h.client(t, func(o *hubclient.Options) {
		o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // NO_PROXY holds the hub
	})
	if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
		t.Errorf("Invoke: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name    string
		options hubclient.Options
	}{
		{"no connection string", hubclient.Options{}},
		{"a proxy that cannot be chosen", hubclient.Options{
			ConnectionString: connectionString("h"),
			Proxy:            func(*http.Request) (*url.URL, error) { return nil, errors.New("invalid") },
		}},
	}
	for _, tt := range tests {
		if c, err := hubclient.New(tt.options); err == nil {
			t.Errorf("%s: New = %v, want an error", tt.name, c)
		}
	}
}

// counter counts a server's connections.
type counter struct {
	opened, open, most atomic.Int32
}

func (c *counter) note(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.opened.Add(1)
		now := c.open.Add(1)
		for old := c.most.Load(); now > old && !c.most.CompareAndSwap(old, now); old = c.most.Load() {
		}
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// newCountedHub is a fake hub whose connections are counted.
func newCountedHub(t *testing.T, answer http.HandlerFunc) (*fakeHub, *counter) {
	t.Helper()
	h, count := &fakeHub{}, &counter{}
	h.Server = httptest.NewUnstartedServer(h.remember(answer))
	h.Config.ConnState = count.note
	h.StartTLS()
	t.Cleanup(h.Close)
	return h, count
}

// TestConnections makes many calls at once over few connections, good and bad
// answers alike: first more than there are connections, then in rounds with
// idle times between them.
func TestConnections(t *testing.T) {
	const calls, connections, rounds = 200, 8, 10
	var next atomic.Int32
	h, count := newCountedHub(t, func(w http.ResponseWriter, r *http.Request) {
		if next.Add(1)%2 == 0 {
			respond(http.StatusNotFound, `{"Message":"{\"errorCode\":404103}"}`)(w, r)
			return
		}
		respond(http.StatusOK, `{"status":200}`)(w, r)
	})
	c := h.client(t, func(o *hubclient.Options) { o.Connections = connections })
	var answered, offline atomic.Int32
	atOnce := func(n int) {
		var group sync.WaitGroup
		for range n {
			group.Go(func() {
				_, err := c.Invoke(t.Context(), door(), call())
				switch {
				case err == nil:
					answered.Add(1)
				case kindOf(err) == hub.KindOffline:
					offline.Add(1)
				default:
					t.Errorf("Invoke: %v", err)
				}
			})
		}
		group.Wait()
	}
	atOnce(calls)
	for range rounds {
		atOnce(connections)
	}
	if want := int32(calls+rounds*connections) / 2; answered.Load() != want || offline.Load() != want {
		t.Errorf("%d answered, %d offline, want %d each", answered.Load(), offline.Load(), want)
	}
	if n := count.most.Load(); n > connections {
		t.Errorf("%d connections were open at once, want %d at most", n, connections)
	}
	// One that dies in a race for it may be opened again, no more.
	if n := count.opened.Load(); n > 2*connections {
		t.Errorf("%d connections were opened for %d calls, want about %d", n, calls+rounds*connections, connections)
	}
}

// TestLongRefusalKeepsItsConnection reads the rest of what it does not need.
func TestLongRefusalKeepsItsConnection(t *testing.T) {
	h, count := newCountedHub(t, respond(http.StatusBadGateway, strings.Repeat("<p>sorry</p>", 8<<10)))
	c := h.client(t, nil)
	for range 5 {
		_, err := c.Invoke(t.Context(), door(), call())
		if kind := refusalOf(t, err).Kind; kind != hub.KindNoAnswer {
			t.Fatalf("kind = %s, want %s", kind, hub.KindNoAnswer)
		}
	}
	if n := count.opened.Load(); n != 1 {
		t.Errorf("%d connections were opened for 5 calls one after the other, want 1", n)
	}
}
