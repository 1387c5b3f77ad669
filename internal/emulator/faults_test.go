package emulator

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

const flaky = `
version: 1
devices:
  - idPattern: door-%04d
    count: 20
    methods: {lockDoor: {status: 200}}
faults:
`

// reset says whether a request ended in a cut connection.
func (h testHub) reset(t *testing.T, method, target, body string) (cut bool) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			cut = true
		}
	}()
	h.do(t, method, target, body)
	return false
}

func TestFaults(t *testing.T) {
	const call = `{"methodName":"lockDoor"}`
	cases := []struct {
		fault string
		first func(t *testing.T, h testHub) // what the first call meets
		ran   int                           // what it executed nevertheless
		took  time.Duration
	}{
		{"throttled\n    wait: 20s", func(t *testing.T, h testHub) {
			t.Helper()
			h.do(t, "POST", "/twins/door-0001/methods", call).refused(t, 429, "ThrottlingBacklogTimeout")
		}, 0, 0},
		{"unauthorized", func(t *testing.T, h testHub) {
			t.Helper()
			h.do(t, "POST", "/twins/door-0001/methods", call).refused(t, 401, "IotHubUnauthorizedAccess")
		}, 0, 0},
		{"serverError\n    latency: 2s", func(t *testing.T, h testHub) {
			t.Helper()
			h.do(t, "POST", "/twins/door-0001/methods", call).refused(t, 500, "ServerError")
		}, 0, 2 * time.Second},
		{"unavailable", func(t *testing.T, h testHub) {
			t.Helper()
			h.do(t, "POST", "/twins/door-0001/methods", call).refused(t, 503, "ServiceUnavailable")
		}, 0, 0},
		{"badGateway", func(t *testing.T, h testHub) {
			t.Helper()
			h.do(t, "POST", "/twins/door-0001/methods", call).refused(t, 502, "InvalidResponseWhileProxying")
		}, 1, 0},
		{"resetBefore", func(t *testing.T, h testHub) {
			t.Helper()
			same(t, "cut", h.reset(t, "POST", "/twins/door-0001/methods", call), true)
		}, 0, 0},
		{"resetAfter", func(t *testing.T, h testHub) {
			t.Helper()
			same(t, "cut", h.reset(t, "POST", "/twins/door-0001/methods", call), true)
		}, 1, 0},
		{"slow\n    latency: 3s", func(t *testing.T, h testHub) {
			t.Helper()
			h.do(t, "POST", "/twins/door-0001/methods", call).want(t, 200)
		}, 1, 3 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, flaky+"  - fault: "+c.fault+"\n    operations: [method]\n    devices: [door-0001]\n    calls: 1\n")
				h.do(t, "POST", "/twins/door-0002/methods", call).want(t, 200)
				h.do(t, "GET", "/twins/door-0001", "").want(t, 200)
				start := time.Now()
				c.first(t, h)
				same(t, "took", time.Since(start), c.took)
				same(t, "executed", h.Executed("door-0001").Methods, c.ran)
				h.do(t, "POST", "/twins/door-0001/methods", call).want(t, 200)
				same(t, "executed by the second call", h.Executed("door-0001").Methods, c.ran+1)
				h.ResetExecuted()
				h.SetFaults(false)
				h.do(t, "POST", "/twins/door-0001/methods", call).want(t, 200)
				h.SetFaults(true)
				c.first(t, h) // the count began anew
			})
		})
	}
}

func TestFaultOnPatchComesAfterTheWrite(t *testing.T) {
	h := newHub(t, flaky+"  - fault: resetAfter\n    operations: [twinWrite]\n    calls: 1\n")
	same(t, "cut", h.reset(t, "PATCH", "/twins/door-0003", `{"tags":{"x":1}}`), true)
	same(t, "patches", h.Executed("door-0003").Patches, 1)
	same(t, "tags", at(t, h.do(t, "GET", "/twins/door-0003", "").doc(t), "tags", "x"), any(1.0))
}
