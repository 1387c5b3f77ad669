package emulator

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/core"
)

// phone is a link as a connection over MQTT would be one.
type phone struct {
	subscribed atomic.Bool
	calls      []string
	notices    []core.DesiredNotice
	closed     string
}

func (p *phone) Ready() bool { return p.subscribed.Load() }

func (p *phone) Invoke(_ context.Context, c core.MethodCall) (core.MethodAnswer, error) {
	p.calls = append(p.calls, c.Name)
	return core.MethodAnswer{Status: 200, Payload: []byte(`"phone"`)}, nil
}

func (p *phone) Desired(n core.DesiredNotice) { p.notices = append(p.notices, n) }
func (p *phone) Close(reason string)          { p.closed = reason }

func TestConnectedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		h.do(t, "PUT", "/devices/mine", "{}").want(t, 200)
		d, _ := h.Store.Find("mine")
		key := core.LinkKey{Slot: d.Slot, ID: d.ID}
		call := func(body string) answer { return h.do(t, "POST", "/twins/mine/methods", body) }
		call(`{"methodName":"x"}`).refused(t, 404, "DeviceNotOnline")

		p := &phone{}
		h.Attach(key, p)
		same(t, "state", h.do(t, "GET", "/devices/mine", "").doc(t)["connectionState"], "Connected")
		// Connected but not subscribed to methods is not online.
		call(`{"methodName":"x"}`).refused(t, 404, "DeviceNotOnline")

		done := make(chan answer)
		start := time.Now()
		go func() { done <- call(`{"methodName":"y","connectTimeoutInSeconds":30}`) }() // ends with its send, received below
		time.Sleep(3*time.Second + time.Millisecond)
		p.subscribed.Store(true)
		h.Readied(key)
		(<-done).want(t, 200)
		same(t, "waited", time.Since(start), 3*time.Second+time.Millisecond)
		same(t, "calls", p.calls, []string{"y"})

		h.do(t, "PATCH", "/twins/mine", `{"tags":{"t":1}}`).want(t, 200)
		same(t, "notices after a change of tags", len(p.notices), 0)
		h.do(t, "PATCH", "/twins/mine", `{"properties":{"desired":{"a":1,"b":null,"$version":7}}}`).want(t, 200)
		if len(p.notices) != 1 || p.notices[0].Version != 2 || string(p.notices[0].Patch) != `{"a":1,"b":null}` {
			t.Errorf("notices = %v", p.notices)
		}

		q := &phone{}
		q.subscribed.Store(true)
		h.Attach(key, q)
		if p.closed == "" {
			t.Error("a second connection did not close the first")
		}
		h.Detach(key, p) // the first ends after the second came
		call(`{"methodName":"z"}`).want(t, 200)
		same(t, "calls of the second", q.calls, []string{"z"})
		h.do(t, "PUT", "/devices/mine", `{"status":"disabled"}`, "If-Match", "*").want(t, 200)
		if q.closed == "" {
			t.Error("disabling the device did not close its connection")
		}
		h.Detach(key, q)
		same(t, "connections", len(h.Links.Live), 0)
		same(t, "who waits", len(h.Links.Waiting), 0)
	})
}

// TestConnectionReplacesTheSimulation checks that a fleet device that connects
// for real is no longer simulated.
func TestConnectionReplacesTheSimulation(t *testing.T) {
	h := newHub(t, moods)
	d, _ := h.Store.Find("ok")
	p := &phone{}
	p.subscribed.Store(true)
	h.Attach(core.LinkKey{Slot: d.Slot, ID: d.ID}, p)
	a := h.do(t, "POST", "/twins/ok/methods", `{"methodName":"lockDoor"}`).want(t, 200)
	same(t, "answer", a.body, `{"status":200,"payload":"phone"}`)
	h.Detach(core.LinkKey{Slot: d.Slot, ID: d.ID}, p)
	a = h.do(t, "POST", "/twins/ok/methods", `{"methodName":"lockDoor"}`).want(t, 200)
	same(t, "answer", a.body, `{"status":200,"payload":{"Response":"locked"}}`)
}

// TestConnectionOutlivesItsDevice deletes a device whose connection takes its
// time to end. The next device may get its place in the store, and must not
// get its calls answered by the other's connection.
func TestConnectionOutlivesItsDevice(t *testing.T) {
	h := newHub(t, "")
	slow := &phone{}
	slow.subscribed.Store(true)
	for _, attachedLate := range []bool{false, true} {
		h.do(t, "PUT", "/devices/old", "{}").want(t, 200)
		old, _ := h.Store.Find("old")
		key := core.LinkKey{Slot: old.Slot, ID: old.ID}
		if !attachedLate {
			h.Attach(key, slow)
		}
		h.do(t, "DELETE", "/devices/old", "").want(t, 204)
		for _, id := range []string{"new", "old"} {
			h.do(t, "PUT", "/devices/"+id, "{}").want(t, 200)
			d, _ := h.Store.Find(id)
			same(t, "slot of "+id, d.Slot, old.Slot)
			if attachedLate && id == "new" {
				h.Attach(key, slow)
			}
			h.do(t, "POST", "/twins/"+id+"/methods", `{"methodName":"any"}`).refused(t, 404, "DeviceNotOnline")
			if attachedLate {
				h.Detach(key, slow) // its connection finds that there is no such device
			}
			h.do(t, "DELETE", "/devices/"+id, "").want(t, 204)
		}
	}
}

func TestReportedFollowsDesired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, `
version: 1
devices:
  - ids: [now]
  - ids: [soon]
    follow: {after: 10s}
  - ids: [never]
    follow: {never: true}
  - ids: [wrong]
    follow: {wrong: {floor: 99}}
  - ids: [away]
    shares: {offline: 100%}
`)
		reported := func(id, key string) any {
			t.Helper()
			return at(t, h.do(t, "GET", "/twins/"+id, "").want(t, 200).doc(t), "properties", "reported", key)
		}
		for _, id := range []string{"now", "soon", "never", "wrong", "away"} {
			h.do(t, "PATCH", "/twins/"+id, `{"properties":{"desired":{"floor":3}}}`).want(t, 200)
		}
		same(t, "now", reported("now", "floor"), 3.0)
		same(t, "now, version", reported("now", "$version"), 2.0)
		same(t, "soon, at once", reported("soon", "floor"), nil)
		same(t, "wrong", reported("wrong", "floor"), 99.0)
		etag := at(t, h.do(t, "GET", "/twins/soon", "").doc(t), "etag")
		time.Sleep(4 * time.Second)
		h.do(t, "PATCH", "/twins/soon", `{"properties":{"desired":{"door":1}}}`).want(t, 200)
		time.Sleep(8 * time.Second)
		same(t, "soon, the first", reported("soon", "floor"), 3.0)
		same(t, "soon, before the second is due", reported("soon", "door"), nil)
		time.Sleep(2 * time.Second)
		same(t, "soon, later", reported("soon", "floor"), 3.0)
		same(t, "soon, the second", reported("soon", "door"), 1.0)
		same(t, "never", reported("never", "floor"), nil)
		rows, _ := h.pages(t, "SELECT deviceId FROM devices WHERE properties.reported.floor = 3")
		same(t, "rows that follow", len(rows), 2)
		h.do(t, "PATCH", "/twins/soon", `{"tags":{}}`, "If-Match", `"AAAAAAAAAAM="`).want(t, 200)
		same(t, "etag before", etag, any("AAAAAAAAAAI="))

		same(t, "away", reported("away", "floor"), nil)
		if err := h.SetOnline("away", true); err != nil {
			t.Fatal(err)
		}
		same(t, "back", reported("away", "floor"), 3.0)
	})
}

// Frequent writes do not keep a device from reporting, nor does it grow past
// what the hub takes; modules show in queries without a look at them before.
func TestReportsAreNotPutOffOrTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, `
version: 1
devices:
  - ids: [soon]
    follow: {after: 10s}
    modules: [m]
`)
		reported := func() map[string]any {
			t.Helper()
			doc, _ := at(t, h.do(t, "GET", "/twins/soon", "").want(t, 200).doc(t), "properties", "reported").(map[string]any)
			return doc
		}
		h.do(t, "PATCH", "/twins/soon/modules/m", `{"properties":{"desired":{"floor":3}}}`).want(t, 200)
		for i := range 10 {
			h.do(t, "PATCH", "/twins/soon", fmt.Sprintf(`{"properties":{"desired":{"n":%d}}}`, i)).want(t, 200)
			time.Sleep(5 * time.Second)
		}
		same(t, "reported after writes every 5 s", reported()["n"], any(8.0))
		rows, _ := h.pages(t, "SELECT * FROM devices.modules WHERE properties.reported.floor = 3")
		same(t, "modules that follow", len(rows), 1)
		for i := range 40 { // a device that follows keeps what a replacement leaves out
			h.do(t, "PUT", "/twins/soon", fmt.Sprintf(`{"properties":{"desired":{"k%d":%q}}}`, i, strings.Repeat("x", 1000))).want(t, 200)
		}
		time.Sleep(time.Minute)
		have := reported()
		if have["k20"] == nil || have["k39"] != nil {
			t.Errorf("%d keys of 1 KB are reported, want those that 32 KB hold", len(have))
		}
	})
}

// TestJobWaitsForTheSubscription checks that a job, too, takes a device that
// is connected for online only when it takes methods.
func TestJobWaitsForTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "")
		h.do(t, "PUT", "/devices/mine", "{}").want(t, 200)
		d, _ := h.Store.Find("mine")
		p := &phone{}
		h.Attach(core.LinkKey{Slot: d.Slot, ID: d.ID}, p)
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "x")).want(t, 200)
		time.Sleep(3 * time.Second)
		same(t, "calls before it subscribed", len(p.calls), 0)
		p.subscribed.Store(true)
		time.Sleep(2 * time.Second)
		same(t, "status", h.job(t, "a")["status"], any("completed"))
		rows, _ := h.pages(t, "SELECT * FROM devices.jobs")
		same(t, "answer", at(t, rows[0], "outcome", "deviceMethodResponse", "payload"), any("phone"))
	})
}
