package emulator

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
)

// busyDuo is a hub with throttles that has the devices d and e.
func busyDuo(tb testing.TB) testHub {
	tb.Helper()
	h := hubOf(tb, Options{Tier: "S1"})
	for _, path := range []string{"/devices/d", "/devices/e"} {
		h.do(tb, "PUT", path, "{}").want(tb, 200)
	}
	return h
}

// use takes n places of a throttle, as others would have done.
func (h testHub) use(tb testing.TB, class core.ThrottleClass, n int) {
	tb.Helper()
	for range n {
		if _, ok := h.Throttles[class].Reserve(h.Clock.Now(), 1); !ok {
			tb.Fatalf("the %s are used up", class)
		}
	}
}

// sendPacket publishes with QoS 1 and waits for nothing.
func (d *testDevice) sendPacket(topic, body string) {
	d.tb.Helper()
	d.next++
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: 4,
		TopicName: topic, Payload: []byte(body), PacketID: d.next,
	}
	d.put(pk.PublishEncode)
}

func TestConnectionsAreShaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busyDuo(t)
		key, _ := h.keysAt(t, "/devices/d")
		knock := func() (code int, took time.Duration) {
			d := h.dial(t, "d")
			start := time.Now()
			code, _ = d.connect(hello{user: "localhost/d", password: sign(t, "localhost/devices/d", key, "", time.Now().Add(time.Hour))})
			return code, time.Since(start)
		}
		h.use(t, core.ThrottleConnections, 999) // ten seconds of 100 are free
		code, took := knock()
		same(t, "the last of the burst", []any{code, took}, []any{0, time.Duration(0)})
		h.use(t, core.ThrottleConnections, 499)
		code, took = knock()
		same(t, "one behind 499 others", []any{code, took}, []any{0, 5 * time.Second})
		h.use(t, core.ThrottleConnections, 1000)
		code, took = knock()
		same(t, "one too many", []any{code, took}, []any{3, time.Duration(0)})
		// Who is not admitted does not use the limit up.
		refused := h.Throttles[core.ThrottleConnections].Refused.Load()
		bad := h.dial(t, "d")
		code, _ = bad.connect(hello{user: "localhost/d", password: "x"})
		same(t, "a bad password", code, 5)
		same(t, "refused", h.Throttles[core.ThrottleConnections].Refused.Load(), refused)
	})
}

func TestTelemetryIsShaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busyDuo(t)
		key, _ := h.keysAt(t, "/devices/d")
		d := h.dial(t, "d")
		d.connect(hello{user: "localhost/d", keepAlive: 2, password: sign(t, "localhost/devices/d", key, "", time.Now().Add(time.Hour))})
		const topic = "devices/d/messages/events/"
		d.publish(topic, "at once", 1)
		h.use(t, core.ThrottleD2C, 999+800)
		start := time.Now()
		d.publish(topic, "late", 1) // its keep-alive has run out meanwhile
		same(t, "held back", time.Since(start), 8*time.Second+10*time.Millisecond)
		d.publish(topic, "and on it goes", 1)
		same(t, "messages", h.Executed("d").Messages, 3)
		h.use(t, core.ThrottleD2C, 1000)
		d.sendPacket(topic, "too much")
		same(t, "before the end", len(d.hungUp()), 0)
		same(t, "messages", h.Executed("d").Messages, 3)
	})
}

// TestTwinThrottlesAreShared reads and writes a twin as a device after services
// have used the limits.
func TestTwinThrottlesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busyDuo(t)
		d := h.online(t, "d")
		d.subscribe(0, devices.TwinAnswersTopic+"#")
		ask := func(topic string) (status, body string, took time.Duration) {
			t.Helper()
			start := time.Now()
			d.publish(topic, "{}", 0)
			answer, body := d.message()
			rest, _ := strings.CutPrefix(answer, devices.TwinAnswersTopic)
			status, rest, _ = strings.Cut(rest, "/")
			if !strings.HasPrefix(rest, "?$rid=9") {
				t.Errorf("answered at %s", answer)
			}
			return status, body, time.Since(start)
		}
		for range 501 { // fifty a second, ten seconds at once
			h.do(t, "PATCH", "/twins/e", `{"tags":{"a":1}}`).want(t, 200)
		}
		status, _, took := ask(devices.ReportedTopic + "?$rid=9")
		same(t, "a report behind services", []any{status, took}, []any{"204", 20 * time.Millisecond})
		h.use(t, core.ThrottleTwinUpdates, 500)
		status, body, took := ask(devices.ReportedTopic + "?$rid=9")
		same(t, "a report too many", []any{status, took}, []any{"429", time.Duration(0)})
		doc, _ := jsonOf(t, body).(map[string]any)
		same(t, "its code", doc["errorCode"], 429003.0)
		for _, key := range []string{"trackingId", "message", "info", "timestampUtc"} {
			if doc[key] == nil {
				t.Errorf("the error lacks %s: %s", key, body)
			}
		}
		same(t, "written", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported", "$version"), 2.0)

		h.use(t, core.ThrottleTwinReads, 1000+400-1) // the one above counts
		status, _, took = ask(devices.TwinGetTopic + "?$rid=9")
		same(t, "a read behind services", []any{status, took.Round(10 * time.Millisecond)}, []any{"200", 4010 * time.Millisecond})
		h.use(t, core.ThrottleTwinReads, 1000)
		status, _, _ = ask(devices.TwinGetTopic + "?$rid=9")
		same(t, "a read too many", status, "429")
	})
}

// TestHeldBackDeviceIsCut ends a connection while the hub holds a message of
// its device back: the message must not count for who has the id then.
func TestHeldBackDeviceIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, topic := range []string{"devices/d/messages/events/", devices.ReportedTopic + "?$rid=1"} {
			h := busyDuo(t)
			d := h.online(t, "d")
			h.use(t, core.ThrottleD2C, 1500)
			h.use(t, core.ThrottleTwinUpdates, 700)
			d.sendPacket(topic, `{"a":1}`)
			synctest.Wait()
			h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
			h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
			d.hungUp()
			time.Sleep(time.Minute)
			same(t, "messages", h.Executed("d").Messages, 0)
			same(t, "reported", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported", "$version"), 1.0)
		}
	})
}

// TestAnotherDeviceOfThatName is what comes of a connection that was held back
// while its device was deleted and registered anew.
func TestAnotherDeviceOfThatName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busyDuo(t)
		key, _ := h.keysAt(t, "/devices/d")
		h.use(t, core.ThrottleConnections, 1500)
		d := h.dial(t, "d")
		start := time.Now()
		done := make(chan int, 1)
		go func() { // ends with the CONNACK, received below
			code, _ := d.connect(hello{user: "localhost/d", password: sign(t, "localhost/devices/d", key, "", time.Now().Add(time.Hour))})
			done <- code
		}()
		synctest.Wait()
		h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		<-done
		d.hungUp()
		same(t, "took", time.Since(start).Round(time.Second), 5*time.Second)
		synctest.Wait() // the hub notes the end of a connection after the device has seen it
		same(t, "state", h.do(t, "GET", "/devices/d", "").doc(t)["connectionState"], "Disconnected")
	})
}

// TestHubClosesWhileItHoldsBack must not wait for what it holds back.
func TestHubClosesWhileItHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busyDuo(t)
		d := h.online(t, "d")
		h.use(t, core.ThrottleD2C, 1900)
		d.sendPacket("devices/d/messages/events/", "x")
		synctest.Wait()
		start := time.Now()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, "took", time.Since(start), time.Duration(0))
	})
}

const shaky = `
version: 1
devices:
  - id: fleet-1
faults:
`

// TestFaultsOfDevices tries every kind of fault on every operation of a device
// that it can happen to. Only the second call is struck.
func TestFaultsOfDevices(t *testing.T) {
	type seen struct {
		code   int // of CONNACK; 0 where the device was in before
		status string
		alive  bool
		took   time.Duration
		done   int // how often the operation had its effect
	}
	const second = time.Second
	tests := []struct {
		op, fault string
		want      seen
	}{
		{"connect", "unavailable", seen{code: 3}},
		{"connect", "throttled", seen{code: 3}},
		{"connect", "serverError\n    latency: 2s", seen{code: 3, took: 2 * second}},
		{"connect", "unauthorized", seen{code: 5}},
		{"connect", "resetBefore", seen{code: -1}},
		{"connect", "resetAfter", seen{code: 0}},
		{"connect", "slow\n    latency: 30s", seen{code: 0, alive: true, took: 30 * second}},
		{"telemetry", "throttled", seen{done: 1}},
		{"telemetry", "resetBefore", seen{done: 1}},
		{"telemetry", "resetAfter", seen{done: 2}},
		{"telemetry", "slow\n    latency: 4s", seen{status: "PUBACK", alive: true, took: 4 * second, done: 2}},
		{"twinGet", "throttled", seen{status: "429", alive: true}},
		{"twinGet", "serverError", seen{status: "500", alive: true}},
		{"twinGet", "unavailable", seen{status: "503", alive: true}},
		{"twinGet", "badGateway", seen{status: "502", alive: true}},
		{"reportedPatch", "throttled", seen{status: "429", alive: true, done: 1}},
		{"reportedPatch", "badGateway", seen{status: "502", alive: true, done: 2}},
		{"reportedPatch", "resetBefore", seen{done: 1}},
		{"reportedPatch", "resetAfter", seen{done: 2}},
		{"reportedPatch", "slow\n    latency: 3s", seen{status: "204", alive: true, took: 3 * second, done: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.op+" "+strings.Fields(tt.fault)[0], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, shaky+"  - fault: "+tt.fault+"\n    operations: ["+tt.op+"]\n    devices: [d]\n    calls: 2\n")
				for _, path := range []string{"/devices/d", "/devices/e"} {
					h.do(t, "PUT", path, "{}").want(t, 200)
				}
				var got seen
				d := h.online(t, "d")
				h.online(t, "e").subscribe(0, devices.TwinAnswersTopic+"#") // another's calls do not count
				d.subscribe(0, devices.TwinAnswersTopic+"#")
				once := func() {
					switch tt.op {
					case "connect":
						d, got.code = h.knock(t, "d")
					case "telemetry":
						got.status = d.tell("devices/d/messages/events/", "x")
					case "twinGet":
						got.status = d.tell(devices.TwinGetTopic+"?$rid=1", "")
					case "reportedPatch":
						got.status = d.tell(devices.ReportedTopic+"?$rid=1", `{"n":1}`)
					}
				}
				if tt.op != "connect" { // it has connected once
					once()
				}
				start := time.Now()
				once()
				got.took = time.Since(start)
				got.alive = d.alive()
				got.done = h.Executed("d").Messages
				if tt.op == "reportedPatch" {
					v, _ := at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported", "$version").(float64)
					got.done = int(v) - 1
				}
				if got != tt.want {
					t.Errorf("seen %+v, want %+v", got, tt.want)
				}
			})
		})
	}
}

// knock connects, and returns the CONNACK's code; -1 for none.
func (h testHub) knock(tb testing.TB, id string) (*testDevice, int) {
	tb.Helper()
	key, _ := h.keysAt(tb, "/devices/"+id)
	d := h.dial(tb, id)
	d.hello(hello{user: "localhost/" + id, password: sign(tb, "localhost/devices/"+id, key, "", time.Now().Add(time.Hour))})
	ack, ok := d.receive()
	if !ok {
		return d, -1
	}
	return d, int(ack.ReasonCode)
}

// tell publishes and returns what came back: PUBACK, the status of an answer,
// or nothing when the hub hung up.
func (d *testDevice) tell(topic, body string) string {
	d.tb.Helper()
	if strings.HasPrefix(topic, "devices/") {
		d.sendPacket(topic, body)
	} else {
		d.publish(topic, body, 0)
	}
	pk, ok := d.receive()
	switch {
	case !ok:
		return ""
	case pk.FixedHeader.Type == packets.Puback:
		return "PUBACK"
	}
	rest, _ := strings.CutPrefix(pk.TopicName, devices.TwinAnswersTopic)
	status, _, _ := strings.Cut(rest, "/")
	return status
}

// alive says whether the hub still holds the connection.
func (d *testDevice) alive() bool {
	d.tb.Helper()
	synctest.Wait()
	select {
	case _, ok := <-d.in:
		return ok
	default:
		return true
	}
}
