package emulator

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/wire"
)

// trio is a hub that has the devices d and e, and a module d/m. In a bubble, a
// goroutine that outlives the hub fails the test.
func trio(tb testing.TB) testHub {
	tb.Helper()
	h := newHub(tb, "")
	for _, path := range []string{"/devices/d", "/devices/e", "/devices/d/modules/m"} {
		if a := h.do(tb, "PUT", path, "{}"); a.status/100 != 2 {
			tb.Fatalf("PUT %s: %d %s", path, a.status, a.body)
		}
	}
	return h
}

func TestDeviceSignsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		h.do(t, "PUT", "/devices/off", `{"status":"disabled"}`).want(t, 200)
		h.do(t, "PUT", "/devices/x509", `{"authentication":{"type":"certificateAuthority"}}`).want(t, 200)
		primary, secondary := h.keysAt(t, "/devices/d")
		module, _ := h.keysAt(t, "/devices/d/modules/m")
		off, _ := h.keysAt(t, "/devices/off")
		policy := func(name string) string {
			cs, _ := h.PolicyConnectionString(name)
			_, key, _ := strings.Cut(cs, "SharedAccessKey=")
			return key
		}
		soon := time.Now().Add(time.Hour)
		const user = "localhost/d/?api-version=2021-04-12"
		good := sign(t, "localhost/devices/d", primary, "", soon)
		tests := []struct {
			name, id, user, password string
			code                     int
		}{
			{"primary key", "d", user, good, 0},
			{"secondary key", "d", user, sign(t, "localhost/devices/d", secondary, "", soon), 0},
			{"as Go does: bare host, no question mark", "d", "localhost/d/api-version=2020-09-30", sign(t, "localhost", primary, "", soon), 0},
			{"short user name", "d", "localhost/d", good, 0},
			{"with the client's type and a model", "d", user + "&DeviceClientType=py%2F2.11&model-id=dtmi:x;1", good, 0},
			{"as az does: a stray word", "d", user + "None", good, 0},
			{"host in capitals, with a port", "d", "LocalHost:8883/d/?api-version=2021-04-12", good, 0},
			{"scope with a port", "d", user, sign(t, "localhost:8443/devices/d", primary, "", soon), 0},
			{"policy for the device", "d", user, sign(t, "localhost/devices/d", policy("device"), "device", soon), 0},
			{"policy for all devices", "d", user, sign(t, "localhost/devices", policy("device"), "device", soon), 0},
			{"owner", "d", user, sign(t, "localhost", policy("iothubowner"), "iothubowner", soon), 0},
			{"module", "d/m", "localhost/d/m/?api-version=2021-04-12", sign(t, "localhost/devices/d/modules/m", module, "", soon), 0},

			{"user of another device", "d", "localhost/e/?api-version=2021-04-12", good, 4},
			{"user of a longer id", "d", "localhost/dd/?api-version=2021-04-12", good, 4},
			{"user of another host", "d", "elsewhere/d/?api-version=2021-04-12", good, 4},
			{"module's user with the device's id", "d", "localhost/d/m/?api-version=2021-04-12", good, 4},
			{"no user", "d", "", good, 4},
			{"no id", "", "localhost//?api-version=2021-04-12", good, 2},
			{"no module", "d/", "localhost/d//?api-version=2021-04-12", good, 4},

			{"unknown device", "nobody", "localhost/nobody/?api-version=2021-04-12", sign(t, "localhost/devices/nobody", primary, "", soon), 5},
			{"unknown module", "d/none", "localhost/d/none/?api-version=2021-04-12", sign(t, "localhost/devices/d/modules/none", primary, "", soon), 5},
			{"disabled device", "off", "localhost/off/?api-version=2021-04-12", sign(t, "localhost/devices/off", off, "", soon), 5},
			{"device with a certificate", "x509", "localhost/x509/?api-version=2021-04-12", sign(t, "localhost/devices/x509", primary, "", soon), 5},
			{"key of another device", "e", "localhost/e/?api-version=2021-04-12", sign(t, "localhost/devices/e", primary, "", soon), 5},
			{"token of another device", "e", "localhost/e/?api-version=2021-04-12", good, 5},
			{"token in other letters", "d", user, sign(t, "localhost/devices/D", primary, "", soon), 5},
			{"token for another host", "d", user, sign(t, "elsewhere/devices/d", primary, "", soon), 5},
			{"expired token", "d", user, sign(t, "localhost/devices/d", primary, "", time.Now().Add(-time.Second)), 5},
			{"device's key for its module", "d/m", "localhost/d/m/?api-version=2021-04-12", sign(t, "localhost/devices/d/modules/m", primary, "", soon), 5},
			{"module's token for its device", "d", user, sign(t, "localhost/devices/d/modules/m", primary, "", soon), 5},
			{"policy without DeviceConnect", "d", user, sign(t, "localhost/devices/d", policy("service"), "service", soon), 5},
			{"policy with a wrong key", "d", user, sign(t, "localhost/devices/d", primary, "device", soon), 5},
			{"unknown policy", "d", user, sign(t, "localhost/devices/d", primary, "nobody", soon), 5},
			{"no token", "d", user, "", 5},
			{"no signature", "d", user, "SharedAccessSignature sr=localhost&se=99999999999", 5},
		}
		for _, tt := range tests {
			d := h.dial(t, tt.id)
			if code, _ := d.connect(hello{user: tt.user, password: tt.password, session: true}); code != tt.code {
				t.Errorf("%s: CONNACK %d, want %d", tt.name, code, tt.code)
			}
			if tt.code != 0 && len(d.hungUp()) != 0 {
				t.Errorf("%s: the hub went on after it refused", tt.name)
			}
		}
		d := h.dial(t, "d")
		if code, _ := d.connect(hello{user: user, password: good, version: 3}); code != 1 {
			t.Errorf("MQTT 3.1: CONNACK %d, want 1", code)
		}
	})
}

func TestOneConnectionForADevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		state := func() any { return h.do(t, "GET", "/devices/d", "").doc(t)["connectionState"] }
		same(t, "state before", state(), "Disconnected")
		first := h.online(t, "d")
		synctest.Wait()
		same(t, "state", state(), "Connected")
		second := h.online(t, "d")
		first.hungUp()
		synctest.Wait()
		same(t, "state after the first was cut", state(), "Connected")
		second.goodbye()
		synctest.Wait()
		same(t, "state after both left", state(), "Disconnected")
		same(t, "clients that the broker remembers", h.front.Broker().Clients.Len(), 0)

		third := h.online(t, "d")
		h.do(t, "PUT", "/devices/d", `{"status":"disabled"}`, "If-Match", "*").want(t, 200)
		third.hungUp()
		h.do(t, "PUT", "/devices/d", `{"status":"enabled"}`, "If-Match", "*").want(t, 200)
		fourth := h.online(t, "d")
		h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
		fourth.hungUp()
	})
}

// TestConnectedWithTheConnack: who has its CONNACK is connected already, or one
// that comes back at once would find its later connection ended, not the first.
func TestConnectedWithTheConnack(t *testing.T) {
	h := newHub(t, "")
	h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
	for range 100 {
		d := h.online(t, "d")
		same(t, "state", h.do(t, "GET", "/twins/d", "").doc(t)["connectionState"], any("Connected"))
		next := h.online(t, "d")
		d.hungUp()
		next.subscribe(0, devices.MethodsTopic+"#") // it stays
		next.conn.Close()
	}
}

func TestConnectionsEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		key, _ := h.keysAt(t, "/devices/d")
		tests := []struct {
			name      string
			keepAlive uint16
			life      time.Duration
			want      time.Duration
		}{
			{"one and a half of the keep-alive", 60, time.Hour, 90 * time.Second},
			{"of an odd one", 1, time.Hour, 1500 * time.Millisecond},
			{"no keep-alive", 0, time.Hour, 1765500 * time.Millisecond},
			{"too long a keep-alive", 60_000, time.Hour, 1765500 * time.Millisecond},
			{"the token's end", 0, 10 * time.Minute, 10 * time.Minute},
		}
		for _, tt := range tests {
			start := time.Now().Truncate(time.Second)
			time.Sleep(time.Until(start.Add(time.Second))) // tokens end at whole seconds
			d := h.dial(t, "d")
			d.connect(hello{
				user: "localhost/d/", keepAlive: tt.keepAlive,
				password: sign(t, "localhost/devices/d", key, "", time.Now().Add(tt.life)),
			})
			start = time.Now()
			for range d.in { // until the hub hangs up, however long that takes
			}
			same(t, tt.name, time.Since(start), tt.want)
		}
		silent := h.dial(t, "d")
		start := time.Now()
		silent.hungUp()
		same(t, "time to say hello", time.Since(start), devices.ConnectDeadline)
	})
}

func TestDeviceSubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		d := h.online(t, "d")
		same(t, "grants", d.subscribe(2, devices.MethodsTopic+"#", devices.TwinAnswersTopic+"#", devices.DesiredTopic+"#", "devices/d/messages/devicebound/#"), []byte{1, 1, 1, 1})
		same(t, "QoS 0", d.subscribe(0, devices.MethodsTopic+"#"), []byte{0})
		for _, filter := range []string{"#", "$iothub/#", "devices/e/messages/devicebound/#", "devices/d/messages/events/#", "$SYS/#", devices.MethodsTopic + "lockDoor/#", "devices/d/modules/m/#"} {
			same(t, filter, d.subscribe(1, filter), []byte{0x80})
		}
		// The broker's own ideas of topics must not let one device reach another.
		e := h.online(t, "e")
		e.subscribe(1, devices.MethodsTopic+"#")
		d.publish("devices/d/messages/events/", "x", 1)
		if !e.silent() {
			t.Error("a device got another's message")
		}
		// Nor may it keep what a device asks it to retain, for ever.
		retained := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true}, ProtocolVersion: 4,
			TopicName: "devices/d/messages/events/", Payload: []byte("x"),
		}
		var b bytes.Buffer
		d.write(&b, retained.PublishEncode(&b))
		d.publish("devices/d/messages/events/", "x", 1)
		same(t, "retained messages", h.front.Broker().Topics.Retained.Len(), 0)
		same(t, "messages", h.Executed("d").Messages, 3)
	})
}

func TestDeviceBreaksRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		tests := []struct {
			name, topic string
			body        string
			qos         byte
		}{
			{"QoS 2", "devices/d/messages/events/", "x", 2},
			{"another device's topic", "devices/e/messages/events/", "x", 0},
			{"a method call", devices.MethodsTopic + "lockDoor/?$rid=1", "{}", 1},
			{"a desired change", devices.DesiredTopic + "?$version=3", "{}", 1},
			{"any topic", "hello", "x", 0},
			{"a topic with a wildcard", "devices/d/messages/events/a=+", "x", 0},
			{"a twin request without an id", devices.TwinGetTopic, "", 0},
			{"an answer without a status", devices.ReplyTopic + "ok/?$rid=1", "", 0},
			{"a message that is too large", "devices/d/messages/events/", strings.Repeat("x", devices.MaxDeviceMessage+1), 0},
			{"an answer that is not JSON", devices.ReplyTopic + "200/?$rid=77", "{oops", 0},
		}
		for _, tt := range tests {
			d := h.online(t, "d")
			if tt.qos == 1 { // the acknowledgement will not come
				d.publish(tt.topic, tt.body, 0)
			} else {
				d.publish(tt.topic, tt.body, tt.qos)
			}
			if got := d.hungUp(); len(got) != 0 {
				t.Errorf("%s: the hub sent %v first", tt.name, got)
			}
		}
		d := h.online(t, "d")
		d.publish("devices/d/messages/events/", strings.Repeat("x", devices.MaxDeviceMessage), 1)
	})
}

func TestDeviceReadsAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		h.do(t, "PATCH", "/twins/d", `{"tags":{"t":1},"properties":{"desired":{"a":{"b":1}}}}`).want(t, 200)
		d := h.online(t, "d")
		d.publish(devices.TwinGetTopic+"?$rid=early", "", 0)
		if !d.silent() {
			t.Error("the hub answers a device that did not subscribe to answers")
		}
		d.subscribe(0, devices.TwinAnswersTopic+"#")
		ask := func(topic, body, wantTopic, wantBody string) {
			t.Helper()
			d.publish(topic, body, 0)
			gotTopic, gotBody := d.message()
			if gotTopic != wantTopic || !strings.Contains(gotBody, wantBody) || wantBody == "" && gotBody != "" {
				t.Errorf("%s %s is answered %s %s, want %s %s", topic, body, gotTopic, gotBody, wantTopic, wantBody)
			}
		}
		get, patch := devices.TwinGetTopic+"?$rid=", devices.ReportedTopic+"?$rid="
		ask(get+"7f-A", "", devices.TwinAnswersTopic+"200/?$rid=7f-A", `{"desired":{"a":{"b":1},"$version":2},"reported":{"$version":1}}`)
		ask(get+"2", " ", devices.TwinAnswersTopic+"200/?$rid=2", `{"desired":{"a"`)
		ask(patch+"3", `{"x":1,"y":{"z":[1,2]}}`, devices.TwinAnswersTopic+"204/?$rid=3&$version=2", "")
		ask(patch+"4", `{"x":null}`, devices.TwinAnswersTopic+"204/?$rid=4&$version=3", "")
		ask(patch+"5&$version=3", `{"w":2}`, devices.TwinAnswersTopic+"204/?$rid=5&$version=4", "")
		ask(patch+"6&$version=3", `{"w":3}`, devices.TwinAnswersTopic+"412/?$rid=6", `{"errorCode":412001,`)
		ask(patch+"7", `{"a.b":3}`, devices.TwinAnswersTopic+"400/?$rid=7", `{"errorCode":400004,`)
		ask(patch+"8", `[1]`, devices.TwinAnswersTopic+"400/?$rid=8", `{"errorCode":4000`)
		ask(patch+"9", `{`, devices.TwinAnswersTopic+"400/?$rid=9", `{"errorCode":400006,`)
		ask(patch+"10", `{"big":"`+strings.Repeat("x", 4000)+`"}`, devices.TwinAnswersTopic+"204/?$rid=10&$version=5", "")
		ask(get+"11", "", devices.TwinAnswersTopic+"200/?$rid=11", `"reported":{"y":{"z":[1,2]},"w":2,"big":"`)

		twin := h.do(t, "GET", "/twins/d", "").want(t, 200).doc(t)
		same(t, "w for services", at(t, twin, "properties", "reported", "w"), 2.0)
		same(t, "etag", at(t, twin, "etag"), "AAAAAAAAAAI=")
		same(t, "version", at(t, twin, "version"), 7.0)
		if at(t, twin, "properties", "reported", "$metadata", "w", "$lastUpdated") == nil {
			t.Error("what the device reported has no metadata")
		}
	})
}

func TestDeviceIsToldOfDesired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		d := h.online(t, "d")
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"before":1}}}`).want(t, 200)
		d.subscribe(0, devices.DesiredTopic+"#")
		h.do(t, "PATCH", "/twins/d", `{"tags":{"t":1}}`).want(t, 200)
		if !d.silent() {
			t.Error("told before it asked, or of tags")
		}
		tests := []struct{ method, write, topic, body string }{
			{"PATCH", `{"a":{"b":1},"gone":null}`, "?$version=3", `{"a":{"b":1},"gone":null,"$version":3}`},
			{"PATCH", `{}`, "?$version=4", `{"$version":4}`},
			{"PUT", `{"c":2}`, "?$version=5", `{"c":2,"$version":5}`},
		}
		for _, tt := range tests {
			h.do(t, tt.method, "/twins/d", `{"properties":{"desired":`+tt.write+`}}`).want(t, 200)
			topic, body := d.message()
			same(t, "topic", topic, devices.DesiredTopic+tt.topic)
			same(t, "body", body, tt.body)
		}
		d.unsubscribe(devices.DesiredTopic + "#")
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"d":3}}}`).want(t, 200)
		if !d.silent() {
			t.Error("told after it unsubscribed")
		}
	})
}

func TestDeviceTakesMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		call := func(body string) chan answer {
			done := make(chan answer, 1)
			go func() { done <- h.do(t, "POST", "/twins/d/methods", body) }() // ends with the call
			return done
		}
		d := h.online(t, "d")
		(<-call(`{"methodName":"x"}`)).refused(t, 404, "DeviceNotOnline")
		waiting := call(`{"methodName":"lock door/1+1","payload":{"a":[1]},"connectTimeoutInSeconds":20}`)
		time.Sleep(5 * time.Second)
		d.subscribe(0, devices.MethodsTopic+"#")
		topic, body := d.message()
		same(t, "topic", topic, devices.MethodsTopic+"lock%20door%2F1%2B1/?$rid=1")
		same(t, "body", body, `{"a":[1]}`)
		d.publish(devices.ReplyTopic+"299/?$rid=1", `"done"`, 1)
		same(t, "answer", (<-waiting).want(t, 200).body, `{"status":299,"payload":"done"}`)

		for payload, want := range map[string]string{`null`: `null`, `"s"`: `"s"`, `5`: `5`, ``: `null`} {
			body := `{"methodName":"m"}`
			if payload != "" {
				body = `{"methodName":"m","payload":` + payload + `}`
			}
			done := call(body)
			callTopic, got := d.message()
			same(t, "payload", got, want)
			d.publish(strings.Replace(callTopic, "POST/m/", "res/200/", 1), "", 0)
			same(t, "empty answer", (<-done).want(t, 200).body, `{"status":200,"payload":null}`)
		}
		start := time.Now()
		done := call(`{"methodName":"slow","responseTimeoutInSeconds":7}`)
		topic, _ = d.message()
		(<-done).refused(t, 504, "GatewayTimeout")
		same(t, "waited", time.Since(start), 7*time.Second)
		d.publish(strings.Replace(topic, "POST/slow/", "res/200/", 1), "{}", 1) // too late, and harmless
		same(t, "executed", h.Executed("d").Methods, 6)

		done = call(`{"methodName":"bad"}`)
		topic, _ = d.message()
		d.publish(strings.Replace(topic, "POST/bad/", "res/200/", 1), "{oops", 0)
		(<-done).refused(t, 502, "InvalidResponseWhileProxying")
		d.hungUp()

		d = h.online(t, "d")
		d.subscribe(1, devices.MethodsTopic+"#")
		done = call(`{"methodName":"leave"}`)
		d.message()
		d.conn.Close()
		(<-done).refused(t, 404, "DeviceConnectionClosedRemotely")

		d = h.online(t, "d")
		d.subscribe(1, devices.MethodsTopic+"#")
		d.unsubscribe(devices.MethodsTopic + "#")
		(<-call(`{"methodName":"x"}`)).refused(t, 404, "DeviceNotOnline")
	})
}

func TestModuleOverMQTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		key, _ := h.keysAt(t, "/devices/d/modules/m")
		m := h.dial(t, "d/m")
		code, _ := m.connect(hello{user: "localhost/d/m/?api-version=2021-04-12", password: sign(t, "localhost/devices/d/modules/m", key, "", time.Now().Add(time.Hour))})
		same(t, "CONNACK", code, 0)
		same(t, "grants", m.subscribe(1, devices.MethodsTopic+"#", devices.DesiredTopic+"#", devices.TwinAnswersTopic+"#", "devices/d/modules/m/inputs/#"), []byte{1, 1, 1, 1})
		same(t, "mail of the device", m.subscribe(1, "devices/d/messages/devicebound/#"), []byte{0x80})

		h.do(t, "PATCH", "/twins/d/modules/m", `{"properties":{"desired":{"x":1}}}`).want(t, 200)
		_, body := m.message()
		same(t, "desired", body, `{"x":1,"$version":2}`)
		m.publish(devices.ReportedTopic+"?$rid=1", `{"x":1}`, 0)
		m.message()
		same(t, "reported of the module", at(t, h.do(t, "GET", "/twins/d/modules/m", "").doc(t), "properties", "reported", "x"), 1.0)
		same(t, "reported of the device", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported", "x"), nil)
		done := make(chan answer, 1)
		go func() { done <- h.do(t, "POST", "/twins/d/modules/m/methods", `{"methodName":"x"}`) }() // ends with the call
		topic, _ := m.message()
		m.publish(strings.Replace(topic, "POST/x/", "res/200/", 1), "1", 0)
		(<-done).want(t, 200)
		m.publish("devices/d/modules/m/messages/events/", "x", 1)
		m.publish("devices/d/messages/events/", "x", 0)
		m.hungUp()
	})
}

func TestTelemetryAndWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		key, _ := h.keysAt(t, "/devices/d")
		password := sign(t, "localhost/devices/d", key, "", time.Now().Add(time.Hour))
		d := h.dial(t, "d")
		d.connect(hello{user: "localhost/d/", password: password, will: "devices/d/messages/events/left=1"})
		d.publish("devices/d/messages/events/%24.mid=7&a=b", `{"t":20}`, 1)
		d.publish("devices/d/messages/events", "", 0)
		d.goodbye()
		synctest.Wait()
		same(t, "messages of a device that said goodbye", h.Executed("d").Messages, 2)
		d = h.dial(t, "d")
		d.connect(hello{user: "localhost/d/", password: password, will: "devices/d/messages/events/left=1"})
		d.conn.Close()
		synctest.Wait()
		same(t, "messages of a device that vanished", h.Executed("d").Messages, 3)
	})
}

func TestWillsThatAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		key, _ := h.keysAt(t, "/devices/d")
		const own = "devices/d/messages/events/"
		tests := []struct {
			name string
			will packets.ConnectParams
			want int
		}{
			{"a message", packets.ConnectParams{WillTopic: own, WillPayload: []byte("gone"), WillQos: 1}, 0},
			{"an empty one", packets.ConnectParams{WillTopic: own}, 0},
			{"to be retained", packets.ConnectParams{WillTopic: own, WillPayload: []byte("gone"), WillRetain: true}, 0},
			{"with QoS 2", packets.ConnectParams{WillTopic: own, WillPayload: []byte("gone"), WillQos: 2}, 5},
			{"an answer", packets.ConnectParams{WillTopic: devices.MethodsTopic + "lockDoor/?$rid=1", WillPayload: []byte("1")}, 5},
			{"of another device", packets.ConnectParams{WillTopic: "devices/e/messages/events/", WillPayload: []byte("1")}, 5},
			{"without a topic", packets.ConnectParams{WillPayload: []byte("1")}, 5},
		}
		for _, tt := range tests {
			before := h.Executed("d").Messages
			d := h.dial(t, "d")
			password := sign(t, "localhost/devices/d", key, "", time.Now().Add(time.Hour))
			code, _ := d.connect(hello{user: "localhost/d/", password: password, left: &tt.will})
			same(t, tt.name+": CONNACK", code, tt.want)
			d.conn.Close()
			synctest.Wait()
			same(t, tt.name+": was sent", h.Executed("d").Messages-before == 1, tt.want == 0)
		}
	})
}

// Of writes at the same time the device hears in the order of their versions.
func TestNoticesAreInOrder(t *testing.T) {
	h := trio(t)
	d := h.online(t, "d")
	d.subscribe(0, devices.DesiredTopic+"#")
	const writers, each = 4, 10
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for range each {
				h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"n":1}}}`)
			}
		})
	}
	for version := 2; version < 2+writers*each; version++ {
		topic, _ := d.message()
		same(t, "topic", topic, fmt.Sprintf("%s?$version=%d", devices.DesiredTopic, version))
	}
	done.Wait()
}

func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		d := h.online(t, "d")
		d.subscribe(0, devices.DesiredTopic+"#")
		for i := range 2*devices.MaxPendingToSend + cap(d.in) {
			h.do(t, "PATCH", "/twins/d", fmt.Sprintf(`{"properties":{"desired":{"i":%d}}}`, i)).want(t, 200)
		}
		if n := len(d.hungUp()); n > devices.MaxPendingToSend+cap(d.in)+2 {
			t.Errorf("%d notices reached a device that was cut off", n)
		}
	})
}

// What the fleet file would have a device report is not its own word any more
// once it speaks for itself.
func TestRealDeviceIsNotSpokenFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "version: 1\ndevices:\n  - id: d\n    follow: {after: 10s}\n")
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"floor":3}}}`).want(t, 200)
		d := h.online(t, "d")
		d.publish(devices.ReportedTopic+"?$rid=1", `{"floor":7,"own":true}`, 0)
		time.Sleep(time.Minute)
		reported := at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported")
		same(t, "floor", at(t, reported, "floor"), 7.0)
		same(t, "own", at(t, reported, "own"), any(true))
	})
}

// What devices sent can be read by who tests them.
func TestTelemetryIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		d := h.online(t, "d")
		d.publish("devices/d/messages/events/a=1%202&%24.ct=application%2Fjson", `{"t":21}`, 1)
		d.publish("devices/d/messages/events/", "\xff", 1)
		synctest.Wait()
		want := `[{"received":` + string(wire.JSON(nil, time.Now().UTC())) + `,"properties":{"$.ct":"application/json","a":"1 2"},"body":"{\"t\":21}"},` +
			`{"received":` + string(wire.JSON(nil, time.Now().UTC())) + `,"bodyBase64":"/w=="}]` + "\n"
		same(t, "telemetry", h.control(t, "GET", "/v1/devices/d/telemetry", "").want(t, 200).body, want)
		same(t, "of another", h.control(t, "GET", "/v1/devices/e/telemetry", "").want(t, 200).body, "[]\n")
		h.control(t, "GET", "/v1/devices/nobody/telemetry", "").want(t, 404)
		h.Reset()
		same(t, "after a reset", len(h.front.Heard.Of("d")), 0)
		for range 300 {
			h.front.Heard.Add(devices.HeardMessage{Device: "d", Body: make([]byte, 128<<10)})
		}
		if h.front.Heard.Bytes > devices.MaxHeard || len(h.front.Heard.List) < 100 {
			t.Errorf("%d bytes in %d messages are kept", h.front.Heard.Bytes, len(h.front.Heard.List))
		}
	})
}

func TestRealDeviceIsNotSimulated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "version: 1\ndevices:\n  - id: d\n    follow: 0s\n")
		d := h.online(t, "d")
		d.subscribe(0, devices.DesiredTopic+"#")
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"x":1}}}`).want(t, 200)
		d.message()
		same(t, "reported", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported", "x"), nil)
		d.goodbye()
		synctest.Wait()
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"x":2}}}`).want(t, 200)
		same(t, "reported", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "properties", "reported", "x"), 2.0)
	})
}

// Whatever bytes a client sends, signed in or not, the hub goes on.
func FuzzPackets(f *testing.F) {
	f.Add([]byte{0x10, 0}, false)
	f.Add([]byte{packets.Publish << 4, 4, 0, 1, 'x', '{'}, true)
	f.Add([]byte("\x30\x25\x00\x20$iothub/twin/PATCH/properties/reported/?$rid=1{}"), true)
	f.Add([]byte("\x82\x20\x00\x01\x00\x1b$iothub/methods/POST/#\x02"), true)
	f.Add([]byte("\x32\x19\x00\x15$iothub/methods/res/1/\x00\x01{}"), true)
	f.Fuzz(func(t *testing.T, data []byte, signedIn bool) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, "version: 1\ndevices: [{id: d}]\n")
			var d *testDevice
			if signedIn {
				d = h.online(t, "d")
			} else {
				d = h.dial(t, "d")
			}
			go func() { // ends with the connection
				for range d.in {
				}
			}()
			_, _ = d.conn.Write(data)
			d.conn.Close()
			synctest.Wait()
			h.do(t, "GET", "/twins/d", "").want(t, 200)
		})
	})
}
