package emulator

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/devices"
)

// TestSessionsKeepSubscriptions: what somebody subscribed to outlives its
// connection, and the hub. The Python device client counts on that: it
// subscribes once and never again, however often it connects.
func TestSessionsKeepSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := reopen(t, dir, moods)
		for _, path := range []string{"/devices/d", "/devices/d/modules/m"} {
			h.do(t, "PUT", path, "{}").want(t, 200)
		}
		for _, subject := range []string{"d", "d/m"} {
			d, remembered := h.again(t, subject, true)
			same(t, subject+" at first", remembered, false)
			d.subscribe(1, devices.MethodsTopic+"#", devices.DesiredTopic+"#", devices.TwinAnswersTopic+"#")
			d.goodbye()

			d, remembered = h.again(t, subject, true)
			same(t, subject+" again", remembered, true)
			h.listens(t, d, subject)
			d.unsubscribe(devices.DesiredTopic + "#")
			d.goodbye()
		}
		left := leftBehind(t, dir)
		h.leave(t)

		h = reopen(t, left, moods)
		defer h.leave(t)
		for _, subject := range []string{"d", "d/m"} {
			d, remembered := h.again(t, subject, true)
			same(t, subject+" at the next hub", remembered, true)
			h.takesMethods(t, d, subject)
			h.do(t, "PATCH", twinPath(subject), `{"properties":{"desired":{"n":2}}}`).want(t, 200)
			if !d.silent() {
				t.Errorf("%s hears of what it unsubscribed from", subject)
			}
			d.goodbye()

			d, remembered = h.again(t, subject, false)
			same(t, subject+" with a clean session", remembered, false)
			h.do(t, "POST", twinPath(subject)+"/methods", `{"methodName":"m"}`).refused(t, 404, "DeviceNotOnline")
			d.subscribe(1, devices.MethodsTopic+"#")
			d.goodbye()
			d, remembered = h.again(t, subject, true)
			same(t, subject+" after a clean session", remembered, false)
			d.subscribe(1, devices.MethodsTopic+"#")
			d.goodbye()
		}
		h.do(t, "DELETE", "/devices/d/modules/m", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/devices/d/modules/m", "{}").want(t, 200)
		_, remembered := h.again(t, "d/m", true)
		same(t, "another module of that name", remembered, false)
		h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
		same(t, "boxes", h.front.Mail.Size(), 0)
	})
}

// again connects a device, or a module as device/module, that subscribes to nothing.
func (h testHub) again(tb testing.TB, subject string, session bool) (d *testDevice, remembered bool) {
	tb.Helper()
	resource := "devices/" + strings.Replace(subject, "/", "/modules/", 1)
	key, _ := h.keysAt(tb, "/"+resource)
	d = h.dial(tb, subject)
	_, remembered = d.connect(hello{user: "localhost/" + subject, session: session, password: sign(tb, "localhost/"+resource, key, "", time.Now().Add(time.Hour))})
	return d, remembered
}

func twinPath(subject string) string {
	return "/twins/" + strings.Replace(subject, "/", "/modules/", 1)
}

// listens checks that all that a device subscribed to before comes.
func (h testHub) listens(tb testing.TB, d *testDevice, subject string) {
	tb.Helper()
	h.takesMethods(tb, d, subject)
	h.do(tb, "PATCH", twinPath(subject), `{"properties":{"desired":{"n":1}}}`).want(tb, 200)
	topic, _ := d.message()
	same(tb, "a desired property", topic, devices.DesiredTopic+"?$version=2")
	d.publish(devices.TwinGetTopic+"?$rid=1", "", 0)
	topic, _ = d.message()
	same(tb, "the twin", topic, devices.TwinAnswersTopic+"200/?$rid=1")
}

func (h testHub) takesMethods(tb testing.TB, d *testDevice, subject string) {
	tb.Helper()
	done := make(chan answer, 1)
	go func() { done <- h.do(tb, "POST", twinPath(subject)+"/methods", `{"methodName":"m"}`) }() // ends with the call
	topic, _ := d.message()
	d.publish(strings.Replace(topic, "POST/m/", "res/200/", 1), "", 0)
	(<-done).want(tb, 200)
}
