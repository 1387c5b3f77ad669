package hubclient_test

import (
	"context"
	"testing"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// A request carries the trace of its context, next to its own headers, and none where
// there is no trace.
func TestTraceParent(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	type traced struct{}
	h := newFakeHub(t, respond(200, `[]`))
	c := h.client(t, func(o *hubclient.Options) {
		o.TraceParent = func(ctx context.Context) string {
			text, _ := ctx.Value(traced{}).(string)
			return text
		}
	})
	for _, want := range []string{parent, ""} {
		ctx := context.WithValue(t.Context(), traced{}, want)
		if _, err := c.Query(ctx, hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 7}); err != nil {
			t.Fatal(err)
		}
		got := h.requests()[len(h.requests())-1].header
		if got.Get("Traceparent") != want || got.Get("X-Ms-Max-Item-Count") != "7" {
			t.Errorf("headers %v, want the trace %q", got, want)
		}
	}
}
