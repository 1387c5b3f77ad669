package runner_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

func TestJournalTellsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2")
		g.hub.set("door-1", `{"floor":1}`, `{}`)
		g.apply(context.Background(), update("u", `{"floor":3}`, "", serial), method("m", serial, named("door-2"), delay(time.Second)))
		var have []string
		for _, rec := range g.disk.records(t) {
			have = append(have, tell(rec))
		}
		want := []string{
			"run run-1",
			"u started", "u targets 2",
			"u listed",
			"u door-1 attempt 1: {\"desired\":{\"floor\":1}} -> {\"desired\":{\"floor\":3}}", "u door-1 ended",
			"u door-2 attempt 1: {\"desired\":{\"floor\":null}} -> {\"desired\":{\"floor\":3}}", "u door-2 ended",
			"u ended succeeded",
			"m started", "m targets 1", "m listed",
			"m door-2 attempt 1:  -> ", "m door-2 ended", "m ended succeeded", ` summary {"status":"succeeded","targets":3,"outcomes":{"succeeded":3}}`, " ended finished",
		}
		if diff := cmp.Diff(sortedListing(want), sortedListing(have)); diff != "" {
			t.Errorf("journal (-want +have):\n%s", diff)
		}
	})
}

// sortedListing takes the lines out that end a listing: they come when they may.
func sortedListing(lines []string) []string {
	var kept []string
	for _, l := range lines {
		if l != "u listed" && l != "m listed" {
			kept = append(kept, l)
		}
	}
	return kept
}

func tell(rec journal.Record) string {
	switch r := rec.(type) {
	case journal.Header:
		return "run " + r.Run
	case journal.Targets:
		return fmt.Sprintf("%s targets %d", r.Job, len(r.Targets))
	case journal.Intent:
		return fmt.Sprintf("%s %s attempt %d: %s -> %s", r.Job, r.Target.Device, r.Attempt, r.Before, r.Patch)
	case journal.Result:
		return fmt.Sprintf("%s %s ended", r.Job, r.Target.Device)
	case journal.Mark:
		if r.Detail != "" {
			return fmt.Sprintf("%s %s %s", r.Job, r.Event, r.Detail)
		}
		return fmt.Sprintf("%s %s", r.Job, r.Event)
	}
	return fmt.Sprintf("%T", rec)
}

// A journal can break at any byte. Nothing is sent that it does not hold, what
// was in flight keeps its outcome, and there is a report.
func TestJournalBreaks(t *testing.T) {
	whole := 0
	jobs := func() []spec.Job {
		return []spec.Job{
			method("m", func(j *spec.Job) { j.Concurrency = 3 }),
			update("u", `{"floor":3}`, "", func(j *spec.Job) { j.Concurrency = 2 }),
		}
	}
	run := func(t *testing.T, limit int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, devices(20)...)
			g.hub.takes[opInvoke], g.hub.takes[opPatch] = time.Second, time.Second
			g.disk.limit = limit
			res := g.apply(context.Background(), jobs()...)
			if limit == 0 {
				whole = len(g.disk.data)
				return
			}
			_, broken := errors.AsType[*runner.JournalError](res.run.Cause())
			if !broken || !errors.Is(res.run.Cause(), errDiskFull) {
				t.Errorf("journal full at byte %d: Cause() = %v, want the disk's error", limit, res.run.Cause())
			}
			if res.run.Status() == spec.StatusSucceeded {
				t.Errorf("journal full at byte %d: the run is succeeded", limit)
			}
			if took := res.report.Run.EndedAt.Sub(g.hub.begin); took > 20*time.Second {
				t.Errorf("journal full at byte %d: the run took %v", limit, took)
			}
		})
	}
	run(t, 0)
	for limit := 400; limit < whole; limit += 131 {
		run(t, limit)
	}
}

// The whole fleet is waited for when the journal breaks under another job.
func TestJournalBreaksWhileAJobWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(20)...)
		g.disk.limit = 3000
		g.hub.on(opPatch, "", 0, refused(hinted(offline(), time.Hour)))
		res := g.apply(context.Background(),
			update("u", `{"floor":3}`, "", whenOffline(spec.OfflineWait), named("device-000001")),
			method("m", delay(time.Minute)))
		if took := res.report.Run.EndedAt.Sub(g.hub.begin); took != time.Minute {
			t.Errorf("the run took %v, want 1m: no job waits for what it could not record", took)
		}
	})
}

func TestObserverIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		told := false
		g.hub.on(opInvoke, "door-1", 1, fault{takes: time.Second, hook: func() {
			if told { // by the first job
				return
			}
			told = true
			p := g.observer.run.Progress()
			if p[0].InFlight != 1 || p[0].Done != 0 || p[0].Listed != 1 || !p[0].Started || p[0].Ended || p[1].Started {
				t.Errorf("progress during the first call = %+v", p)
			}
		}})
		g.apply(context.Background(), method("first"), method("second", delay(3*time.Second)))
		want := []string{"run started", "first started", "first ended", "second started", "second ended"}
		if diff := cmp.Diff(want, g.observer.events); diff != "" {
			t.Errorf("observer was told (-want +have):\n%s", diff)
		}
	})
}

func TestSeveralHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2")
		east := newFakeHub(device("door-2"), device("door-3"))
		east.on(opInvoke, "door-2", 1, refused(throttled(10*time.Second)))
		g.options.Hubs = []target.NamedHub{{Name: "west", Hub: g.hub}, {Name: "east", Hub: east}}
		res := g.apply(context.Background(), method("m", serial))
		var have []string
		for _, row := range res.job(t, "m").Devices {
			have = append(have, row.DeviceID+" "+row.Hub+" "+string(row.Outcome))
		}
		want := []string{"door-1 west succeeded", "door-2 west succeeded", "door-2 east succeeded", "door-3 east succeeded"}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("rows (-want +have):\n%s", diff)
		}
		if len(g.hub.of(opInvoke, "")) != 2 || len(east.of(opInvoke, "")) != 3 {
			t.Errorf("%d calls in the west and %d in the east, want 2 and 3", len(g.hub.of(opInvoke, "")), len(east.of(opInvoke, "")))
		}
		if res.row(t, "m", "door-1").Outcome != spec.OutcomeSucceeded {
			t.Error("door-1 did not succeed")
		}
	})
}
