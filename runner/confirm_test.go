package runner_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// confirm lets a job wait for what devices report.
func confirm(c spec.Confirm) func(*spec.Job) {
	return func(j *spec.Job) { j.Confirm = &c }
}

// faithful devices report what is desired of them, after a time of their own.
func faithful(after func(id string) time.Duration) func(hub.Target, json.RawMessage) (json.RawMessage, time.Duration) {
	return func(t hub.Target, desired json.RawMessage) (json.RawMessage, time.Duration) {
		d := after(t.DeviceID)
		if d < 0 {
			return nil, 0
		}
		return desired, d
	}
}

func after(d time.Duration) func(string) time.Duration {
	return func(string) time.Duration { return d }
}

func TestConfirmWaitsForReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(250)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(after(90 * time.Second))
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: 10 * time.Minute})))
		job := res.job(t, "u")
		wantOutcomes(t, job, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 250})
		for _, row := range job.Devices {
			if row.ConfirmedAt == nil || row.ConfirmedAt.Sub(row.Confirm.AcceptedAt.Time) != 90*time.Second {
				t.Fatalf("row of %s: confirmed at %v, accepted at %v", row.DeviceID, row.ConfirmedAt, row.Confirm)
			}
			if row.Attempts != 1 || row.Twin.ETag == "" || row.EndedAt.Before(row.ConfirmedAt.Time) {
				t.Fatalf("row of %s: %+v", row.DeviceID, row)
			}
		}
		if a := job.TimeToApplyMs; a == nil || a.P50 < 89_000 || a.Max > 91_000 {
			t.Errorf("time to apply %+v, want 90 s", a)
		}
		// Sweeps of three queries, in growing intervals, and no reads.
		if reads, queries := len(g.hub.of(opRead, "")), len(g.hub.of(opQuery, "")); reads != 0 || queries > 70 {
			t.Errorf("%d reads and %d queries", reads, queries)
		}
		if n := len(g.hub.of(opPatch, "")); n != 250 {
			t.Errorf("%d patches, want 250", n)
		}
	})
}

// A device may report before the answer to the patch is on its way.
func TestConfirmOfADeviceThatIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.hub.matchIDs = true
		g.hub.quick = true
		g.hub.follow = faithful(after(0))
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: time.Hour})))
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 3})
		if took := res.job(t, "u").EndedAt.Sub(g.hub.begin); took > time.Second {
			t.Errorf("the job took %v", took)
		}
	})
}

func TestConfirmHasItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(8)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(func(id string) time.Duration {
			switch {
			case id < "device-000003":
				return time.Minute
			case id < "device-000005":
				return 10*time.Minute + time.Second
			}
			return -1
		})
		g.hub.report(device("device-000007"), json.RawMessage(`{"a":1}`)) // before the patch
		time.Sleep(time.Second)
		began := time.Now()
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: 10 * time.Minute})))
		job := res.job(t, "u")
		wantOutcomes(t, job, spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 3, spec.OutcomeUnconfirmed: 5})
		if took := job.EndedAt.Sub(began); took < 10*time.Minute || took > 10*time.Minute+time.Second {
			t.Errorf("the job took %v, want 10m", took)
		}
		late, silent, old := res.row(t, "u", "device-000003"), res.row(t, "u", "device-000006"), res.row(t, "u", "device-000007")
		for row, want := range map[*spec.Row]string{
			&late: "not reported within 10m0s: a is not reported", &silent: "not reported within 10m0s: a is not reported",
			&old: "not reported within 10m0s: a was reported before the change, not since",
		} {
			if row.Error == nil || row.Error.Kind != "unconfirmed" || row.Error.Message != want {
				t.Errorf("error of %s: %+v, want %q", row.DeviceID, row.Error, want)
			}
		}
		if have := string(old.Confirm.Last); have != `{"a":1}` {
			t.Errorf("last seen %s", have)
		}
	})
}

// The query index may be behind by minutes: the last word is the twin's own.
func TestConfirmDoesNotTrustTheIndexToSayNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(after(time.Minute))
		g.hub.freezeIndex()
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: 5 * time.Minute})))
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 3})
		if n := len(g.hub.of(opRead, "")); n != 3 {
			t.Errorf("%d reads, want one each before the last word", n)
		}
	})
}

// Who is killed while it waits goes on waiting; nothing is patched again.
func TestConfirmGoesOnInAResumedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(6)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(func(id string) time.Duration {
			if id == "device-000005" {
				return -1
			}
			return 8 * time.Minute
		})
		job := update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: 10 * time.Minute}))
		res := g.apply(interruptAt(t, time.Minute), job)
		wantInterrupted(t, res)
		wantOutcomes(t, res.job(t, "u"), spec.StatusInterrupted, map[spec.Outcome]int{spec.OutcomeUnconfirmed: 6})
		if e := res.row(t, "u", "device-000000").Error; e == nil || !strings.Contains(e.Message, "ended while it waited") {
			t.Errorf("error %+v", e)
		}
		time.Sleep(2 * time.Minute)
		wantInterrupted(t, g.apply(interruptAt(t, time.Minute), job))
		res = g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 5, spec.OutcomeUnconfirmed: 1})
		if n := len(g.hub.of(opPatch, "")); n != 6 {
			t.Errorf("%d patches, want 6", n)
		}
		if at := res.row(t, "u", "device-000005").EndedAt.Sub(g.hub.begin); at < 10*time.Minute || at > 10*time.Minute+time.Second {
			t.Errorf("given up after %v, want 10m", at)
		}
		if a := res.job(t, "u"); a.Attempts != 6 || a.TimeToApplyMs == nil || a.TimeToApplyMs.Max < 470_000 {
			t.Errorf("%d attempts, time to apply %+v", a.Attempts, a.TimeToApplyMs)
		}
		// What ended stays so, and can be done again.
		res = g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 5, spec.OutcomeUnconfirmed: 1})
		g.options.Only = []spec.Outcome{spec.OutcomeUnconfirmed}
		go g.hub.report(device("device-000005"), json.RawMessage(`{"a":1}`))
		res = g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 6})
		if n := len(g.hub.of(opPatch, "")); n != 6 {
			t.Errorf("%d patches, want 6", n)
		}
	})
}

// A report that came while nobody looked counts, if it came in time.
func TestReportsCountThatCameWhileNobodyLooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(func(id string) time.Duration {
			if id == "device-000000" {
				return 5 * time.Minute
			}
			return 15 * time.Minute
		})
		job := update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: 10 * time.Minute}))
		g.apply(interruptAt(t, time.Minute), job)
		time.Sleep(time.Hour)
		res := g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeUnconfirmed: 1})
		if e := res.row(t, "u", "device-000001").Error; e == nil || !strings.Contains(e.Message, "too late") {
			t.Errorf("error %+v", e)
		}
	})
}

// Gates judge what the devices have reported.
func TestGatesWaitForConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(after(-1))
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: time.Minute}), inWaves(0, "2", "100%"),
			stopWhen(spec.StopWhen{Failed: portion("1")})))
		wantWaves(t, res.job(t, "u"), "2 2 stopped unconfirmed=2", "100% 8 notStarted notReached=8")
		if n := len(g.hub.of(opPatch, "")); n != 2 {
			t.Errorf("%d patches, want 2", n)
		}

		g = newRig(t, devices(10)...)
		g.hub.matchIDs = true
		g.hub.follow = faithful(after(30 * time.Second))
		res = g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: time.Minute}), inWaves(0, "2", "100%")))
		wantWaves(t, res.job(t, "u"), "2 2 passed succeeded=2", "100% 8 passed succeeded=8")
		starts := g.hub.starts(opPatch, "")
		slices.Sort(starts)
		if second := starts[2] - starts[0]; second < 30*time.Second {
			t.Errorf("the second wave began %v after the first", second)
		}
	})
}

// A query that was asked of one wave is answered when the next one waits: what it
// shows is of nobody there.
func TestLateAnswersAreOfTheWaveThatAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.hub.matchIDs = true
		g.hub.takes[opQuery] = 20 * time.Second
		follows := 0
		g.hub.follow = func(_ hub.Target, desired json.RawMessage) (json.RawMessage, time.Duration) {
			if follows++; follows <= 2 {
				return desired, 500 * time.Millisecond
			}
			return nil, 0
		}
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: 12 * time.Second}), inWaves(0, "2", "100%")))
		wantWaves(t, res.job(t, "u"), "2 2 passed succeeded=2", "100% 1 passed unconfirmed=1")
	})
}

func TestConfirmOfAMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "quick", "same", "silent", "no")
		g.hub.matchIDs = true
		for _, id := range []string{"quick", "same", "silent"} {
			g.hub.report(device(id), json.RawMessage(`{"bootTime":"old","state":"up"}`))
		}
		time.Sleep(time.Second)
		g.hub.follow = func(t hub.Target, _ json.RawMessage) (json.RawMessage, time.Duration) {
			switch t.DeviceID {
			case "quick":
				return json.RawMessage(`{"bootTime":"new","state":"up"}`), 20 * time.Second
			case "same":
				return json.RawMessage(`{"bootTime":"old","state":"up"}`), 20 * time.Second
			}
			return nil, 0
		}
		g.hub.answer = func(c call) hub.Answer {
			if c.target.DeviceID == "no" {
				return hub.Answer{Status: 409}
			}
			return hub.Answer{Status: 200}
		}
		res := g.apply(context.Background(), method("reboot", confirm(spec.Confirm{
			Within: time.Minute, Changed: []string{"bootTime"}, Reported: json.RawMessage(`{"state":"up"}`),
		})))
		wantOutcomes(t, res.job(t, "reboot"), spec.StatusFailed, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 1, spec.OutcomeUnconfirmed: 2, spec.OutcomeRejected: 1,
		})
		row := res.row(t, "reboot", "quick")
		if row.Outcome != spec.OutcomeSucceeded || row.Method == nil || row.Method.Status != 200 || row.ConfirmedAt == nil {
			t.Errorf("row %+v", row)
		}
		if e := res.row(t, "reboot", "same").Error; e == nil || !strings.Contains(e.Message, `bootTime is still reported as "old"`) {
			t.Errorf("error %+v", e)
		}
		if n := len(g.hub.of(opInvoke, "")); n != 4 {
			t.Errorf("%d calls, want 4", n)
		}
	})
}

// A twin that is as wanted already is patched by nobody, and waited for if the
// device does not show it.
func TestConfirmOfAnUnchangedTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "done", "behind", "never")
		g.hub.matchIDs = true
		for _, id := range []string{"done", "behind", "never"} {
			g.hub.set(id, `{"a":1}`, `{}`)
		}
		g.hub.report(device("done"), json.RawMessage(`{"a":1}`))
		g.hub.report(device("behind"), json.RawMessage(`{"a":0}`))
		time.AfterFunc(30*time.Second, func() { g.hub.report(device("behind"), json.RawMessage(`{"a":1}`)) })
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: time.Minute})))
		wantOutcomes(t, res.job(t, "u"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeUnchanged: 2, spec.OutcomeUnconfirmed: 1})
		if row := res.row(t, "u", "behind"); row.Outcome != spec.OutcomeUnchanged || row.ConfirmedAt == nil {
			t.Errorf("row %+v", row)
		}
		if n := len(g.hub.of(opPatch, "")); n != 0 {
			t.Errorf("%d patches, want none", n)
		}
	})
}

// The answer to a patch is lost, and the device has reported by the time that the
// twin is read again.
func TestConfirmOfAPatchInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.matchIDs = true
		g.hub.follow = faithful(after(time.Second))
		g.fail(opPatch, "door-1", fault{err: kind(hub.KindCut), acts: true, takes: 5 * time.Second})
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: time.Minute})))
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
	})
}

// Values that differ by device are checked before anything is sent.
func TestConfirmOfWhatDiffersByDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a", "b")
		g.hub.matchIDs = true
		g.hub.set("a", `{}`, `{"site":"x"}`)
		g.hub.follow = func(t hub.Target, _ json.RawMessage) (json.RawMessage, time.Duration) {
			return json.RawMessage(`{"site":"x"}`), time.Second
		}
		job := templated(t, `{name: u, type: updateTwin, target: {all: true}, desired: {a: 1}, confirm: {reported: {site: "${device.tags.site}"}, within: 1m}}`)
		res := g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeFailed: 1})
		if n := len(g.hub.of(opPatch, "b")); n != 0 {
			t.Errorf("%d patches of a device without the tag", n)
		}
	})
}

func TestConfirmOfADeviceThatIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.matchIDs = true
		g.hub.on(opRead, "door-1", 0, fault{err: notFound()})
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", confirm(spec.Confirm{Within: time.Minute})))
		wantOutcomes(t, res.job(t, "u"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeUnconfirmed: 1})
		if e := res.row(t, "u", "door-1").Error; e == nil || !strings.Contains(e.Message, "could not be read") {
			t.Errorf("error %+v", e)
		}
	})
}
