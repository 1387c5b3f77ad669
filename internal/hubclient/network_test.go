package hubclient_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(there, here)
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

// TestConnections makes many calls at once over few connections, good and bad
// answers alike.
func TestConnections(t *testing.T) {
	const calls, connections = 200, 8
	var opened, open, most atomic.Int32
	var next atomic.Int32
	h := &fakeHub{}
	h.Server = httptest.NewUnstartedServer(h.remember(func(w http.ResponseWriter, r *http.Request) {
		if next.Add(1)%3 == 0 {
			respond(http.StatusNotFound, `{"Message":"{\"errorCode\":404103}"}`)(w, r)
			return
		}
		respond(http.StatusOK, `{"status":200}`)(w, r)
	}))
	h.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
			now := open.Add(1)
			for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	h.StartTLS()
	t.Cleanup(h.Close)
	c := h.client(t, func(o *hubclient.Options) { o.Connections = connections })
	var answered, offline atomic.Int32
	start := make(chan struct{})
	var group sync.WaitGroup
	for range calls {
		group.Go(func() {
			<-start
			_, err := c.Invoke(context.Background(), door(), call())
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
	close(start)
	group.Wait()
	if answered.Load()+offline.Load() != calls || offline.Load() != calls/3 {
		t.Errorf("%d answered, %d offline, want %d in all, a third offline", answered.Load(), offline.Load(), calls)
	}
	if n := most.Load(); n > connections {
		t.Errorf("%d connections were open at once, want %d at most", n, connections)
	}
	// A connection that dies in a race for it may be opened again, no more.
	if n := opened.Load(); n > 2*connections {
		t.Errorf("%d connections were opened for %d calls, want about %d", n, calls, connections)
	}
}
