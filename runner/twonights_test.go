package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/undo"
	"iothub-runner/spec"
)

// A setting goes to sixty devices in rings, at night only: a canary, a window that
// closes in the second wave, a kill there in the second night, and devices in the last
// wave that do not do what they are told. The rollout stops, and is undone.
// The rig holds every row of every run against what the hub executed.
func TestTwoNights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(60)...)
		g.hub.matchIDs = true
		g.hub.match["tags.ring = 0"] = func(d hub.Target) bool { return d.DeviceID < "device-000003" }
		g.hub.match["tags.ring = 1"] = func(d hub.Target) bool { return d.DeviceID < "device-000020" }
		g.hub.follow = faithful(func(id string) time.Duration {
			if id >= "device-000050" {
				return -1 // broken
			}
			return 30 * time.Second
		})
		g.hub.takes[opPatch] = 4 * time.Minute
		job := update("setting", `{"interval":30,"night":{"led":false}}`, "", serial, confirm(spec.Confirm{Within: 10 * time.Minute}),
			window(2*time.Hour, 3*time.Hour+30*time.Minute), inWaves(20*time.Minute, "tags.ring = 0", "tags.ring = 1", "100%"),
			stopWhen(spec.StopWhen{Failed: portion("2")}))

		// The first night ends in the second wave.
		first := g.apply(context.Background(), job).job(t, "setting")
		wantWaves(t, first, "tags.ring = 0 3 passed succeeded=3",
			"tags.ring = 1 17 unfinished succeeded=13 unconfirmed=2 notReached=2", "100% 40 notStarted notReached=40")
		if !strings.HasPrefix(first.Reason, "the window closed at 2000-01-01T03:30:00Z; it opens next at 2000-01-02T02:00:00Z; 42 of 60") {
			t.Errorf("reason %q", first.Reason)
		}

		// In the second night it is killed when a patch has arrived, and before its
		// answer has.
		killed := g.killAtFirst(opPatch, job)
		if killed == "" {
			t.Fatal("nothing was killed")
		}
		second := g.apply(context.Background(), job)
		wantWaves(t, second.job(t, "setting"), "tags.ring = 0 3 passed succeeded=3", "tags.ring = 1 17 passed succeeded=17",
			"100% 40 stopped "+outcomesText(second.job(t, "setting").Waves[2]))
		last := second.job(t, "setting")
		if !strings.HasPrefix(last.Reason, "stopWhen.failed is 2: 2 of ") || last.Outcomes[spec.OutcomeNotReached] == 0 {
			t.Errorf("reason %q, outcomes %v", last.Reason, last.Outcomes)
		}
		if row := second.row(t, "setting", killed); row.Outcome != spec.OutcomeSucceeded || g.hub.patched(device(killed)) != 1 {
			t.Errorf("%s is %s and was patched %d times", killed, row.Outcome, g.hub.patched(device(killed)))
		}

		g.putBack(t, last.Outcomes[spec.OutcomeSucceeded]+last.Outcomes[spec.OutcomeUnconfirmed])
	})
}

func outcomesText(w spec.WaveReport) string {
	return strings.TrimPrefix(waveLines(spec.JobReport{Waves: []spec.WaveReport{w}})[0], "100% 40 stopped ")
}

// killAtFirst goes on with a run until its first patch or call has arrived at the hub, and
// leaves the journal as it was at that instant. It returns whose that was.
func (g *rig) killAtFirst(op operation, job spec.Job) (id string) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var left []byte
	g.hub.chaos = func(c call) (fault, bool) {
		if c.op != op || id != "" {
			return fault{}, false
		}
		id = c.target.DeviceID
		return fault{err: kind(hub.KindCut), acts: true, hook: func() {
			g.disk.mu.Lock()
			left = bytes.Clone(g.disk.data)
			g.disk.mu.Unlock()
			cancel(interrupted())
		}}, true
	}
	g.apply(ctx, job)
	g.hub.chaos = nil
	g.disk.mu.Lock()
	defer g.disk.mu.Unlock()
	g.disk.data, g.disk.parsed = left, 0
	clear(g.disk.intents)
	g.disk.parseLocked()
	return id
}

// putBack undoes what the journal says, and looks whether the twins are as before.
func (g *rig) putBack(t *testing.T, changed int) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.ndjson")
	if err := os.WriteFile(path, g.disk.data, 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := undo.Read(path, undo.Options{})
	if err != nil || u.Twins() != changed || u.InDoubt != 0 {
		t.Fatalf("Read: %v; %d twins to restore and %d in doubt, want %d and 0", err, u.Twins(), u.InDoubt, changed)
	}
	var text, rows bytes.Buffer
	if err = u.WriteRows(&rows); err == nil {
		err = u.WritePlan(&text, "rows.ndjson")
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "rows.ndjson"), rows.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	plan, found := planfile.Parse("undo.yaml", text.Bytes(), planfile.Options{FS: os.DirFS(dir)})
	if plan == nil {
		t.Fatalf("Parse:\n%s\n%s", found, text.Bytes())
	}
	back := newRig(t, devices(60)...)
	back.hub.matchIDs, back.hub.twins = true, g.hub.twins
	res := back.apply(context.Background(), plan.Jobs[0])
	wantOutcomes(t, res.job(t, "undo"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: changed})
	for id, twin := range back.hub.twins {
		var desired map[string]json.RawMessage
		if err := json.Unmarshal(twin.desired, &desired); err != nil || desired["interval"] != nil || desired["night"] != nil {
			t.Errorf("%s has %s (%v)", id, twin.desired, err)
		}
	}
}
