package emulator

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/fleet"
)

// reopen makes a hub from what another left.
func reopen(t *testing.T, dir, fleetFile string) testHub {
	t.Helper()
	f, err := fleet.Parse("fleet.yaml", []byte(fleetFile))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{TLSDir: dir, StateFile: filepath.Join(dir, "state"), Fleet: f})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return testHub{Server: s, token: signedBy(t, s, "iothubowner", "localhost", 1000*time.Hour)}
}

func (h testHub) leave(t *testing.T) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// TestStateIsKept reads everything a service can read before and after a
// restart: after an end in good order, and as a crash leaves it.
func TestStateIsKept(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		stateIsKept(t, func(t *testing.T, h testHub, dir string) string {
			t.Helper()
			h.leave(t)
			return dir
		})
	})
	t.Run("killed", func(t *testing.T) {
		stateIsKept(t, func(t *testing.T, h testHub, dir string) string {
			t.Helper()
			h.Store.NoteCounts() // a second has passed
			left := leftBehind(t, dir)
			h.leave(t)
			return left
		})
	})
}

// leftBehind copies a directory as the end of a process would leave it.
func leftBehind(t *testing.T, dir string) string {
	t.Helper()
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

// TestDeviceThatStandsTwice is what a state file can have of a device that was
// deleted and registered anew while it was written.
func TestDeviceThatStandsTwice(t *testing.T) {
	dir := t.TempDir()
	device := func(n string) string {
		return `{"device":{"id":"a","added":true,"twin":{"tags":{"raw":{"n":` + n + `}}}}}` + "\n"
	}
	lines := `{"schema":"` + stateSchema + `"}` + "\n" + device("1") + device("2")
	writeAll(t, filepath.Join(dir, "state"), []byte(lines))
	h := reopen(t, dir, moods)
	same(t, "tags", at(t, h.do(t, "GET", "/twins/a", "").want(t, 200).doc(t), "tags", "n"), any(2.0))
	same(t, "Devices", h.Devices(), 4)
	h.leave(t)
}

func stateIsKept(t *testing.T, end func(t *testing.T, h testHub, dir string) string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const small = `
version: 1
devices:
  - idPattern: door-%d
    count: 6
    tags: {building: 43}
    modules: [valve]
    follow: {after: 30s}
    methods: {lockDoor: {payload: {a: "<&>"}}, slow: {latency: 20s}}
`
		dir := t.TempDir()
		h := reopen(t, dir, small)
		if err := h.Advance(time.Hour); err != nil {
			t.Fatal(err)
		}
		h.do(t, "PATCH", "/twins/door-1", `{"tags":{"x":"<&>"},"properties":{"desired":{"a":{"b":1,"c":[1,{"d":2}]}}}}`).want(t, 200)
		time.Sleep(time.Second)
		h.do(t, "PATCH", "/twins/door-1", `{"properties":{"desired":{"a":{"b":2}}}}`).want(t, 200)
		h.do(t, "PATCH", "/twins/door-2/modules/valve", `{"properties":{"desired":{"open":true}}}`).want(t, 200)
		h.do(t, "PUT", "/devices/door-3", `{"status":"disabled","statusReason":"lost"}`, "If-Match", "*").want(t, 200)
		h.do(t, "DELETE", "/devices/door-4", "", "If-Match", "*").want(t, 204)
		h.do(t, "DELETE", "/devices/door-5", "", "If-Match", "*").want(t, 204)
		h.do(t, "PUT", "/devices/door-5", `{"capabilities":{"iotEdge":true}}`).want(t, 200)
		h.do(t, "PUT", "/devices/new", "{}").want(t, 200)
		h.do(t, "PUT", "/devices/new/modules/m", `{"managedBy":"x"}`).want(t, 200)
		h.do(t, "PUT", "/devices/brief", "{}").want(t, 200)
		h.do(t, "DELETE", "/devices/brief", "", "If-Match", "*").want(t, 204)
		for i := range 4 {
			if err := h.Send(t.Context(), "new", devices.Message{ID: strconv.Itoa(i), Body: []byte{0xff, byte(i)}, Properties: map[string]string{"a": "<&>"}}); err != nil {
				t.Fatal(err)
			}
		}
		h.do(t, "POST", "/twins/door-6/methods", `{"methodName":"lockDoor"}`).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/done", methodJob("done", "deviceId = 'door-6'", "lockDoor")).want(t, 200)
		time.Sleep(time.Second)

		paths := []string{"/jobs/v2/done", "/statistics/devices", "/devices/new/modules", "/twins/door-2/modules/valve", "/twins/new/modules/m"}
		for _, id := range []string{"door-1", "door-2", "door-3", "door-4", "door-5", "door-6", "new", "brief"} {
			paths = append(paths, "/devices/"+id, "/twins/"+id)
		}
		before := map[string]any{}
		for _, p := range paths {
			before[p] = comparable(t, h.do(t, "GET", p, ""))
		}
		rows, _ := h.pages(t, "SELECT * FROM devices.jobs")
		queue := h.Queue("new")
		dir = end(t, h, dir)

		h = reopen(t, dir, small)
		for _, p := range paths {
			same(t, p, comparable(t, h.do(t, "GET", p, "")), before[p])
		}
		if d := cmp.Diff(queue, h.Queue("new")); d != "" || len(queue) != 4 {
			t.Errorf("the messages for a device (-before +after):\n%s", d)
		}
		again, _ := h.pages(t, "SELECT * FROM devices.jobs")
		same(t, "rows of jobs", again, rows)
		same(t, "executed", []Executed{h.Executed("door-1"), h.Executed("door-6")}, []Executed{{Patches: 2}, {Methods: 2}})
		time.Sleep(time.Minute)
		if gap := time.Until(h.Now()); gap != time.Hour {
			t.Errorf("the clock is %v ahead, want the hour that it was moved", gap)
		}
		same(t, "what was pending", at(t, h.do(t, "GET", "/twins/door-1", "").doc(t), "properties", "reported", "a"), jsonOf(t, `{"b":2,"c":[1,{"d":2}]}`))
		h.leave(t)

		// A fleet file that no longer has the devices: those written to stay.
		h = reopen(t, dir, "version: 1\ndevices:\n  - id: other\n")
		h.do(t, "GET", "/twins/door-4", "").want(t, 404)
		h.do(t, "GET", "/twins/door-6", "").want(t, 404)
		same(t, "tags", at(t, h.do(t, "GET", "/twins/door-1", "").want(t, 200).doc(t), "tags", "x"), any("<&>"))
		same(t, "Devices", h.Devices(), 1+5) // other; door-1, 2, 3, 5 and new
		h.leave(t)
	})
}

// comparable is an answer without what every answer has anew.
func comparable(t *testing.T, a answer) any {
	t.Helper()
	v := jsonOf(t, a.body)
	if m, ok := v.(map[string]any); ok {
		delete(m, "ExceptionMessage")
	}
	return v
}

func TestJobsGoOnAfterARestart(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		jobsGoOn(t, func(t *testing.T, h testHub, dir string) string {
			t.Helper()
			h.leave(t)
			return dir
		})
	})
	t.Run("killed", func(t *testing.T) {
		jobsGoOn(t, func(t *testing.T, h testHub, dir string) string {
			t.Helper()
			h.Store.NoteCounts() // a second has passed
			left := leftBehind(t, dir)
			h.leave(t)
			return left
		})
	})
}

func jobsGoOn(t *testing.T, end func(t *testing.T, h testHub, dir string) string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := reopen(t, dir, moods)
		h.do(t, "PUT", "/jobs/v2/hang", methodJob("hang", "*", "hang", `,"maxExecutionTimeInSeconds":120`)).want(t, 200)
		later := `,"startTime":"` + h.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano) + `"`
		h.do(t, "PUT", "/jobs/v2/soon", methodJob("soon", "deviceId = 'ok'", "quiet", later)).want(t, 200)
		time.Sleep(time.Second)
		dir = end(t, h, dir)

		h = reopen(t, dir, moods)
		time.Sleep(time.Second)
		same(t, "statistics", h.job(t, "hang")["deviceJobStatistics"], jsonOf(t, `{"deviceCount":3,"failedCount":1,"succeededCount":0,"runningCount":0,"pendingCount":2}`))
		same(t, "executed, and not again", h.Executed("ok").Methods, 1)
		same(t, "the other", h.job(t, "soon")["status"], any("scheduled"))
		time.Sleep(3 * time.Minute)
		same(t, "status", h.job(t, "hang")["status"], any("completed"))
		same(t, "the device that came later", h.Executed("later").Methods, 1)
		same(t, "the other", h.job(t, "soon")["status"], any("completed"))
		h.leave(t)
	})
}

func TestBrokenState(t *testing.T) {
	if _, err := New(Options{StateFile: "state"}); err == nil {
		t.Error("New took a state file without a TLS directory")
	}
	head := `{"schema":"` + stateSchema + `"}` + "\n"
	for name, text := range map[string]string{
		"empty": "", "no JSON": "{", "another schema": `{"schema":"runner/emulator-state/v9"}`, "nothing": head + "{}\n",
		"bad id":  head + `{"device":{"id":"a b","twin":{}}}`,
		"bad job": head + `{"job":{"id":"j","body":{"type":"x"}}}`, "cut": head + `{"device":{"id":"a"`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "state"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{TLSDir: dir, StateFile: filepath.Join(dir, "state")}); err == nil || !strings.Contains(err.Error(), "state") {
			t.Errorf("%s: New = %v, want an error that names the state", name, err)
		}
	}
}

// A job that was taken stays taken, whatever the switches say now.
func TestStoredJobsAreNotJudgedAgain(t *testing.T) {
	dir := t.TempDir()
	open := func(behaviour map[string]string) testHub {
		t.Helper()
		return hubOf(t, Options{TLSDir: dir, StateFile: filepath.Join(dir, "state"), Behaviour: behaviour})
	}
	h := open(map[string]string{"emptyCondition": "all"})
	for id, body := range map[string]string{
		"all":  methodJob("all", "", "x"),
		"far":  methodJob("far", "*", "x", `,"maxExecutionTimeInSeconds":172801,"startTime":"2099-01-01T00:00:00Z"`),
		"torn": methodJob("torn", "tags.a ==", "x", `,"startTime":"2099-01-01T00:00:00Z"`),
	} {
		h.do(t, "PUT", "/jobs/v2/"+id, body).want(t, 200)
	}
	h.leave(t)
	h = open(map[string]string{"jobTimeLimits": "strict", "badCondition": "sync"})
	for _, id := range []string{"all", "far", "torn"} {
		same(t, "id", h.job(t, id)["jobId"], any(id))
	}
}
