package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// checkGolden compares with a file. Nothing needs to be normalised: in a bubble
// the clock is exact, and the tests choose the ids.
func checkGolden(tb testing.TB, path string, have []byte) {
	tb.Helper()
	if *updateGolden {
		if err := os.WriteFile(path, have, 0o644); err != nil {
			tb.Fatalf("update %s: %v", path, err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("golden file: %v", err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		tb.Errorf("%s (-want +have):\n%s", path, diff)
	}
}

// One run with every shape that a row can have.
func TestReportIsAsPromised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2", "door-3", "door-4", "door-5", "door-6", "door-7", "door-1/lock")
		g.hub.takes[opInvoke], g.hub.takes[opPatch] = 31*time.Millisecond, 12*time.Millisecond
		g.hub.set("door-1", `{"building":42,"floor":3,"$version":4}`, `{"site":"A"}`)
		g.hub.set("door-2", `{"building":43,"floor":3,"$version":4}`, `{"moved":true}`)
		g.hub.on(opInvoke, "door-2", 0, refused(offline()))
		g.hub.on(opInvoke, "door-3", 0, acted(noAnswer()))
		g.hub.on(opInvoke, "door-7", 1, refused(throttled(10*time.Second)))
		g.hub.on(opInvoke, "door-6", 0, refused(notFound()))
		g.hub.on(opPatch, "door-3", 1, acted(kind(hub.KindCut)))
		g.hub.answer = func(c call) hub.Answer {
			if c.target.DeviceID == "door-5" {
				return hub.Answer{Status: 418, Payload: json.RawMessage(`"I'm a <teapot>"`)}
			}
			return hub.Answer{Status: 200, Payload: json.RawMessage(`{"Response":"lockDoor called successfully"}`)}
		}
		g.apply(interruptAt(t, 40*time.Second),
			update("move", `{"building":43,"floor":3}`, `{"moved":true}`, serial, delay(10*time.Second), named("door-3", "door-2", "door-1")),
			method("lockDoor", serial, delay(20*time.Second), attempts(2)),
			method("modules", aimed(func(x *spec.Target) { x.Source, x.Text = spec.SourceModules, "SELECT * FROM devices.modules" })),
			method("later", delay(time.Hour), named("door-9")),
		)
		checkGolden(t, "testdata/report.golden.json", g.text)
	})
}

func TestReportOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.apply(context.Background(), method("m", aimed(func(x *spec.Target) {
			x.Exclude, x.AllowEmpty = idList([]string{"door-1"}), true
		})))
		if !bytes.Contains(g.text, []byte(`"devices": []`)) {
			t.Errorf("report of a job without targets:\n%s", g.text)
		}
	})
}

// stuck is a report file on a disk that is full.
type stuck struct{ room int }

// Write takes what there is room for.
func (s *stuck) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.room -= n
	if n < len(p) {
		return n, errDiskFull
	}
	return n, nil
}

func TestReportThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2000)...)
		res := g.apply(context.Background(), method("m"))
		for _, room := range []int{0, 100, 70_000, len(g.text) - 1} {
			if err := res.run.WriteReport(&stuck{room: room}, 7); !errors.Is(err, errDiskFull) {
				t.Errorf("WriteReport with room for %d bytes: %v, want the disk's error", room, err)
			}
		}
		var again bytes.Buffer
		if err := res.run.WriteReport(&again, 7); err != nil || !bytes.Equal(again.Bytes(), g.text) {
			t.Errorf("the report written a second time differs, or fails: %v", err)
		}
	})
}
