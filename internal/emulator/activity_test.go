package emulator

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/devices"
)

// moments returns what the hub says of a subject: when it was last heard of, by
// the registry and by its twin, and when its connection last began or ended.
func (h testHub) moments(t *testing.T, device, twin string) [3]time.Time {
	t.Helper()
	var out [3]time.Time
	for i, text := range []any{
		h.do(t, "GET", device, "").doc(t)["lastActivityTime"],
		h.do(t, "GET", twin, "").doc(t)["lastActivityTime"],
		h.do(t, "GET", device, "").doc(t)["connectionStateUpdatedTime"],
	} {
		s, _ := text.(string)
		at, err := time.Parse("2006-01-02T15:04:05.9999999Z07:00", strings.TrimSuffix(s, "Z")+"Z")
		if err != nil {
			t.Fatal(err)
		}
		out[i] = at
	}
	return out
}

func TestActivityMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := reopen(t, dir, moods)
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		h.do(t, "PUT", "/devices/d/modules/m", "{}").want(t, 200)
		start := h.Now()
		age := func() (ages [3]time.Duration) {
			for i, at := range h.moments(t, "/devices/d", "/twins/d") {
				ages[i] = h.Now().Sub(at).Round(time.Second)
			}
			return ages
		}
		never := h.moments(t, "/devices/d", "/twins/d")
		same(t, "never", [3]bool{never[0].IsZero(), never[1].IsZero(), never[2].IsZero()}, [3]bool{true, true, true})
		time.Sleep(10 * time.Second)
		d := h.online(t, "d")
		same(t, "connected", age(), [3]time.Duration{0, 0, 0})
		d.subscribe(1, devices.TwinAnswersTopic+"#", devices.MethodsTopic+"#", mailFilter)
		for what, act := range map[string]func(){
			"telemetry": func() { d.publish("devices/d/messages/events/", "x", 1) },
			"twin get":  func() { d.publish(devices.TwinGetTopic+"?$rid=1", "", 0); d.message() },
			"report":    func() { d.publish(devices.ReportedTopic+"?$rid=1", "{}", 0); d.message() },
			"answer": func() {
				done := make(chan answer, 1)
				go func() { done <- h.do(t, "POST", "/twins/d/methods", `{"methodName":"m"}`) }() // ends with the answer
				topic, _ := d.message()
				time.Sleep(5 * time.Second)
				d.publish(strings.Replace(topic, "POST/m/", "res/200/", 1), "", 0)
				(<-done).want(t, 200)
			},
			"acknowledgement": func() {
				h.send(t, "x")
				pk, _ := d.receive()
				d.acknowledge(pk.PacketID)
				synctest.Wait()
			},
		} {
			time.Sleep(time.Minute)
			if age()[0] != time.Minute {
				t.Fatalf("before the %s the device was heard of %v ago", what, age()[0])
			}
			act()
			if now := age(); now[0] != 0 || now[1] != 0 || now[2] < time.Minute {
				t.Errorf("after the %s: %v", what, now)
			}
		}
		time.Sleep(time.Minute)
		h.do(t, "PATCH", "/twins/d", `{"tags":{"a":1}}`).want(t, 200)
		same(t, "what a service does", age()[0], time.Minute)
		d.goodbye()
		synctest.Wait()
		same(t, "disconnected", age(), [3]time.Duration{time.Minute, time.Minute, 0})
		module := h.moments(t, "/devices/d/modules/m", "/twins/d/modules/m")
		same(t, "the module", module[0].IsZero() && module[2].IsZero(), true)

		last := h.moments(t, "/devices/d", "/twins/d")
		if !last[0].After(start) {
			t.Errorf("last heard of at %v, the start was at %v", last[0], start)
		}
		h.leave(t)
		h = reopen(t, dir, moods)
		same(t, "after a restart", h.moments(t, "/devices/d", "/twins/d"), last)
		h.do(t, "DELETE", "/devices/d", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		same(t, "another device of that name", h.moments(t, "/devices/d", "/twins/d"), never)
		h.leave(t)
	})
}

func TestActivityOfAModule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		key, _ := h.keysAt(t, "/devices/d/modules/m")
		m := h.dial(t, "d/m")
		m.connect(hello{user: "localhost/d/m", password: sign(t, "localhost/devices/d/modules/m", key, "", time.Now().Add(time.Hour))})
		same(t, "the module", h.moments(t, "/devices/d/modules/m", "/twins/d/modules/m")[0].IsZero(), false)
		same(t, "its device", h.moments(t, "/devices/d", "/twins/d")[0].IsZero(), true)
		h.do(t, "DELETE", "/devices/d/modules/m", "", "If-Match", "*").want(t, 204)
		m.hungUp()
		h.do(t, "PUT", "/devices/d/modules/m", "{}").want(t, 200)
		synctest.Wait()
		same(t, "another module of that name", h.moments(t, "/devices/d/modules/m", "/twins/d/modules/m")[0].IsZero(), true)
	})
}

func TestAttributes(t *testing.T) {
	dir := t.TempDir()
	h := reopen(t, dir, moods)
	const v2024 = "?api-version=2024-03-31"
	shown := func(path string) any {
		t.Helper()
		return h.do(t, "GET", path, "").want(t, 200).doc(t)["attributes"]
	}
	put := func(query, body string, headers ...string) answer {
		return h.do(t, "PUT", "/devices/d"+query, body, headers...)
	}
	same(t, "of the answer", put(v2024, `{"attributes":{"site": {"floor":[1, 2]}}}`).want(t, 200).doc(t)["attributes"], jsonOf(t, `{"site":{"floor":[1,2]}}`))
	same(t, "by an older version", shown("/devices/d"), nil)
	same(t, "of the twin, by an older version", shown("/twins/d"), nil)
	same(t, "of the twin", shown("/twins/d"+v2024), jsonOf(t, `{"site":{"floor":[1,2]}}`))
	same(t, "of a device that has none", shown("/twins/ok"+v2024), jsonOf(t, `{}`))
	put(v2024, `{"status":"enabled"}`, "If-Match", "*").want(t, 200)
	put("", `{"attributes":{"x":1}}`, "If-Match", "*").want(t, 200) // the version does not know them
	put(v2024, `{"attributes":null}`, "If-Match", "*").want(t, 200)
	same(t, "after updates that say nothing of them", shown("/devices/d"+v2024), jsonOf(t, `{"site":{"floor":[1,2]}}`))
	put(v2024, `{"attributes":[1]}`, "If-Match", "*").refused(t, 400, "ArgumentInvalid")
	put(v2024, `{"attributes":{"a":"`+strings.Repeat("x", 9000)+`"}}`, "If-Match", "*").refused(t, 400, "ArgumentInvalid")
	left := leftBehind(t, dir)
	h.leave(t)
	h = reopen(t, left, moods)
	same(t, "after a restart", shown("/devices/d"+v2024), jsonOf(t, `{"site":{"floor":[1,2]}}`))
	put(v2024, `{"attributes":{}}`, "If-Match", "*").want(t, 200)
	same(t, "emptied", shown("/devices/d"+v2024), jsonOf(t, `{}`))
	h.leave(t)
}
