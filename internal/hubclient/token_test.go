package hubclient_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
)

const (
	unauthorized = `{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"Tracking ID:ab"}`
	notOnline    = `{"Message":"{\"errorCode\":404103,\"message\":\"not online\"}"}`
)

// TestTokenOnTheWire watches the header over an hour of fake time.
func TestTokenOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var tokens []string
		h := newBubbleHub(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			tokens = append(tokens, r.Header.Get("Authorization"))
			mu.Unlock()
			respond(http.StatusOK, `{"status":200}`)(w, r)
		})
		h.start()
		c := newClient(t, h.options())
		ask := func() string {
			t.Helper()
			if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			return tokens[len(tokens)-1]
		}
		first := ask()
		for range 20 {
			if ask() != first {
				t.Fatal("the token changed from one call to the next")
			}
		}
		pass(t, 45*time.Minute-time.Second)
		if ask() != first {
			t.Error("the token changed before it was due")
		}
		pass(t, time.Second)
		if ask() == first {
			t.Error("the token was not renewed after 45 minutes")
		}
		c.Close()
		h.stop()
	})
}

// pass lets d go by on the fake clock.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// TestRefusedToken tells a token that ran out from one that never was good.
func TestRefusedToken(t *testing.T) {
	type step struct {
		status int
		body   string
		want   hub.Kind // 0 for success
	}
	good := step{http.StatusOK, `{"status":200}`, 0}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a fresh one", []step{{401, unauthorized, hub.KindUnauthorized}, {401, unauthorized, hub.KindUnauthorized}}},
		{"one that was taken before", []step{good, {401, unauthorized, hub.KindTokenExpired}, good, {401, unauthorized, hub.KindTokenExpired}}},
		{"its successor too, for now", []step{good, {401, unauthorized, hub.KindTokenExpired}, {401, unauthorized, hub.KindTokenExpired}, good}},
		{"one that only met devices that were offline", []step{{404, notOnline, hub.KindOffline}, {401, unauthorized, hub.KindTokenExpired}}},
		{"one that was only throttled", []step{{429, "", hub.KindThrottled}, {401, unauthorized, hub.KindUnauthorized}}},
		{"one that only met a gateway", []step{{404, "", hub.KindNotFound}, {502, "", hub.KindNoAnswer}, {401, unauthorized, hub.KindUnauthorized}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next atomic.Int32
			h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) {
				s := tt.steps[next.Add(1)-1]
				respond(s.status, s.body)(w, r)
			})
			c := h.client(t, nil)
			for i, s := range tt.steps {
				_, err := c.Invoke(t.Context(), door(), call())
				if s.want == 0 {
					if err != nil {
						t.Fatalf("step %d: %v", i+1, err)
					}
					continue
				}
				if e := refusalOf(t, err); e.Kind != s.want {
					t.Errorf("step %d: kind = %s, want %s", i+1, e.Kind, s.want)
				}
			}
			if seen := h.requests(); len(seen) != len(tt.steps) {
				t.Errorf("the hub saw %d requests for %d calls: the client repeats them", len(seen), len(tt.steps))
			}
		})
	}
}

// TestTokenExpiresUnderMany refuses one token to many calls at once: each may
// be tried again, none of them is the end of the run.
func TestTokenExpiresUnderMany(t *testing.T) {
	const calls = 16
	var asked atomic.Int32
	all := make(chan struct{})
	h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if n == 1 {
			respond(http.StatusOK, `{"status":200}`)(w, r)
			return
		}
		if n == calls+1 {
			close(all)
		}
		<-all // every one of them carries the old token
		respond(http.StatusUnauthorized, unauthorized)(w, r)
	})
	c := h.client(t, nil)
	if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
		t.Fatal(err)
	}
	kinds := make(chan hub.Kind, calls)
	var group sync.WaitGroup
	for range calls {
		group.Go(func() {
			_, err := c.Invoke(t.Context(), door(), call())
			kinds <- kindOf(err)
		})
	}
	group.Wait()
	close(kinds)
	for kind := range kinds {
		if kind != hub.KindTokenExpired {
			t.Errorf("kind = %s, want %s for every call", kind, hub.KindTokenExpired)
		}
	}
}

// TestRefusedTokens refuses all tokens from a time on: the first of them was
// good, so its successor is given three seconds, in which no answer of the hub says
// otherwise. Others that it takes meanwhile do.
func TestRefusedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		h := newBubbleHub(t, func(w http.ResponseWriter, r *http.Request) {
			if refuse.Load() {
				respond(http.StatusUnauthorized, unauthorized)(w, r)
				return
			}
			respond(http.StatusOK, `{"status":200}`)(w, r)
		})
		h.start()
		c := newClient(t, h.options())
		want := func(kind hub.Kind, wait time.Duration) {
			t.Helper()
			_, err := c.Invoke(t.Context(), door(), call())
			if e := refusalOf(t, err); e.Kind != kind || e.Wait != wait {
				t.Errorf("%s, to wait for %v, want %s and %v", e.Kind, e.Wait, kind, wait)
			}
		}
		taken := func() {
			t.Helper()
			refuse.Store(false)
			if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
				t.Error(err)
			}
			refuse.Store(true)
		}
		taken()
		want(hub.KindTokenExpired, 0)
		want(hub.KindTokenExpired, time.Second)
		pass(t, 3*time.Second-time.Millisecond)
		want(hub.KindTokenExpired, time.Second)
		taken() // somebody else's call
		pass(t, 3*time.Second)
		want(hub.KindTokenExpired, 0)
		want(hub.KindTokenExpired, time.Second)
		pass(t, 3*time.Second)
		want(hub.KindUnauthorized, 0)
		c.Close()
		h.stop()
	})
}
