package sdktest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// device is how one client's devices connect.
type deviceHabit struct {
	name      string
	server    func(h *testHub) string
	user      string // {id} stands for the device's id
	scope     string // of the password, behind the host; {id} as above
	session   bool
	keepAlive time.Duration
	qos       byte // of subscriptions and of answers
	askTwin   string
}

func overMQTT(h *testHub) string       { return "tls://" + h.MQTTAddr }
func overWebSockets(h *testHub) string { return "wss://" + h.HTTPSAddr + "/$iothub/websocket" }

func deviceHabits() []deviceHabit {
	const python = "localhost/{id}/?api-version=2019-10-01&DeviceClientType=azure-iot-device%2F2.11.0%28py3%29"
	return []deviceHabit{
		{"Python", overMQTT, python, "/devices/{id}", true, 60 * time.Second, 1, " "},
		{"Node", overMQTT, "localhost/{id}/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4", "/devices/{id}", true, 180 * time.Second, 0, " "},
		{"Go", overMQTT, "localhost/{id}/api-version=2020-09-30", "", false, 30 * time.Second, 1, ""},
		{"az device simulate", overWebSockets, python + "None", "/devices/{id}", false, 60 * time.Second, 1, ""},
	}
}

// TestDeviceHabits lets a device of each client do what the tutorial's does:
// answer lockDoor, hear of desired properties, report.
func TestDeviceHabits(t *testing.T) {
	t.Parallel()
	for _, habit := range deviceHabits() {
		t.Run(habit.name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, anyPorts("localhost"), doors)
			service, err := wire.Parse(h.ServiceConnectionString)
			if err != nil {
				t.Fatal(err)
			}
			service.TLS = h.tlsConfig(t)
			t.Cleanup(service.Close)
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			d := &habitDevice{t: t, ctx: ctx, habit: habit, service: service, id: "myDevice"}
			d.connect(h)
			d.locksTheDoor()
			d.followsItsTwin()
			d.sends(h)
		})
	}
}

// habitDevice is a device that connects as a client was recorded to.
type habitDevice struct {
	*wire.Device

	t       *testing.T
	ctx     context.Context //nolint:containedctx // of the one test that it lives for
	habit   deviceHabit
	service *wire.Hub
	id      string
}

// rest makes a request of the service.
func (d *habitDevice) rest(verb, path, body string) wire.Answer {
	d.t.Helper()
	a, err := d.service.Do(d.ctx, wire.Request{Verb: verb, Path: path, Body: body})
	if err != nil || a.Status != http.StatusOK {
		d.t.Fatalf("%s %s: %d %s, %v", verb, path, a.Status, a.Body, err)
	}
	return a
}

func (d *habitDevice) connect(h *testHub) {
	d.t.Helper()
	var identity struct {
		Authentication struct {
			SymmetricKey struct{ PrimaryKey, SecondaryKey string }
		}
	}
	if err := json.Unmarshal(d.rest("PUT", "/devices/"+d.id, "{}").Body, &identity); err != nil {
		d.t.Fatal(err)
	}
	scope := strings.ReplaceAll(d.habit.scope, "{id}", url.QueryEscape(d.id))
	hello := func(key string) wire.Hello {
		token, err := wire.Token("localhost"+scope, key, "", time.Now().Add(time.Hour))
		if err != nil {
			d.t.Fatal(err)
		}
		return wire.Hello{
			Server: d.habit.server(h), TLS: h.tlsConfig(d.t), ClientID: d.id, User: strings.ReplaceAll(d.habit.user, "{id}", d.id),
			Password: token, Session: d.habit.session, KeepAlive: d.habit.keepAlive,
		}
	}
	_, err := wire.Connect(d.ctx, hello("d3Jvbmcga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhIQ=="))
	if refused, ok := errors.AsType[*wire.RefusedError](err); !ok || refused.Code != 4 && refused.Code != 5 {
		d.t.Fatalf("CONNECT with a wrong key: %v, want a refusal with code 4 or 5", err)
	}
	keys := identity.Authentication.SymmetricKey
	for _, key := range []string{keys.SecondaryKey, keys.PrimaryKey} { // the second takes over from the first
		if d.Device, err = wire.Connect(d.ctx, hello(key)); err != nil {
			d.t.Fatal(err)
		}
		d.t.Cleanup(d.Close)
	}
}

func (d *habitDevice) subscribe(filter string) {
	d.t.Helper()
	if granted, err := d.Subscribe(d.ctx, filter, d.habit.qos); err != nil || granted != d.habit.qos {
		d.t.Fatalf("SUBSCRIBE %s: granted %d, %v, want %d", filter, granted, err, d.habit.qos)
	}
}

func (d *habitDevice) publish(topic, body string, qos byte) {
	d.t.Helper()
	if err := d.Publish(d.ctx, topic, body, qos); err != nil {
		d.t.Fatal(err)
	}
}

// next is the next message, which must come to a topic of that form. It
// returns what the form's group matched, and the body.
func (d *habitDevice) next(form string) (found, body string) {
	d.t.Helper()
	m, err := d.Receive(d.ctx)
	if err != nil {
		d.t.Fatalf("waiting for %s: %v", form, err)
	}
	match := regexp.MustCompile("^" + form + "$").FindStringSubmatch(m.Topic)
	if match == nil {
		d.t.Fatalf("the hub sent %s to %s, want a topic like %s", m.Body, m.Topic, form)
	}
	return match[1], m.Body
}

func (d *habitDevice) locksTheDoor() {
	d.t.Helper()
	path := "/twins/" + d.id + "/methods"
	a, err := d.service.Do(d.ctx, wire.Request{Verb: "POST", Path: path, Body: `{"methodName":"lockDoor"}`})
	if err != nil || a.Code() != 404103 {
		d.t.Fatalf("before SUBSCRIBE: %d %s, %v, want 404103", a.Status, a.Body, err)
	}
	d.subscribe("$iothub/methods/POST/#")
	answered := make(chan wire.Answer, 1)
	go func() { // ends with the answer, which is waited for below
		a, err := d.service.Do(d.ctx, wire.Request{Verb: "POST", Path: path, Body: `{"methodName":"lockDoor","payload":"{\"lockTime\":\"10m\"}"}`})
		if err != nil {
			a.Body = []byte(err.Error())
		}
		answered <- a
	}()
	rid, payload := d.next(`\$iothub/methods/POST/lockDoor/\?\$rid=([^&]+)`)
	if payload != `"{\"lockTime\":\"10m\"}"` {
		d.t.Errorf("the device got the payload %s", payload)
	}
	d.publish("$iothub/methods/res/200/?$rid="+rid, `{"Response": "lockDoor called successfully"}`, d.habit.qos)
	if a := <-answered; string(a.Body) != `{"status":200,"payload":{"Response": "lockDoor called successfully"}}` {
		d.t.Errorf("the service got %d %s", a.Status, a.Body)
	}
}

func (d *habitDevice) followsItsTwin() {
	d.t.Helper()
	d.subscribe("$iothub/twin/PATCH/properties/desired/#")
	d.subscribe("$iothub/twin/res/#")
	d.rest("PATCH", "/twins/"+d.id, `{"tags":{"unheard":true}}`)
	d.rest("PATCH", "/twins/"+d.id, `{"properties":{"desired":{"building":43,"floor":null}}}`)
	version, patch := d.next(`\$iothub/twin/PATCH/properties/desired/\?\$version=(\d+)`)
	if version != "2" || patch != `{"building":43,"floor":null,"$version":2}` {
		d.t.Errorf("the device heard %s of version %s", patch, version)
	}
	const rid = "5d8a8c47-6d5c-4c9e-9d59-0123456789ab"
	d.publish("$iothub/twin/GET/?$rid="+rid, d.habit.askTwin, 0)
	if _, twin := d.next(`\$iothub/twin/res/200/\?\$rid=(` + rid + `)`); twin != `{"desired":{"building":43,"$version":2},"reported":{"$version":1}}` {
		d.t.Errorf("the device read %s", twin)
	}
	d.publish("$iothub/twin/PATCH/properties/reported/?$rid=F00", `{"building": 43}`, d.habit.qos)
	if version, _ := d.next(`\$iothub/twin/res/204/\?\$rid=F00&\$version=(\d+)`); version != "2" {
		d.t.Errorf("the report made version %s, want 2", version)
	}
	if twin := d.rest("GET", "/twins/"+d.id, ""); !strings.Contains(string(twin.Body), `"reported":{"building":43,`) {
		d.t.Errorf("the service reads %s", twin.Body)
	}
}

func (d *habitDevice) sends(h *testHub) {
	d.t.Helper()
	d.publish("devices/"+d.id+"/messages/events/%24.mid=1&%24.ct=application%2Fjson&%24.ce=utf-8&alert=a%20b", `{"t":21}`, 1)
	if got := h.executed(d.t, d.id).Messages; got != 1 {
		d.t.Errorf("the hub took %d messages, want 1", got)
	}
}
