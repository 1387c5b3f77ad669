package hubclient_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
)

// TestCutOnReusedConnection cuts the second request of a connection, which is
// where transports like to send again what they believe was lost. The hub saw
// it, so it must not come twice.
func TestCutOnReusedConnection(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			var next atomic.Int32
			h, count := newCountedHub(t, func(w http.ResponseWriter, r *http.Request) {
				if next.Add(1) == 1 {
					respond(http.StatusNotFound, ``)(w, r)
					return
				}
				panic(http.ErrAbortHandler)
			})
			c := h.client(t, nil)
			if kind := refusalOf(t, op.run(t.Context(), c)).Kind; kind != hub.KindNotFound {
				t.Fatalf("first call: kind = %s, want %s", kind, hub.KindNotFound)
			}
			if kind := refusalOf(t, op.run(t.Context(), c)).Kind; kind != hub.KindCut {
				t.Errorf("second call: kind = %s, want %s", kind, hub.KindCut)
			}
			if seen := h.requests(); len(seen) != 2 {
				t.Errorf("the hub saw %d requests, want 2", len(seen))
			}
			if n := count.opened.Load(); n != 1 {
				t.Errorf("%d connections were opened, want 1", n)
			}
		})
	}
}

// TestStaleConnection lets the hub close the idle connection between two
// calls. Nothing was lost, so the second call goes out on a fresh one, once.
func TestStaleConnection(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const calls = 5
				var seen atomic.Int32
				h := newBubbleHub(t, func(w http.ResponseWriter, r *http.Request) {
					seen.Add(1)
					respond(http.StatusNotFound, ``)(w, r)
				})
				var count counter
				h.server.Config.ConnState = count.note
				h.server.Config.IdleTimeout = 30 * time.Second
				h.start()
				c := newClient(t, h.options())
				for range calls {
					if kind := refusalOf(t, op.run(t.Context(), c)).Kind; kind != hub.KindNotFound {
						t.Errorf("kind = %s, want %s", kind, hub.KindNotFound)
					}
					pass(t, 40*time.Second)
				}
				if seen.Load() != calls || count.opened.Load() != calls {
					t.Errorf("the hub saw %d requests on %d connections, want %d of each", seen.Load(), count.opened.Load(), calls)
				}
				h.stop()
			})
		})
	}
}

// TestIdleConnectionIsGivenUp ends an idle connection of our own accord before
// the gateways do, so that a call is seldom written to one that they just closed.
func TestIdleConnectionIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBubbleHub(t, respond(http.StatusOK, `{"status":200}`))
		var count counter
		h.server.Config.ConnState = count.note
		h.start()
		c := newClient(t, h.options())
		for _, step := range []struct {
			idle   time.Duration
			opened int32
		}{{0, 1}, {49 * time.Second, 1}, {51 * time.Second, 2}} {
			pass(t, step.idle)
			if _, err := c.Invoke(t.Context(), door(), call()); err != nil {
				t.Fatal(err)
			}
			if n := count.opened.Load(); n != step.opened {
				t.Errorf("%d connections were opened after an idle time of %v, want %d", n, step.idle, step.opened)
			}
		}
		c.Close()
		h.stop()
	})
}
