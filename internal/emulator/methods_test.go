package emulator

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/core"
)

const moods = `
version: 1
devices:
  - ids: [ok]
    methods:
      lockDoor: {status: 200, payload: {Response: locked}}
      quiet: {status: 204}
      slow: {status: 200, latency: 7s}
      hang: {does: hangs}
      bad: {does: garbage}
      leave: {does: disconnects}
      text: {payload: "done"}
    modules: [valve]
  - ids: [away]
    shares: {offline: 100%}
  - ids: [later]
    shares: {late: {share: 100%, after: 20s}}
    methods: {lockDoor: {status: 200}}
`

func TestMethods(t *testing.T) {
	cases := []struct {
		name, device, body string
		status             int
		code               string // of an error
		want               string // the body, or a part of the error's text
		took               time.Duration
		ran                int
	}{
		{"answers", "ok", `{"methodName":"lockDoor","payload":{"t":1}}`, 200, "", `{"status":200,"payload":{"Response":"locked"}}`, 0, 1},
		{"no payload either way", "ok", `{"methodName":"quiet"}`, 200, "", `{"status":204,"payload":null}`, 0, 1},
		{"answers text", "ok", `{"methodName":"text","payload":"in"}`, 200, "", `{"status":200,"payload":"done"}`, 0, 1},
		{"no handler is the device's answer", "ok", `{"methodName":"fly"}`, 200, "", `{"status":501,"payload":{"error":"no handler for method fly"}}`, 0, 1},
		{"takes its time", "ok", `{"methodName":"slow"}`, 200, "", `{"status":200,"payload":null}`, 7 * time.Second, 1},
		{"too slow", "ok", `{"methodName":"slow","responseTimeoutInSeconds":6}`, 504, "GatewayTimeout", `504101`, 6 * time.Second, 1},
		{"hangs", "ok", `{"methodName":"hang"}`, 504, "GatewayTimeout", `Timed out waiting for the response from device.`, 30 * time.Second, 1},
		{"old name of the timeout is ignored", "ok", `{"methodName":"hang","timeoutInSeconds":5}`, 504, "GatewayTimeout", `504101`, 30 * time.Second, 1},
		{"garbage", "ok", `{"methodName":"bad"}`, 502, "InvalidResponseWhileProxying", ``, 0, 1},
		{"disconnects", "ok", `{"methodName":"leave"}`, 404, "DeviceConnectionClosedRemotely", `404104`, 0, 1},
		{"offline", "away", `{"methodName":"lockDoor"}`, 404, "DeviceNotOnline", `\"info\":{\"timeout\":\"00:00:00\"}`, 0, 0},
		{"offline in time", "away", `{"methodName":"lockDoor","connectTimeoutInSeconds":75}`, 404, "DeviceNotOnline", `\"info\":{\"timeout\":\"00:01:15\"}`, 75 * time.Second, 0},
		{"connects in time", "later", `{"methodName":"lockDoor","connectTimeoutInSeconds":30}`, 200, "", `{"status":200,"payload":null}`, 20 * time.Second, 1},
		{"connects too late", "later", `{"methodName":"lockDoor","connectTimeoutInSeconds":10}`, 404, "DeviceNotOnline", `404103`, 10 * time.Second, 0},
		{"unknown device", "nobody", `{"methodName":"lockDoor"}`, 404, "DeviceNotFound", `\"errorCode\":404001`, 0, 0},
		{"timeout too short", "ok", `{"methodName":"lockDoor","responseTimeoutInSeconds":4}`, 400, "ArgumentInvalid", `responseTimeoutInSeconds must be within [5; 300].`, 0, 0},
		{"timeout too long", "ok", `{"methodName":"lockDoor","responseTimeoutInSeconds":301}`, 400, "ArgumentInvalid", `400004`, 0, 0},
		{"timeouts as texts", "later", `{"methodName":"lockDoor","responseTimeoutInSeconds":"9","connectTimeoutInSeconds":"30"}`, 200, "", `{"status":200,"payload":null}`, 20 * time.Second, 1},
		{"timeout too long as a text", "ok", `{"methodName":"lockDoor","responseTimeoutInSeconds":"301"}`, 400, "ArgumentInvalid", `400004`, 0, 0},
		{"timeout no number", "ok", `{"methodName":"lockDoor","responseTimeoutInSeconds":"soon"}`, 400, "ArgumentInvalid", `400004`, 0, 0},
		{"timeout no whole number", "ok", `{"methodName":"lockDoor","responseTimeoutInSeconds":9.5}`, 400, "ArgumentInvalid", `400004`, 0, 0},
		{"timeout an object", "ok", `{"methodName":"lockDoor","responseTimeoutInSeconds":{}}`, 400, "ArgumentInvalid", `400004`, 0, 0},
		{"connect timeout too long", "ok", `{"methodName":"lockDoor","connectTimeoutInSeconds":301}`, 400, "ArgumentInvalid", `connectTimeoutInSeconds must be within [0; 300].`, 0, 0},
		{"no name", "ok", `{"payload":1}`, 400, "ArgumentInvalid", ``, 0, 0},
		{"no JSON", "ok", `{"methodName":`, 400, "IotHubFormatError", ``, 0, 0},
		{"largest payload", "ok", `{"methodName":"quiet","payload":"` + strings.Repeat("x", core.MaxMethodPayload-2) + `"}`, 200, "", `{"status":204,"payload":null}`, 0, 1},
		{"payload too large", "ok", `{"methodName":"quiet","payload":"` + strings.Repeat("x", core.MaxMethodPayload-1) + `"}`, 413, "MessageTooLarge", ``, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, moods)
				start := time.Now()
				a := h.do(t, "POST", "/twins/"+c.device+"/methods", c.body).want(t, c.status)
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				same(t, "executed", h.Executed(c.device).Methods, c.ran)
				if c.code == "" {
					same(t, "body", a.body, c.want)
					return
				}
				a.refused(t, c.status, c.code)
				if !strings.Contains(a.body, c.want) {
					t.Errorf("body %s does not hold %s", a.body, c.want)
				}
			})
		})
	}
}

// TestMethodErrorIsJSONInsideAString checks the shape that makes clients parse
// an error twice.
func TestMethodErrorIsJSONInsideAString(t *testing.T) {
	h := newHub(t, moods)
	doc := h.do(t, "POST", "/twins/away/methods", `{"methodName":"x"}`).want(t, 404).doc(t)
	same(t, "ExceptionMessage", doc["ExceptionMessage"], "")
	text, ok := doc["Message"].(string)
	if !ok {
		t.Fatalf("Message is %T, want a string", doc["Message"])
	}
	inner := jsonOf(t, text)
	same(t, "errorCode", at(t, inner, "errorCode"), 404103.0)
	same(t, "info", at(t, inner, "info"), jsonOf(t, `{"timeout":"00:00:00"}`))
	for _, key := range []string{"trackingId", "message", "timestampUtc"} {
		if s, ok := at(t, inner, key).(string); !ok || s == "" {
			t.Errorf("the inner error has no %q", key)
		}
	}
}

func TestMethodOfDisabledDevice(t *testing.T) {
	h := newHub(t, moods)
	h.do(t, "PUT", "/devices/ok", `{"status":"disabled"}`, "If-Match", `"*"`).want(t, 200)
	h.do(t, "POST", "/twins/ok/methods", `{"methodName":"lockDoor"}`).refused(t, 404, "DeviceNotFound")
	same(t, "executed", h.Executed("ok").Methods, 0)
}

func TestMethodOnModule(t *testing.T) {
	h := newHub(t, moods)
	h.do(t, "POST", "/twins/ok/modules/valve/methods", `{"methodName":"lockDoor"}`).want(t, 200)
	h.do(t, "POST", "/twins/ok/modules/none/methods", `{"methodName":"lockDoor"}`).refused(t, 404, "ModuleNotFound")
	// A module that somebody registered is simulated by nobody.
	h.do(t, "PUT", "/devices/ok/modules/mine", `{}`).want(t, 200)
	h.do(t, "POST", "/twins/ok/modules/mine/methods", `{"methodName":"lockDoor"}`).refused(t, 404, "DeviceNotOnline")
}

func TestSetOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		if err := h.SetOnline("ok", false); err != nil {
			t.Fatal(err)
		}
		h.do(t, "POST", "/twins/ok/methods", `{"methodName":"lockDoor"}`).refused(t, 404, "DeviceNotOnline")
		start := time.Now()
		var took time.Duration
		done := make(chan answer)
		go func() { // ends with its send, received below
			a := h.do(t, "POST", "/twins/ok/methods", `{"methodName":"lockDoor","connectTimeoutInSeconds":60}`)
			took = time.Since(start)
			done <- a
		}()
		synctest.Wait()
		if err := h.SetOnline("ok", true); err != nil {
			t.Fatal(err)
		}
		(<-done).want(t, 200)
		same(t, "waited", took, time.Duration(0))
		if err := h.SetOnline("nobody", true); err == nil {
			t.Error("SetOnline of an unknown device: no error")
		}
	})
}

func TestAdvanceWakesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		start := time.Now()
		done := make(chan answer)
		go func() { // ends with its send, received below
			done <- h.do(t, "POST", "/twins/ok/methods", `{"methodName":"hang","responseTimeoutInSeconds":300}`)
		}()
		synctest.Wait()
		if err := h.Advance(299 * time.Second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case a := <-done:
			t.Fatalf("the call ended early with %s", a.body)
		default:
		}
		if err := h.Advance(time.Second); err != nil {
			t.Fatal(err)
		}
		(<-done).want(t, 504)
		same(t, "real time that passed", time.Since(start), time.Duration(0))
		if err := h.Advance(-1); err == nil {
			t.Error("Advance by less than nothing: no error")
		}
	})
}

// TestCallerLeaves checks that a call whose caller has gone ends at once.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		ctx, leave := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "https://localhost/twins/away/methods?api-version=2021-04-12",
			strings.NewReader(`{"methodName":"x","connectTimeoutInSeconds":300}`))
		r.Header.Set("Authorization", h.token)
		start := time.Now()
		done := make(chan struct{})
		go func() { // ends with the request, awaited below
			h.Handler().ServeHTTP(httptest.NewRecorder(), r)
			close(done)
		}()
		synctest.Wait()
		leave()
		<-done
		same(t, "time until it ended", time.Since(start), time.Duration(0))
		if n := h.Clock.Waiting(); n != 0 {
			t.Errorf("%d waits are left", n)
		}
	})
}

func TestPayloadsGoThroughAsTheyCame(t *testing.T) {
	h := newHub(t, "version: 1\ndevices:\n  - id: d\n    methods:\n      echo: {payload: \"${request}\"}\n")
	for _, payload := range []string{`{"b":1,"a":[1,2.50,"x"]}`, `[1,2]`, `"text"`, `12345678901234567890`, `1.50`, `true`, `null`} {
		body := fmt.Sprintf(`{"methodName":"echo","payload":%s}`, payload)
		a := h.do(t, "POST", "/twins/d/methods", body).want(t, 200)
		same(t, "answer to "+payload, a.body, `{"status":200,"payload":`+payload+`}`)
	}
}
