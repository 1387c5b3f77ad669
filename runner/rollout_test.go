package runner_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// sizes are waves as a plan has them: "1", "10%".
func sizes(texts ...string) []spec.Wave {
	waves := make([]spec.Wave, len(texts))
	for i, text := range texts {
		number, relative := strings.CutSuffix(text, "%")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			waves[i].Query = text
		case relative:
			waves[i].Size = spec.Share{Percent: float64(n), Relative: true}
		default:
			waves[i].Size = spec.Share{Count: n}
		}
	}
	return waves
}

// inWaves lets a job go through its target in waves.
func inWaves(pause time.Duration, texts ...string) func(*spec.Job) {
	return func(j *spec.Job) { j.Rollout = &spec.Rollout{Waves: sizes(texts...), Pause: pause} }
}

func stopWhen(s spec.StopWhen) func(*spec.Job) {
	return func(j *spec.Job) { j.Rollout.StopWhen = s }
}

func portion(text string) *spec.Share { return &sizes(text)[0].Size }

// waveLines are the waves of a report, in short.
func waveLines(j spec.JobReport) []string {
	lines := []string{}
	for _, w := range j.Waves {
		parts := []string{w.Wave, fmt.Sprint(w.Targets), string(w.Verdict)}
		for _, o := range spec.Outcomes() {
			if n := w.Outcomes[o]; n > 0 {
				parts = append(parts, fmt.Sprintf("%s=%d", o, n))
			}
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return lines
}

func wantWaves(tb testing.TB, j spec.JobReport, want ...string) {
	tb.Helper()
	if diff := cmp.Diff(want, waveLines(j)); diff != "" {
		tb.Errorf("waves of job %s (-want +have):\n%s", j.Name, diff)
	}
}

// firsts are the targets in the order in which a method was first called on them.
func (h *fakeHub) firsts(op operation) []string {
	var ids []string
	for _, c := range h.of(op, "") {
		if id := c.target.String(); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestWavesComeOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(20)...)
		g.hub.takes[opInvoke] = time.Second
		res := g.apply(context.Background(), method("m", inWaves(time.Minute, "1", "5", "50%", "100%")))
		job := res.job(t, "m")
		wantOutcomes(t, job, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 20})
		wantWaves(t, job, "1 1 passed succeeded=1", "5 4 passed succeeded=4", "50% 5 passed succeeded=5", "100% 10 passed succeeded=10")
		starts := g.hub.starts(opInvoke, "")
		slices.Sort(starts)
		for wave, span := range [][2]int{{0, 1}, {1, 5}, {5, 10}, {10, 20}} {
			want := time.Duration(wave) * 61 * time.Second
			for i, at := range starts[span[0]:span[1]] {
				if at < want || at > want+time.Second {
					t.Errorf("call %d of wave %d began after %v, want %v", i, wave+1, at, want)
				}
			}
		}
		for i, w := range job.Waves {
			if w.StartedAt == nil || w.EndedAt == nil || w.StartedAt.Sub(g.hub.begin) != time.Duration(i)*61*time.Second {
				t.Errorf("wave %d: started %v, ended %v", i+1, w.StartedAt, w.EndedAt)
			}
		}
	})
}

// The same plan has the same canaries, whatever the order in which a hub lists
// its devices.
func TestWavesAreStable(t *testing.T) {
	order := func(ids []string) []string {
		var first []string
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, ids...)
			g.apply(context.Background(), method("m", serial, inWaves(0, "3", "100%")))
			first = g.hub.firsts(opInvoke)
		})
		return first
	}
	ids := devices(50)
	once := order(ids)
	slices.Reverse(ids)
	if diff := cmp.Diff(once, order(ids)); diff != "" {
		t.Errorf("the order of a rollout depends on the listing (-forwards +backwards):\n%s", diff)
	}
	// What the hash promises to other programs that speak of the same waves.
	if want := []string{"device-000018", "device-000005", "device-000023"}; !slices.Equal(once[:3], want) {
		t.Errorf("the first wave is %v, want %v", once[:3], want)
	}
}

func TestRolloutStops(t *testing.T) {
	for _, test := range []struct {
		name    string
		rule    spec.StopWhen
		fails   int // of the calls, the first so many
		waves   []string
		reason  string
		stopped bool
	}{
		{"share", spec.StopWhen{Failed: portion("50%")}, 1, []string{"2 2 stopped rejected=1 notReached=1", "100% 8 notStarted notReached=8"}, "stopWhen.failed is 50%: 1 of 1 finished devices failed", true},
		{"count", spec.StopWhen{Failed: portion("2")}, 2, []string{"2 2 stopped rejected=2", "100% 8 notStarted notReached=8"}, "stopWhen.failed is 2: 2 of 2 finished devices failed", true},
		{"not yet", spec.StopWhen{Failed: portion("50%"), MinDone: 3}, 2, []string{"2 2 passed rejected=2", "100% 8 stopped succeeded=1 notReached=7"}, "stopWhen.failed is 50%: 2 of 3 finished devices failed", true},
		{"below", spec.StopWhen{Failed: portion("3")}, 2, []string{"2 2 passed rejected=2", "100% 8 passed succeeded=8"}, "", false},
		{"offline apart", spec.StopWhen{Offline: portion("1")}, 2, []string{"2 2 passed rejected=2", "100% 8 passed succeeded=8"}, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(10)...)
				calls := 0
				g.hub.answer = func(call) hub.Answer {
					if calls++; calls <= test.fails {
						return hub.Answer{Status: 500}
					}
					return hub.Answer{Status: 200}
				}
				res := g.apply(context.Background(), method("m", serial, inWaves(0, "2", "100%"), stopWhen(test.rule)))
				job := res.job(t, "m")
				wantWaves(t, job, test.waves...)
				if (job.Status == spec.StatusStopped) != test.stopped || test.stopped && job.Reason != test.reason {
					t.Errorf("status %s because %q, want %q", job.Status, job.Reason, test.reason)
				}
			})
		})
	}
}

// In flight ends, nothing new begins, and every target has its row.
func TestRolloutStopsWithCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(40)...)
		g.hub.takes[opInvoke] = 3 * time.Second
		g.fail(opInvoke, "", fault{err: noAnswer(), acts: true, takes: -2 * time.Second})
		res := g.apply(context.Background(), method("m", inWaves(0, "100%"), stopWhen(spec.StopWhen{Failed: portion("1")})))
		job := res.job(t, "m")
		n := len(g.hub.of(opInvoke, ""))
		if n < 8 || n > 9 {
			t.Errorf("%d calls, want those in flight and no more", n)
		}
		done := job.Outcomes[spec.OutcomeSucceeded] + job.Outcomes[spec.OutcomeUnanswered]
		if done != n || job.Outcomes[spec.OutcomeNotReached] != 40-n {
			t.Errorf("outcomes %v of %d calls", job.Outcomes, n)
		}
	})
}

// A run that was stopped goes on once the broken devices are repaired.
func TestStoppedRolloutGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		bad := map[string]bool{}
		g.hub.answer = func(c call) hub.Answer {
			if len(bad) == 0 {
				bad[c.target.DeviceID] = true
			}
			if bad[c.target.DeviceID] {
				return hub.Answer{Status: 500}
			}
			return hub.Answer{Status: 200}
		}
		job := method("m", inWaves(time.Minute, "1", "100%"), stopWhen(spec.StopWhen{Failed: portion("1")}))
		g.apply(context.Background(), job)

		res := g.apply(context.Background(), job) // nothing is repaired
		wantWaves(t, res.job(t, "m"), "1 1 stopped rejected=1", "100% 9 notStarted notReached=9")
		if n := len(g.hub.of(opInvoke, "")); n != 1 {
			t.Errorf("%d calls, want 1: the rule still holds", n)
		}

		clear(bad)
		bad["none"] = true
		g.options.Only = []spec.Outcome{spec.OutcomeRejected} // the canary alone
		res = g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "100% 9 notStarted notReached=9")

		g.options.Only = nil
		res = g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "100% 9 passed succeeded=9")
		if n := len(g.hub.of(opInvoke, "")); n != 11 {
			t.Errorf("%d calls, want 11", n)
		}
	})
}

func TestManualPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(6)...)
		job := method("m", inWaves(0, "1", "3", "100%"), func(j *spec.Job) { j.Rollout.Manual = true })
		res := g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "3 2 notStarted notReached=2", "100% 3 notStarted notReached=3")
		if e := res.job(t, "m"); e.Status != spec.StatusStopped || !strings.Contains(e.Reason, "wave 1 of 3") {
			t.Errorf("status %s because %q", e.Status, e.Reason)
		}
		res = g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "3 2 passed succeeded=2", "100% 3 notStarted notReached=3")
		res = g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "3 2 passed succeeded=2", "100% 3 passed succeeded=3")
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 6})
	})
}

// A run that dies at a border has told nobody that the next wave waits for them.
func TestManualPauseIsNotPassedByACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		job := method("m", inWaves(0, "1", "100%"), func(j *spec.Job) { j.Rollout.Manual = true })
		g.apply(context.Background(), job)
		lines := strings.SplitAfter(string(g.disk.data), "\n")
		for i, line := range lines {
			if strings.Contains(line, `"event":"passed"`) {
				g.disk.data = []byte(strings.Join(lines[:i+1], ""))
				break
			}
		}
		res := g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed succeeded=1", "100% 3 notStarted notReached=3")
		if n := len(g.hub.of(opInvoke, "")); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// A call that may have run is settled without being made again; if it is all that a
// wave has waited for, the next one begins.
func TestWaveOfCallsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		job := method("m", serial, inWaves(0, "1", "100%"))
		if g.killAtFirst(opInvoke, job) == "" {
			t.Fatal("nothing was killed")
		}
		res := g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "1 1 passed unanswered=1", "100% 2 passed succeeded=2")
	})
}

// A pause counts from the end of the wave, whoever waits for it.
func TestPauseGoesOnInAResumedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		job := method("m", inWaves(time.Hour, "1", "100%"))
		wantInterrupted(t, g.apply(interruptAt(t, 20*time.Minute), job))
		time.Sleep(10 * time.Minute)
		g.apply(context.Background(), job)
		starts := g.hub.starts(opInvoke, "")
		slices.Sort(starts)
		if want := []time.Duration{0, time.Hour, time.Hour, time.Hour}; !slices.Equal(starts, want) {
			t.Errorf("calls began after %v, want %v", starts, want)
		}
	})
}

func TestWavesThatNameTheirDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.match["tags.ring = 1"] = func(d hub.Target) bool { return strings.HasSuffix(d.DeviceID, "5") || d.DeviceID == "elsewhere" }
		g.hub.match["tags.ring = 2"] = func(d hub.Target) bool { return d.DeviceID < "device-000004" }
		g.hub.match["tags.building = 43"] = func(d hub.Target) bool { return d.DeviceID < "device-000009" }
		job := method("m", serial, inWaves(time.Second, "tags.ring = 1", "", "tags.ring = 2", "100%"), func(j *spec.Job) {
			j.Rollout.Waves[1] = spec.Wave{Devices: idList([]string{"device-000002", "device-000005"})}
			j.Target = spec.Target{Text: "b", Source: spec.SourceDevices, Where: "tags.building = 43"}
		})
		waves := []string{
			"tags.ring = 1 1 passed succeeded=1", "device-000002 and 1 more 1 passed succeeded=1",
			"tags.ring = 2 3 passed succeeded=3", "100% 4 passed succeeded=4",
		}
		// Killed in the third wave, it goes on with the same ones, whatever became of
		// the rings.
		ctx, cancel := context.WithCancelCause(context.Background())
		g.hub.on(opInvoke, "device-000001", 1, fault{hook: func() { cancel(interrupted()) }})
		g.apply(ctx, job)
		delete(g.hub.match, "tags.ring = 1")
		delete(g.hub.match, "tags.ring = 2")
		res := g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), waves...)
		first := g.hub.firsts(opInvoke)
		if first[0] != "device-000005" || first[1] != "device-000002" || slices.Max(first[2:5]) != "device-000003" {
			t.Errorf("called in the order %v", first)
		}
	})
}

func TestWavesThatAreNotThere(t *testing.T) {
	for want, wave := range map[string]spec.Wave{
		"wave 1 selects no device of the target: tags.ring = 9": {Query: "tags.ring = 9"},
		"wave 1 lists nobody, which the target does not select (letter case counts)": {
			Devices: idList([]string{"device-000001", "nobody"}),
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, devices(4)...)
			g.hub.match["tags.ring = 9"] = func(hub.Target) bool { return false }
			job := method("m", inWaves(0, "", "100%"), func(j *spec.Job) { j.Rollout.Waves[0] = wave })
			res := g.apply(context.Background(), job)
			wantOutcomes(t, res.job(t, "m"), spec.StatusStopped, map[spec.Outcome]int{spec.OutcomeNotReached: 4})
			if have := res.job(t, "m").Reason; have != want {
				t.Errorf("reason %q, want %q", have, want)
			}
			if n := len(g.hub.of(opInvoke, "")); n != 0 {
				t.Errorf("%d calls, want none", n)
			}
		})
	}
}

// Devices that are offline and waited for do not hold up the next wave, but they
// are counted; a wave of them alone proves nothing.
func TestWavesDoNotWaitForOfflineDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		slow := func(j *spec.Job) { j.Retry.Backoff, j.Retry.MaxBackoff = time.Minute, time.Minute }
		job := method("m", inWaves(0, "2", "100%"), whenOffline(spec.OfflineWait), deadline(time.Hour), slow)
		g.apply(context.Background(), method("m", inWaves(0, "2", "100%"))) // to see who comes first
		canaries := g.hub.firsts(opInvoke)[:2]
		g = newRig(t, devices(10)...)
		for n := range 5 {
			g.hub.on(opInvoke, canaries[0], n+1, fault{err: offline()})
			g.hub.on(opInvoke, canaries[1], n+1, fault{err: offline()})
		}
		g.hub.on(opInvoke, canaries[1], 0, fault{err: offline()})
		res := g.apply(context.Background(), job)
		wantWaves(t, res.job(t, "m"), "2 2 passed succeeded=1 offline=1", "100% 8 passed succeeded=8")
		var proof, next time.Duration
		for _, c := range g.hub.of(opInvoke, "") {
			switch {
			case c.target.DeviceID == canaries[0] && c.err == nil:
				proof = c.ended
			case !slices.Contains(canaries, c.target.DeviceID) && next == 0:
				next = c.began
			}
		}
		if proof == 0 || next < proof {
			t.Errorf("the second wave began after %v, the first canary answered after %v", next, proof)
		}
	})
}

func TestOfflineDevicesStopARolloutWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.on(opInvoke, "", 0, fault{err: offline()})
		rule := spec.StopWhen{Offline: portion("50%"), MinDone: 2}
		res := g.apply(context.Background(), method("m", serial, inWaves(0, "4", "100%"), whenOffline(spec.OfflineWait), deadline(time.Hour), stopWhen(rule)))
		job := res.job(t, "m")
		if want := "stopWhen.offline is 50%: 2 of 2 finished devices were offline"; job.Status != spec.StatusStopped || job.Reason != want {
			t.Errorf("status %s because %q, want %q", job.Status, job.Reason, want)
		}
		if n := len(g.hub.firsts(opInvoke)); n != 2 {
			t.Errorf("%d devices were called, want 2", n)
		}
	})
}

func TestRampGrowsWithSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(31)...)
		g.hub.on(opInvoke, "device-000007", 1, fault{err: kind(hub.KindNotFound)})
		res := g.apply(context.Background(), method("m", inWaves(0, "100%"), func(j *spec.Job) {
			j.Rate = 4
			j.Rollout.Ramp = &spec.Ramp{From: 1, Factor: 2, Every: 10}
		}))
		if n := res.job(t, "m").Outcomes[spec.OutcomeSucceeded]; n != 30 {
			t.Fatalf("%d succeeded", n)
		}
		starts := g.hub.starts(opInvoke, "")
		slices.Sort(starts)
		for i := 1; i < len(starts); i++ {
			gap := starts[i] - starts[i-1]
			want := 250 * time.Millisecond
			switch {
			case i <= 9:
				want = time.Second
			case i >= 13 && i <= 19:
				want = 500 * time.Millisecond
			case i < 24:
				continue // where it grows, by a device that failed or one that is in line
			}
			if gap != want {
				t.Errorf("call %d came %v after the one before, want %v", i, gap, want)
			}
		}
	})
}

// A cohort that is listed first does not cost a read a device.
func TestCollectedTwinsAreLookedUpTogether(t *testing.T) {
	for name, change := range map[string]func(*spec.Job){
		"expect":  func(j *spec.Job) { j.Target.Expect = spec.Expect{Min: 1} },
		"rollout": inWaves(0, "20", "100%"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(500)...)
				g.hub.matchIDs = true
				res := g.apply(context.Background(), update("u", `{"a":1}`, "", change))
				wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 500})
				reads, queries := len(g.hub.of(opRead, "")), len(g.hub.of(opQuery, ""))
				if reads > 0 || queries > 16 {
					t.Errorf("%d reads and %d queries, want none and 16 at most", reads, queries)
				}
			})
		})
	}
}

// Where the hub has no time for queries, twins are read one by one.
func TestTwinsAreReadWhereQueriesHaveToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(300)...)
		g.hub.matchIDs = true
		g.size = spec.Hub{SKU: "S1", Units: 1}
		res := g.apply(context.Background(), update("u", `{"a":1}`, "", inWaves(0, "100%")))
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 300})
		if reads := len(g.hub.of(opRead, "")); reads == 0 || reads > 300 {
			t.Errorf("%d reads: the query throttle of S1 lets one page pass in four seconds", reads)
		}
	})
}

func TestRolloutErrorsSayWhatHappened(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&runner.GateError{Wave: 1, Waves: 3}, "wave 1 of 3 has ended, and rollout.pause is manual: resume the run to begin wave 2"},
		{&decide.StopError{Rule: "offline", Limit: *portion("30%"), Have: 1, Done: 3}, "stopWhen.offline is 30%: 1 of 3 finished devices was offline"},
		{&target.WaveError{Wave: 2, Missing: []string{"a", "b", "c", "d"}}, "wave 2 lists a, b, c and 1 more, which the target does not select (letter case counts)"},
	} {
		if have := test.err.Error(); have != test.want {
			t.Errorf("have %q, want %q", have, test.want)
		}
	}
	if !target.AsUnexpected(&target.WaveError{}) || target.AsUnexpected(errors.New("other")) {
		t.Error("AsUnexpected is wrong about waves")
	}
}
