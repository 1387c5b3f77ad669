package emulator

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/twindoc"
)

const meters = `
version: 1
devices:
  - idPattern: meter-%07d
    count: 1000000
    tags: {building: {$cycle: [41, 42, 43, 44]}, floor: 1}
    desired: {interval: 60}
    reported: {interval: 60}
    methods:
      lockDoor: {status: 200, payload: {Response: locked}}
`

func heapMiB() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc >> 20)
}

// TestMillionDevices checks what a fleet of a million costs: nothing at first,
// and a bounded few hundred bytes for each device that was written to and
// called: a million of those stay below 900 MiB.
func TestMillionDevices(t *testing.T) {
	f, err := fleet.Parse("meters.yaml", []byte(meters))
	if err != nil {
		t.Fatal(err)
	}
	before := heapMiB()
	start := time.Now()
	h := hubOf(t, Options{Fleet: f})
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("New took %v", took)
	}
	if grown := heapMiB() - before; grown > 16 {
		t.Errorf("a fresh fleet takes %d MiB", grown)
	}
	w, refusal := twindoc.ParseWrite([]byte(`{"properties":{"desired":{"interval":30}}}`), true)
	if refusal != nil {
		t.Fatal(refusal)
	}
	h.CompleteWrite(&w)
	const written = 50_000
	for i := range written {
		m, refusal := h.WriteTwin(f.ID(i), "", w)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if i%10 == 0 {
			if _, err := h.Connected(m).Invoke(t.Context(), core.MethodCall{Name: "lockDoor", Timeout: time.Minute}); err != nil {
				t.Fatal(err)
			}
		}
	}
	grown := heapMiB() - before
	t.Logf("%d MiB after a write to every twentieth device", grown)
	if grown > 45 {
		t.Errorf("50,000 written devices take %d MiB", grown)
	}
	rows, _ := h.pages(t, "SELECT COUNT() AS n FROM devices WHERE properties.reported.interval = 30")
	same(t, "devices that followed", rows[0]["n"], float64(written))
	runtime.KeepAlive(h)
}

// BenchmarkQueryPage is a page of ids deep in a large fleet.
func BenchmarkQueryPage(b *testing.B) {
	f, err := fleet.Parse("meters.yaml", []byte(meters))
	if err != nil {
		b.Fatal(err)
	}
	h := hubOf(b, Options{Fleet: f})
	for _, text := range []string{"SELECT deviceId FROM devices", "SELECT deviceId FROM devices WHERE tags.building = 43", "SELECT * FROM devices"} {
		b.Run(text, func(b *testing.B) {
			token := h.seal(cursor{query: textHash(text), slot: 900_000})
			b.ReportAllocs()
			for b.Loop() {
				h.do(b, "POST", "/devices/query", queryBody(text), "x-ms-continuation", token).want(b, 200)
			}
		})
	}
}

// BenchmarkMethod compares a method call with what a server that does nothing
// costs, over the same TLS and with the same client.
func BenchmarkMethod(b *testing.B) {
	f, err := fleet.Parse("meters.yaml", []byte(meters))
	if err != nil {
		b.Fatal(err)
	}
	h := hubOf(b, Options{Fleet: f})
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, `{"status":200,"payload":{"Response":"locked"}}`)
	})
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bare}, {"hub", h.Handler()}} {
		b.Run(c.name, func(b *testing.B) { callMethods(b, c.handler, h.token) })
	}
}

func callMethods(b *testing.B, handler http.Handler, token string) {
	b.Helper()
	srv := httptest.NewUnstartedServer(handler)
	srv.StartTLS()
	defer srv.Close()
	c := srv.Client()
	c.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost,
				fmt.Sprintf("%s/twins/meter-%07d/methods?api-version=2021-04-12", srv.URL, 1+i%1_000_000),
				strings.NewReader(`{"methodName":"lockDoor","payload":{"lockTime":"10m"},"responseTimeoutInSeconds":30}`))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Authorization", token)
			resp, err := c.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				b.Errorf("answered %d", resp.StatusCode)
				return
			}
		}
	})
}
