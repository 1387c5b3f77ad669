package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
)

func (h testHub) control(t *testing.T, method, target, body string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.AdminHandler().ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		call := func(device, method string) answer {
			t.Helper()
			return h.do(t, "POST", "/twins/"+device+"/methods", `{"methodName":"`+method+`"}`)
		}
		call("ok", "lockDoor").want(t, 200)
		h.do(t, "PATCH", "/twins/ok", `{"tags":{"a":1}}`).want(t, 200)
		same(t, "executed", jsonOf(t, h.control(t, "GET", "/v1/executed/ok", "").want(t, 200).body), jsonOf(t, `{"deviceId":"ok","methods":1,"patches":1,"messages":0}`))
		same(t, "executed, all", strings.Count(h.control(t, "GET", "/v1/executed", "").want(t, 200).body, "\n"), 1)
		same(t, "twins that were written to", strings.Count(h.control(t, "GET", "/v1/twins", "").body, "\n"), 1)
		same(t, "all twins", strings.Count(h.control(t, "GET", "/v1/twins?all=true", "").body, "\n"), 3)
		same(t, "a twin", at(t, h.control(t, "GET", "/v1/twins/ok", "").doc(t), "tags", "a"), any(1.0))
		same(t, "a module's twin", h.control(t, "GET", "/v1/twins/ok?module=valve", "").doc(t)["moduleId"], any("valve"))

		h.control(t, "PUT", "/v1/devices/away/presence", `{"online":true}`).want(t, 204)
		call("away", "x").want(t, 200)
		h.control(t, "PUT", "/v1/devices/away/presence", `{"online":null}`).want(t, 204)
		call("away", "x").refused(t, 404, "DeviceNotOnline")

		before := h.Now()
		h.control(t, "POST", "/v1/clock", `{"advance":"25s"}`).want(t, 200)
		same(t, "now", h.Now().Sub(before), 25*time.Second)
		call("later", "lockDoor").want(t, 200)
		h.control(t, "POST", "/v1/clock", `{"set":"`+before.Add(time.Hour).UTC().Format(time.RFC3339Nano)+`"}`).want(t, 200)
		same(t, "now", h.Now().Sub(before), time.Hour)

		h.control(t, "PUT", "/v1/faults", "- fault: unavailable\n  operations: [method]\n").want(t, 204)
		call("ok", "lockDoor").refused(t, 503, "ServiceUnavailable")
		h.control(t, "PUT", "/v1/faults", "[{fault: unavailable, operations: [method], calls: 1, until: 1m}]").want(t, 204)
		call("ok", "lockDoor").refused(t, 503, "ServiceUnavailable") // its first call since, in the first minute since
		call("ok", "lockDoor").want(t, 200)
		h.control(t, "PUT", "/v1/faults", "[]").want(t, 204)
		call("ok", "lockDoor").want(t, 200)

		h.control(t, "PUT", "/v1/indexlag", `{"lag":"10s"}`).want(t, 204)
		h.do(t, "PATCH", "/twins/ok", `{"tags":{"b":2}}`).want(t, 200)
		rows, _ := h.pages(t, "SELECT deviceId FROM devices WHERE tags.b = 2")
		same(t, "rows at once", len(rows), 0)

		status := h.control(t, "GET", "/v1/status", "").want(t, 200).doc(t)
		same(t, "devices", status["devices"], any(3.0))
		same(t, "indexLag", status["indexLag"], any("10s"))
		same(t, "methods", at(t, status, "executed", "methods"), any(5.0))
	})
}

func TestControlRefusals(t *testing.T) {
	h := newHub(t, moods)
	cases := []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/v1/executed/nobody", "", 400, "no such device"},
		{"GET", "/v1/twins/nobody", "", 400, "no such device"},
		{"GET", "/v1/twins?all=perhaps", "", 400, "want true or false"},
		{"POST", "/v1/clock", `{"advance":"-1s"}`, 400, "only moves forward"},
		{"POST", "/v1/clock", `{"advance":"soon"}`, 400, "want a duration"},
		{"POST", "/v1/clock", `{}`, 400, "want either"},
		{"POST", "/v1/clock", `{"advance":"1s","set":"2030-01-01T00:00:00Z"}`, 400, "want either"},
		{"POST", "/v1/clock", `{"forward":"1s"}`, 400, "forward"},
		{"PUT", "/v1/devices/nobody/presence", `{"online":true}`, 400, "no such device"},
		{"PUT", "/v1/faults", `- fault: explode`, 400, "explode"},
		{"PUT", "/v1/indexlag", `{"lag":"-1s"}`, 400, "want a duration"},
		{"GET", "/twins/ok", "", 404, ""},
	}
	for _, c := range cases {
		a := h.control(t, c.method, c.path, c.body)
		if a.status != c.status || !strings.Contains(a.body, c.text) {
			t.Errorf("%s %s with %s answered %d %s, want %d and %q", c.method, c.path, c.body, a.status, a.body, c.status, c.text)
		}
	}
	h.control(t, "POST", "/v1/reset", "", "Origin", "https://evil.example").want(t, 403)
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors+"faults:\n  - fault: serverError\n    operations: [statistics]\n    calls: 1\n")
		fresh := h.do(t, "GET", "/twins/door-0001", "").body
		h.do(t, "PATCH", "/twins/door-0001", `{"tags":{"a":1}}`).want(t, 200)
		h.do(t, "PUT", "/devices/door-0002", `{"status":"disabled"}`, "If-Match", "*").want(t, 200)
		h.do(t, "DELETE", "/devices/door-0003", "", "If-Match", "*").want(t, 204)
		for _, id := range []string{"n1", "n2"} {
			h.do(t, "PUT", "/devices/"+id, "{}").want(t, 200)
		}
		h.do(t, "DELETE", "/devices/n1", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/jobs/v2/j", methodJob("j", "*", "lockDoor")).want(t, 200)
		h.do(t, "GET", "/statistics/devices", "").want(t, 500)
		d, _ := h.Store.Find("n2")
		p := &phone{}
		h.Attach(core.LinkKey{Slot: d.Slot, ID: d.ID}, p)
		if err := h.SetOnline("door-0004", false); err != nil {
			t.Fatal(err)
		}
		if err := h.ReplaceFaults("none", []byte("[]")); err != nil {
			t.Fatal(err)
		}
		h.control(t, "POST", "/v1/reset", "").want(t, 204)
		if p.closed == "" {
			t.Error("a connection outlived its device")
		}
		h.Detach(core.LinkKey{Slot: d.Slot, ID: d.ID}, p)
		same(t, "twin", h.do(t, "GET", "/twins/door-0001", "").body, fresh)
		h.do(t, "GET", "/statistics/devices", "").want(t, 500) // the first call, again
		same(t, "statistics", h.do(t, "GET", "/statistics/devices", "").body, `{"totalDeviceCount":300,"enabledDeviceCount":300,"disabledDeviceCount":0}`)
		same(t, "connected", h.do(t, "GET", "/statistics/service", "").body, `{"connectedDeviceCount":300}`)
		h.do(t, "GET", "/devices/n2", "").want(t, 404)
		same(t, "jobs", h.do(t, "GET", "/jobs/v2/query", "").body, "[]")
		same(t, "executed", h.control(t, "GET", "/v1/executed", "").body, "")
		h.do(t, "PUT", "/devices/n3", "{}").want(t, 200)
		rows, _ := h.pages(t, "SELECT COUNT() AS n FROM devices")
		same(t, "devices in a query", rows[0]["n"], any(301.0))
	})
}

func TestControlListens(t *testing.T) {
	s, _ := startHub(t, Options{Fleet: fleet.Default(), AdminAddr: "127.0.0.1:0"})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.AdminAddr()+"/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	same(t, "hostName", doc["hostName"], any(s.HostName()))
}
