package emulator

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
)

// counts returns what each way to ask says of the messages for device d.
func (h testHub) counts(t *testing.T) map[string]any {
	t.Helper()
	first := func(text string) any {
		var all []map[string]any
		if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) == 0 {
			t.Fatalf("%s is no list: %v", text, err)
		}
		return all[0]["cloudToDeviceMessageCount"]
	}
	query := func(q string) string {
		return h.do(t, "POST", "/devices/query", `{"query":"`+q+`"}`).want(t, 200).body
	}
	var queue []any
	if err := json.Unmarshal([]byte(h.control(t, "GET", "/v1/devices/d/messages", "").want(t, 200).body), &queue); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"device":    h.do(t, "GET", "/devices/d", "").doc(t)["cloudToDeviceMessageCount"],
		"list":      first(h.do(t, "GET", "/devices?top=1", "").body),
		"twin":      h.do(t, "GET", "/twins/d", "").doc(t)["cloudToDeviceMessageCount"],
		"query":     first(query("SELECT * FROM devices WHERE deviceId = 'd'")),
		"projected": first(query("SELECT cloudToDeviceMessageCount FROM devices WHERE deviceId = 'd'")),
		"queue":     float64(len(queue)),
	}
}

func TestMessagesByControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		all := func(what string, n float64) {
			t.Helper()
			for who, got := range h.counts(t) {
				same(t, what+", by the "+who, got, any(n))
			}
		}
		send := func(body string) answer { return h.control(t, "POST", "/v1/devices/d/messages", body) }
		all("at first", 0)
		same(t, "count", send(`{"messageId":"m1","properties":{"a b":"1/2","$.ct":"application/json"},"body":"{\"x\":1}"}`).want(t, 200).body, `{"cloudToDeviceMessageCount":1}`+"\n")
		time.Sleep(time.Second)
		send(`{"bodyBase64":"/wA="}`).want(t, 200)
		send(`{}`).want(t, 200)
		all("sent", 3)
		same(t, "the query that finds it", len(h.rowsOf(t, "SELECT deviceId FROM devices WHERE cloudToDeviceMessageCount > 2")), 1)
		now := h.Now().UTC()
		want := `[{"number":1,"queued":"` + now.Add(-time.Second).Format(time.RFC3339Nano) + `","messageId":"m1","properties":{"a b":"1/2","$.ct":"application/json"},"body":"{\"x\":1}"},` +
			`{"number":2,"queued":"` + now.Format(time.RFC3339Nano) + `","bodyBase64":"/wA="},` +
			`{"number":3,"queued":"` + now.Format(time.RFC3339Nano) + `","body":""}]`
		same(t, "queue", jsonOf(t, h.control(t, "GET", "/v1/devices/d/messages", "").body), jsonOf(t, want))

		d := h.online(t, "d")
		d.subscribe(1, mailFilter)
		pk, _ := d.receive()
		same(t, "topic", pk.TopicName, "devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&%24.mid=m1&%24.ct=application%2Fjson&a%20b=1%2F2")
		same(t, "body", string(pk.Payload), `{"x":1}`)
		d.message()
		d.message()
		same(t, "under way", strings.Count(h.control(t, "GET", "/v1/devices/d/messages", "").body, `"underWay":true`), 3)
		d.acknowledge(pk.PacketID)
		synctest.Wait()
		all("acknowledged", 2)
		same(t, "purged", h.do(t, "DELETE", "/devices/d/commands", "").want(t, 200).body, `{"totalMessagesPurged":2,"deviceId":"d","moduleId":null}`)
		all("purged", 0)
		d.acknowledge(2) // of a message that was purged
		send(`{"body":"x"}`).want(t, 200)
		same(t, "purged by control", h.control(t, "DELETE", "/v1/devices/d/messages", "").want(t, 200).body, `{"totalMessagesPurged":1}`+"\n")
		all("purged by control", 0)
	})
}

func (h testHub) rowsOf(t *testing.T, query string) []any {
	t.Helper()
	rows, _ := h.pages(t, query)
	out := make([]any, len(rows))
	for i, r := range rows {
		out[i] = r
	}
	return out
}

func TestMessagesThatControlRefuses(t *testing.T) {
	h := trio(t)
	long := strings.Repeat("é", devices.MaxCloudMessage/6) // one that fits, and whose topic does not
	for _, tt := range []struct {
		name, device, body string
		status             int
		text               string
	}{
		{"nobody", "nobody", `{}`, 404, "DeviceNotFound"},
		{"unknown key", "d", `{"text":"x"}`, 400, "text"},
		{"two bodies", "d", `{"body":"x","bodyBase64":"eA=="}`, 400, "either body"},
		{"too large", "d", `{"body":"` + strings.Repeat("x", devices.MaxCloudMessage+1) + `"}`, 413, "MessageTooLarge"},
		{"too large with its properties", "d", `{"body":"` + strings.Repeat("x", devices.MaxCloudMessage-1) + `","properties":{"a":"b"}}`, 413, "MessageTooLarge"},
		{"too long a topic", "d", `{"properties":{"a":"` + long + `"}}`, 413, "MessageTooLarge"},
	} {
		a := h.control(t, "POST", "/v1/devices/"+tt.device+"/messages", tt.body)
		if a.status != tt.status || !strings.Contains(a.body, tt.text) {
			t.Errorf("%s: answered %d %s, want %d and %q", tt.name, a.status, a.body, tt.status, tt.text)
		}
	}
	h.control(t, "GET", "/v1/devices/nobody/messages", "").want(t, 404)
	h.control(t, "DELETE", "/v1/devices/nobody/messages", "").want(t, 404)
	for range devices.MaxMail {
		h.control(t, "POST", "/v1/devices/d/messages", `{}`).want(t, 200)
	}
	h.control(t, "POST", "/v1/devices/d/messages", `{}`).want(t, 403)
}

func TestMessagesAreShaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busyDuo(t)
		send := func(device string) (status int, took time.Duration) {
			start := time.Now()
			a := h.control(t, "POST", "/v1/devices/"+device+"/messages", `{}`)
			return a.status, time.Since(start).Round(10 * time.Millisecond)
		}
		for range 16 { // 100 a minute, for ten seconds
			status, took := send("d")
			same(t, "the burst", []any{status, took}, []any{200, time.Duration(0)})
		}
		status, took := send("d")
		same(t, "the next", []any{status, took}, []any{200, 200 * time.Millisecond})
		h.use(t, core.ThrottleC2D, 16)
		status, _ = send("e")
		same(t, "one too many", status, 429)
	})
}

// TestMessagesOutliveTheHub: those that nobody acknowledged are sent again, and
// the device's session goes on.
func TestMessagesOutliveTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := reopen(t, dir, moods)
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		d, _ := h.back(t, "d")
		d.subscribe(1, mailFilter)
		h.send(t, "one")
		h.send(t, "two")
		one, _ := d.receive()
		d.message()
		d.acknowledge(one.PacketID)
		synctest.Wait()
		left := leftBehind(t, dir)
		h.leave(t)

		h = reopen(t, left, moods)
		h.send(t, "three")
		d, remembered := h.back(t, "d")
		same(t, "session", remembered, true)
		for _, want := range []string{"two", "three"} {
			_, body := d.message()
			same(t, "message", body, want)
		}
		d.unsubscribe(mailFilter)
		h.do(t, "DELETE", "/devices/d/commands", "").want(t, 200)
		left = leftBehind(t, left)
		h.leave(t)

		h = reopen(t, left, moods)
		same(t, "boxes", h.front.Mail.Size(), 0)
		h.send(t, "four")
		h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		left = leftBehind(t, left)
		h.leave(t)
		h = reopen(t, left, moods)
		same(t, "messages for another device of that name", len(h.Queue("d")), 0)
		h.leave(t)
	})
}
