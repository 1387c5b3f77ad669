package emulator

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/hubtest/swagger"
)

// notEmulatedPaths are those that the description has and the emulator has not.
func notEmulatedPaths() []string {
	return []string{"/configurations", "/digitaltwins", "/messages", "/jobs/create", "/jobs/{id}", "/devices/{id}/applyConfigurationContent"}
}

func TestAnswersMatchTheSwagger(t *testing.T) {
	description, err := swagger.Load()
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, moods)
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	requests := []struct{ method, path, body, match string }{
		{"GET", "/statistics/devices", "", ""},
		{"GET", "/statistics/service", "", ""},
		{"GET", "/devices?top=2", "", ""},
		{"PUT", "/devices/new", `{"deviceId":"new","status":"enabled","authentication":{"type":"sas"}}`, ""},
		{"PUT", "/devices/new", `{"deviceId":"new","status":"disabled","statusReason":"lost","capabilities":{"iotEdge":true}}`, `"*"`},
		{"GET", "/devices/new", "", ""},
		{"GET", "/devices/ok", "", ""},
		{"PUT", "/devices/new/modules/m", `{"moduleId":"m","deviceId":"new"}`, ""},
		{"PUT", "/devices/new/modules/m", `{"moduleId":"m","deviceId":"new","managedBy":"me"}`, `"*"`},
		{"GET", "/devices/new/modules", "", ""},
		{"GET", "/devices/new/modules/m", "", ""},
		{"PATCH", "/twins/ok", `{"tags":{"a":1},"properties":{"desired":{"b":[1,2]}}}`, ""},
		{"PUT", "/twins/ok", `{"tags":{"a":{"b":"c"}},"properties":{"desired":{}}}`, `"*"`},
		{"GET", "/twins/ok", "", ""},
		{"GET", "/twins/new", "", ""},
		{"GET", "/twins/ok/modules/valve", "", ""},
		{"PATCH", "/twins/ok/modules/valve", `{"properties":{"desired":{"x":1}}}`, ""},
		{"PUT", "/twins/new/modules/m", `{"tags":{}}`, ""},
		{"POST", "/twins/ok/methods", `{"methodName":"lockDoor","payload":"text","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":5}`, ""},
		{"POST", "/twins/ok/modules/valve/methods", `{"methodName":"quiet"}`, ""},
		{"POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, ""},
		{"POST", "/devices", `[{"id":"b1","importMode":"create","tags":{"x":1}},{"id":"b2","importMode":"create"}]`, ""},
		{"POST", "/devices", `[{"id":"b1","importMode":"create"},{"id":"b3","moduleId":"m","importMode":"updateTwin"}]`, ""},
		{"DELETE", "/devices/b1/commands", "", ""},
		{"DELETE", "/devices/new/modules/m", "", `"*"`},
		{"DELETE", "/devices/new", "", `"*"`},
		{"PUT", "/jobs/v2/j1", methodJob("j1", "deviceId = 'ok'", "lockDoor"), ""},
		{"PUT", "/jobs/v2/j2", twinJob("j2", "*", `{"etag":"*","tags":{"a":1}}`, `,"startTime":"`+later+`"`), ""},
		{"GET", "/jobs/v2/j1", "", ""},
		{"GET", "/jobs/v2/query", "", ""},
		{"POST", "/jobs/v2/j2/cancel", "", ""},
		{"GET", "/jobs", "", ""},
	}
	seen, done := map[string]bool{}, map[core.Operation]bool{}
	for _, r := range requests {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			described, op := validated(t, h, description, r.method, r.path, r.body, r.match)
			seen[described], done[op] = true, true
		})
	}
	for _, op := range description.Operations() {
		_, path, _ := strings.Cut(op, " ")
		if !seen[op] && !startsWithAny(path, notEmulatedPaths()) {
			t.Errorf("no request here covers %s of the description", op)
		}
	}
	done[core.OpGetOldJob] = true // answers 404 only: there are no import and export jobs
	for op := core.OpUnknown + 1; op < core.OpNotEmulated; op++ {
		if !done[op] {
			t.Errorf("no request here covers operation %d of the route table", op)
		}
	}
}

func startsWithAny(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// validated sends a request and checks both directions. It returns the
// operation as the description names it, and as the emulator does.
func validated(t *testing.T, h testHub, d *swagger.Description, method, path, body, match string) (string, core.Operation) {
	t.Helper()
	target := "https://localhost" + path
	if strings.Contains(path, "?") {
		target += "&api-version=2020-09-30"
	} else {
		target += "?api-version=2020-09-30"
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("Authorization", h.token)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	if match != "" {
		r.Header.Set("If-Match", match)
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	v, err := d.Check(t.Context(), swagger.Exchange{
		Method: method, URL: r.URL, Header: r.Header, Body: []byte(body),
		Status: w.Code, AnswerHeader: w.Header(), Answer: w.Body.Bytes(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err = v.Err(); err != nil {
		t.Error(err)
	}
	var store [maxSegments]string
	parts, _ := segments(r.URL, store[:0])
	route, refusal := findRoute(&http.Request{Method: method, URL: r.URL}, parts)
	if refusal != nil {
		t.Fatalf("the emulator has no such operation: %v", refusal)
	}
	return v.Operation, route.op
}
