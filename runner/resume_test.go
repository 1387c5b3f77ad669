package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// crash runs the jobs until the journal holds so many bytes, and forgets the
// rest, as a machine that dies would.
func (g *rig) crash(limit int, jobs ...spec.Job) {
	g.Helper()
	g.disk.limit = limit
	g.apply(context.Background(), jobs...)
	g.disk.limit = 0
}

func crashJobs() []spec.Job {
	three := func(j *spec.Job) { j.Concurrency = 3 }
	return []spec.Job{
		method("once", three), method("again", three, idempotent), update("u", `{"floor":3}`, `{"site":"B"}`, three),
	}
}

// A run can die at any byte of its journal. The one that goes on from there
// calls no device twice, loses none, and says unanswered where nobody can know.
func TestResumeAfterACrashAnywhere(t *testing.T) {
	whole := 0
	run := func(t *testing.T, limit int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, devices(12)...)
			g.hub.pageSize = 5
			g.hub.takes[opInvoke], g.hub.takes[opPatch] = time.Second, time.Second
			g.crash(limit, crashJobs()...)
			if limit == 0 {
				whole = len(g.disk.data)
				return
			}
			res := g.apply(context.Background(), crashJobs()...)
			for _, name := range []string{"again", "u"} {
				job := res.job(t, name)
				if n := job.Outcomes[spec.OutcomeSucceeded]; n != 12 || job.Status != spec.StatusSucceeded {
					t.Errorf("died at byte %d: job %s is %s, %v", limit, name, job.Status, job.Outcomes)
				}
			}
			once := res.job(t, "once").Outcomes
			if once[spec.OutcomeSucceeded]+once[spec.OutcomeUnanswered] != 12 || once[spec.OutcomeUnanswered] > 6 {
				t.Errorf("died at byte %d: job once: %v, want 12 succeeded but for what was in flight", limit, once)
			}
			if id := res.report.Run.ID; id != "run-1" {
				t.Errorf("id of the resumed run = %q, want the one it had", id)
			}
		})
	}
	run(t, 0)
	for limit := 400; limit < whole; limit += 173 {
		run(t, limit)
	}
}

func TestResumeOfACompleteRunSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(12)...)
		first := g.apply(context.Background(), crashJobs()...)
		calls := len(g.hub.calls)
		second := g.apply(context.Background(), crashJobs()...)
		if n := len(g.hub.calls) - calls; n != 1 {
			t.Errorf("%d calls, want the preflight alone: %+v", n, g.hub.calls[calls:])
		}
		for i, job := range second.report.Jobs {
			wantOutcomes(t, job, spec.StatusSucceeded, first.report.Jobs[i].Outcomes)
		}
	})
}

// A call that was begun before the crash may have run, whether or not the
// resumed run gets to that device.
func TestResumeThatIsInterruptedKeepsTheDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		g.hub.takes[opInvoke], g.hub.takes[opPatch] = time.Hour, time.Hour
		jobs := []spec.Job{
			method("once", serial), method("again", serial, idempotent),
			method("late", serial, delay(time.Minute)), update("u", `{"floor":3}`, "", serial),
		}
		g.killAt(2*time.Minute, jobs...)
		ctx, cancel := context.WithCancelCause(context.Background())
		g.hub.on(opPreflight, "", 2, fault{hook: func() {
			timer := time.AfterFunc(time.Nanosecond, func() { cancel(interrupted()) })
			t.Cleanup(func() { timer.Stop() })
		}})
		// Nothing may be handed out before the interruption.
		for i := range jobs {
			jobs[i].Delay = 10 * time.Minute
		}
		res := g.apply(ctx, jobs...)
		for _, name := range []string{"once", "again", "late", "u"} {
			have := res.job(t, name).Outcomes
			if have[spec.OutcomeUnanswered] != 1 || have[spec.OutcomeNotReached] != 3 {
				t.Errorf("job %s: %v, want the one in flight unanswered and three not reached", name, have)
			}
		}
		again := g.apply(context.Background(), jobs...)
		for name, want := range map[string]int{"once": 3, "again": 4, "late": 3, "u": 4} {
			if have := again.job(t, name).Outcomes; have[spec.OutcomeSucceeded] != want {
				t.Errorf("job %s, resumed once more: %v, want %d succeeded", name, have, want)
			}
		}
	})
}

// killAt runs the jobs and keeps only what the journal held at a time.
func (g *rig) killAt(d time.Duration, jobs ...spec.Job) {
	g.Helper()
	var data []byte
	timer := time.AfterFunc(d, func() {
		g.disk.mu.Lock()
		defer g.disk.mu.Unlock()
		data = append(data, g.disk.data...)
	})
	defer timer.Stop()
	work, cut := context.WithCancel(context.Background())
	defer cut()
	end := time.AfterFunc(d+time.Second, cut)
	defer end.Stop()
	g.options = runner.Options{Work: work, Pinned: g.options.Pinned}
	g.apply(interruptAt(g, d+time.Second), jobs...)
	g.options = runner.Options{}
	g.disk.data = data
}

// A device that was offline was not called, nor was one that the hub refused to
// call: a run that dies while they wait for another attempt leaves no doubt.
func TestResumeAfterAKillBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		g.fail(opInvoke, "device-000000", refused(hinted(offline(), time.Hour)))
		g.fail(opInvoke, "device-000001", refused(throttled(time.Hour)))
		g.fail(opInvoke, "device-000002", acted(noAnswer()), refused(hinted(offline(), time.Hour)))
		jobs := []spec.Job{method("once", serial, whenOffline(spec.OfflineWait))}
		g.killAt(time.Minute, jobs...)
		res := g.apply(context.Background(), jobs...)
		for _, id := range []string{"device-000000", "device-000001", "device-000003"} {
			if row := res.row(t, "once", id); row.Outcome != spec.OutcomeSucceeded {
				t.Errorf("%s: %+v, want it to be called", id, row)
			}
		}
		if row := res.row(t, "once", "device-000002"); row.Outcome != spec.OutcomeUnanswered {
			t.Errorf("%+v, want it to stay in doubt", row)
		}
	})
}

func TestResumePicksByOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		g.fail(opInvoke, "device-000001", refused(kind(hub.KindInvalid)))
		g.fail(opInvoke, "device-000002", refused(offline()))
		g.fail(opInvoke, "device-000003", acted(noAnswer()))
		once := method("m", attempts(1))
		g.apply(context.Background(), once)
		g.options.Only = []spec.Outcome{spec.OutcomeFailed, spec.OutcomeOffline}
		res := g.apply(context.Background(), once)
		wantOutcomes(t, res.job(t, "m"), spec.StatusFailed, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 3, spec.OutcomeUnanswered: 1,
		})
		want := map[string]int{"device-000000": 1, "device-000001": 2, "device-000002": 2, "device-000003": 1}
		for id, n := range want {
			if got := len(g.hub.of(opInvoke, id)); got != n {
				t.Errorf("%s was called %d times in both runs, want %d", id, got, n)
			}
		}
	})
}

// Picking what is unanswered and not getting to it makes it no more certain.
func TestResumeKeepsTheDoubtOfWhatItPicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.fail(opInvoke, "device-000001", acted(noAnswer()))
		g.apply(context.Background(), method("m"))
		g.options.Only = []spec.Outcome{spec.OutcomeUnanswered}
		late := method("m", delay(time.Hour))
		res := g.apply(interruptAt(t, time.Minute), late)
		if have := res.job(t, "m").Outcomes; have[spec.OutcomeUnanswered] != 1 || have[spec.OutcomeSucceeded] != 2 {
			t.Errorf("outcomes = %v, want the one still unanswered", have)
		}
		res = g.apply(context.Background(), late)
		if have := res.job(t, "m").Outcomes; have[spec.OutcomeSucceeded] != 3 || g.hub.ran("m", device("device-000001")) != 2 {
			t.Errorf("outcomes = %v, want the one called again", have)
		}
	})
}

func TestPastIsOfThisPlan(t *testing.T) {
	header := journal.Header{Run: "r", Plan: "p", SHA256: "s", Hubs: []string{"h"}}
	tests := []struct {
		plan spec.Plan
		hubs []string
		want string
	}{
		{spec.Plan{Name: "p", SHA256: "s"}, []string{"h"}, ""},
		{spec.Plan{Name: "q", SHA256: "s"}, []string{"h"}, "the run to go on with is of another plan: it has p, this is q"},
		{spec.Plan{Name: "p", SHA256: "t"}, []string{"h"}, "the run to go on with is of another version of the plan file: it has sha256 s, this is sha256 t"},
		{spec.Plan{Name: "p", SHA256: "s"}, []string{"h", "i"}, "the run to go on with is of another hub: it has [h], this is [h i]"},
	}
	for _, tt := range tests {
		past := runner.NewPast()
		if err := past.Visit(0, header); err != nil {
			t.Fatalf("Visit: %v", err)
		}
		got := ""
		if err := past.Check(&tt.plan, tt.hubs, nil); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("Check(%s, %v) = %q, want %q", tt.plan.Name, tt.hubs, got, tt.want)
		}
	}
}

func TestPastRefusesAnUnknownOutcome(t *testing.T) {
	past := runner.NewPast()
	row := []byte(`{"deviceId":"d","outcome":"vanished","attempts":1}`)
	err := past.Visit(0, journal.Result{Job: "j", Target: journal.Target{Device: "d"}, Row: row})
	if want := `a result of d has the unknown outcome "vanished"`; err == nil || err.Error() != want {
		t.Errorf("Visit = %v, want %s", err, want)
	}
}

// Who picks outcomes has no other devices called, also not those that an
// earlier run tried and did not get to again.
func TestResumePicksNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.fail(opInvoke, "device-000000", refused(kind(hub.KindInvalid)))
		g.fail(opInvoke, "device-000001", refused(hinted(offline(), time.Hour)))
		job := method("m", serial, whenOffline(spec.OfflineWait))
		g.apply(interruptAt(t, time.Minute), job)
		g.options.Only = []spec.Outcome{spec.OutcomeFailed}
		res := g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "m"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 2, spec.OutcomeNotReached: 1})
		if row := res.row(t, "m", "device-000001"); row.Attempts != 1 || row.Error == nil || len(g.hub.of(opInvoke, "device-000001")) != 1 {
			t.Errorf("row %+v after %d calls, want the one call that was made and why it was not enough", row, len(g.hub.of(opInvoke, "device-000001")))
		}
		g.options.Only = nil
		res = g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 3})
		if row := res.row(t, "m", "device-000001"); row.Attempts != 2 || len(row.History) != 2 {
			t.Errorf("row %+v, want both attempts", row)
		}
	})
}

// Attempts of a device that was waited for when the run died are counted.
func TestResumeCountsAttemptsOfWaitingDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2)...)
		g.fail(opInvoke, "device-000000", refused(hinted(offline(), 10*time.Second)), refused(hinted(offline(), time.Hour)))
		job := method("m", whenOffline(spec.OfflineWait))
		g.killAt(time.Minute, job)
		res := g.apply(context.Background(), job)
		if s := res.report.Summary; s.Attempts != 4 || s.Retries != 2 {
			t.Errorf("%d attempts and %d retries, want 4 and 2", s.Attempts, s.Retries)
		}
		row := res.row(t, "m", "device-000000")
		if row.Attempts != 3 || row.History[len(row.History)-1].Attempt != 3 || !row.StartedAt.Equal(g.hub.begin) {
			t.Errorf("row %+v, want three attempts since the run began", row)
		}
	})
}

// A run that is told to stop leaves patches in doubt: the one that goes on with
// it reads the twins, of a device that has the patch and of one that has not.
func TestResumeLooksPatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(2)...)
		g.fail(opPatch, "device-000000", acted(kind(hub.KindCut)))
		g.fail(opPatch, "device-000001", refused(kind(hub.KindCut)))
		job := update("u", `{"floor":3}`, "", func(j *spec.Job) { j.Retry.Backoff, j.Retry.MaxBackoff = time.Hour, time.Hour })
		res := g.apply(interruptAt(t, time.Second), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusInterrupted, map[spec.Outcome]int{spec.OutcomeUnanswered: 2})
		res = g.apply(context.Background(), job)
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 2})
		for id, patches := range map[string]int{"device-000000": 1, "device-000001": 2} {
			if row := res.row(t, "u", id); row.Attempts != 2 || row.Twin == nil || len(g.hub.of(opPatch, id)) != patches {
				t.Errorf("%d patches and the row %+v, want %d patches and two attempts", len(g.hub.of(opPatch, id)), row, patches)
			}
		}
	})
}

// Who reads the report of a run that was resumed and interrupted before it got
// to a device finds what was known of that device.
func TestResumeThatIsInterruptedKeepsTheRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "called", "patched")
		g.hub.takes[opInvoke], g.hub.takes[opPatch] = time.Hour, time.Hour
		jobs := []spec.Job{method("m", named("called"), delay(time.Second)), update("u", `{"floor":3}`, "", named("patched"), delay(time.Second))}
		g.killAt(time.Minute, jobs...)
		jobs[0].Delay, jobs[1].Delay = time.Hour, time.Hour
		res := g.apply(interruptAt(t, time.Second), jobs...)
		for job, id := range map[string]string{"m": "called", "u": "patched"} {
			row := res.row(t, job, id)
			if row.Outcome != spec.OutcomeUnanswered || row.Attempts != 1 || row.Error == nil || !row.StartedAt.Equal(g.hub.begin.Add(time.Second)) {
				t.Errorf("job %s: %+v, want its one attempt, unanswered", job, row)
			}
			if job == "u" && (row.Twin == nil || string(row.Twin.Patch.Desired) != `{"floor":3}`) {
				t.Errorf("job %s: %+v, want the patch that may have been made", job, row)
			}
		}
	})
}

// A job that had ended before the run went on keeps its times and latencies.
func TestResumeKeepsTheTimesOfEndedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(20)...)
		g.hub.takes[opInvoke] = 700 * time.Millisecond
		jobs := []spec.Job{method("done", delay(10*time.Second)), method("cut", serial), method("then", needs("done", spec.NeedSucceeded), serial)}
		first := g.apply(interruptAt(t, 13*time.Second), jobs...)
		<-time.NewTimer(time.Hour).C
		second := g.apply(context.Background(), jobs...)
		was, is := first.job(t, "done"), second.job(t, "done")
		was.Devices, is.Devices = nil, nil
		if diff := cmp.Diff(was, is, sameTime()); diff != "" {
			t.Errorf("the job that had ended (-first +second):\n%s", diff)
		}
		if is.LatencyMs.P50 < 690 || is.RatePerSecond == 0 {
			t.Errorf("latency %+v, rate %v, want those of the first run", is.LatencyMs, is.RatePerSecond)
		}
		for _, name := range []string{"cut", "then"} {
			was, is := first.job(t, name), second.job(t, name)
			if !is.StartedAt.Truncate(time.Millisecond).Equal(was.StartedAt.Time) || is.EndedAt.Sub(was.EndedAt.Time) < time.Hour || is.LatencyMs.P50 < 690 {
				t.Errorf("job %s started %v and ended %v with latency %+v; it first started %v", name, is.StartedAt, is.EndedAt, is.LatencyMs, was.StartedAt)
			}
		}
	})
}

// What a device answers need not be UTF-8; a report is.
func TestAnswersThatAreNotUTF8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "d")
		g.hub.answer = func(call) hub.Answer { return hub.Answer{Status: 200, Payload: []byte("\"a\xff\xfeb\"")} }
		res := g.apply(context.Background(), method("m"))
		if row := res.row(t, "m", "d"); !utf8.Valid(g.text) || string(row.Method.Payload) != "\"a\uFFFDb\"" {
			t.Errorf("payload %q, report in UTF-8: %t", row.Method.Payload, utf8.Valid(g.text))
		}
	})
}
