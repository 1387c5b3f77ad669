package emulator

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/refuse"
)

const mailFilter = "devices/d/messages/devicebound/#"

// back connects the device in a session that is kept.
func (h testHub) back(tb testing.TB, id string) (d *testDevice, remembered bool) {
	tb.Helper()
	key, _ := h.keysAt(tb, "/devices/"+id)
	d = h.dial(tb, id)
	_, remembered = d.connect(hello{user: "localhost/" + id, session: true, password: sign(tb, "localhost/devices/"+id, key, "", time.Now().Add(time.Hour))})
	return d, remembered
}

func (h testHub) send(tb testing.TB, body string) {
	tb.Helper()
	if err := h.Send(tb.Context(), "d", devices.Message{ID: body, Body: []byte(body), Properties: map[string]string{"a b": "1/2", "z": ""}}); err != nil {
		tb.Fatal(err)
	}
}

func TestMailWaitsUntilItIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		waiting := func() any { return h.do(t, "GET", "/devices/d", "").doc(t)["cloudToDeviceMessageCount"] }
		h.send(t, "one")
		h.send(t, "two")
		same(t, "waiting", waiting(), 2.0)
		same(t, "waiting, by the twin", h.do(t, "GET", "/twins/d", "").doc(t)["cloudToDeviceMessageCount"], 2.0)
		d, remembered := h.back(t, "d")
		same(t, "session at first", remembered, false)
		d.subscribe(1, mailFilter)
		one, _ := d.receive()
		same(t, "topic", one.TopicName, "devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&%24.mid=one&a%20b=1%2F2&z=")
		same(t, "QoS", one.FixedHeader.Qos, byte(1))
		_, body := d.message()
		same(t, "second", body, "two")
		d.acknowledge(one.PacketID)
		d.acknowledge(999)
		synctest.Wait()
		same(t, "waiting after one was acknowledged", waiting(), 1.0)

		d.conn.Close()
		synctest.Wait()
		h.send(t, "three")
		d, remembered = h.back(t, "d") // it subscribed before, and need not again
		same(t, "session when it is back", remembered, true)
		for _, want := range []string{"two", "three"} {
			pk, _ := d.receive()
			same(t, "sent again", string(pk.Payload), want)
			d.acknowledge(pk.PacketID)
		}
		synctest.Wait()
		same(t, "waiting in the end", waiting(), 0.0)
		d.unsubscribe(mailFilter)
		d.goodbye()
		synctest.Wait()
		same(t, "boxes", h.front.Mail.Size(), 0)
	})
}

func TestMailWithoutAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		d := h.online(t, "d")
		d.subscribe(0, mailFilter)
		h.send(t, "one")
		pk, _ := d.receive()
		same(t, "QoS", pk.FixedHeader.Qos, byte(0))
		same(t, "waiting", h.front.Mail.Count("d"), 0)
		d.goodbye()
		synctest.Wait() // QoS 0 is lost on a connection that is just ending
		h.send(t, "two")
		d, remembered := h.back(t, "d")
		same(t, "session after a clean one", remembered, false)
		if !d.silent() {
			t.Error("a subscription outlived a clean session")
		}
		d.subscribe(1, mailFilter)
		d.message()
		d.goodbye()
		h.online(t, "d").goodbye() // a clean session ends the kept one
		_, remembered = h.back(t, "d")
		same(t, "session after a clean one came between", remembered, false)
	})
}

func TestMailHasLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		for range devices.MaxMail {
			h.send(t, "x")
		}
		refused := func(what, device string, m devices.Message, code int) {
			t.Helper()
			var e *refuse.Error
			if err := h.Send(t.Context(), device, m); !errors.As(err, &e) || e.Code != code {
				t.Errorf("%s: Send = %v, want the hub's error %d", what, err, code)
			}
		}
		refused("a full queue", "d", devices.Message{}, 403004)
		refused("no device", "nobody", devices.Message{}, 404001)
		refused("a message that is too large", "e", devices.Message{Body: make([]byte, devices.MaxCloudMessage+1)}, 413001)
		a := h.do(t, "DELETE", "/devices/d/commands", "").want(t, 200)
		same(t, "purged", a.body, `{"totalMessagesPurged":50,"deviceId":"d","moduleId":null}`)
		same(t, "waiting", h.front.Mail.Count("d"), 0)
		h.send(t, "before the reset")
		h.Reset()
		same(t, "waiting after a reset", h.front.Mail.Count("d"), 0)
		for _, id := range []string{"d", "e"} { // registered devices go with a reset
			h.do(t, "PUT", "/devices/"+id, "{}")
		}
		h.send(t, "for the old device")
		h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		same(t, "waiting for another device of that name", h.front.Mail.Count("d"), 0)
	})
}
