package runner_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// pair is a rig with two hubs, of which east can be cut off.
type pair struct {
	*rig
	west, east *fakeHub
	dead       atomic.Bool
}

func newPair(t *testing.T, west, east []string) *pair {
	t.Helper()
	p := &pair{rig: newRig(t, west...)}
	targets := make([]hub.Target, len(east))
	for i, id := range east {
		targets[i] = device(id)
	}
	p.west, p.east = p.hub, newFakeHub(targets...)
	p.west.matchIDs, p.east.matchIDs = true, true
	p.east.chaos = func(call) (fault, bool) {
		return refused(&hub.Error{Kind: hub.KindNotSent, Message: "no route"}), p.dead.Load()
	}
	p.options.Hubs = []target.NamedHub{{Name: "west", Hub: p.west}, {Name: "east", Hub: p.east}}
	return p
}

// rows are those of the report, in a few words each.
func (r result) rows(t *testing.T) (all []string) {
	t.Helper()
	for _, row := range r.job(t, "m").Devices {
		text := row.DeviceID + " " + row.Hub + " " + string(row.Outcome)
		if row.Error != nil {
			text += " " + row.Error.Kind
		}
		all = append(all, text)
	}
	return all
}

// calls is how often each device of a hub was called.
func callsOf(h *fakeHub) string {
	var all []string
	for _, t := range h.order {
		if n := len(h.of(opInvoke, t.DeviceID)); n != 0 {
			all = append(all, fmt.Sprintf("%s:%d", t.DeviceID, n))
		}
	}
	return strings.Join(all, " ")
}

// A hub that is not there fails its part, and not the other's. A device that the plan
// names and that no hub shows may be on the one that could not be asked.
func TestHubThatIsNotThere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		job    spec.Job
		status spec.Status
		rows   []string
	}{
		{"all", method("m"), spec.StatusFailed, []string{"a west succeeded", "b west succeeded"}},
		{"tolerated", method("m", func(j *spec.Job) { j.Tolerate.Hubs = spec.Share{Count: 1} }), spec.StatusSucceeded, []string{"a west succeeded", "b west succeeded"}},
		{"named", method("m", named("a", "c")), spec.StatusFailed, []string{"a west succeeded", "c east failed hubLost"}},
		{
			"named and tolerated", method("m", named("a", "c"), func(j *spec.Job) { j.Tolerate.Hubs = spec.Share{Count: 1} }), spec.StatusSucceeded,
			[]string{"a west succeeded", "c east failed hubLost"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, []string{"a", "b"}, []string{"c", "d"})
				p.dead.Store(true)
				res := p.apply(context.Background(), tt.job)
				job := res.job(t, "m")
				if diff := cmp.Diff(tt.rows, res.rows(t)); diff != "" || job.Status != tt.status {
					t.Errorf("job %s (%s), want %s; rows (-want +have):\n%s", job.Status, job.Reason, tt.status, diff)
				}
				if !strings.Contains(job.Reason, "hub east cannot be used: no route") || job.Listing != spec.ListingIncomplete {
					t.Errorf("reason %q, listing %q: want both to tell of the hub", job.Reason, job.Listing)
				}
				if lost := res.report.Summary.Hubs[1].Lost; !strings.Contains(lost, "no route") {
					t.Errorf("the totals of east say that it was lost by %q", lost)
				}
				// It is there again: the run goes on with what it has left.
				p.dead.Store(false)
				again := p.apply(context.Background(), tt.job)
				if status := again.job(t, "m").Status; status != spec.StatusSucceeded {
					t.Errorf("the resumed job %s: %s", status, again.job(t, "m").Reason)
				}
				if have := callsOf(p.west) + "; " + callsOf(p.east); have != "a:1 b:1; c:1 d:1" && have != "a:1; c:1" {
					t.Errorf("calls %s: want one for each device", have)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, []string{"a"}, []string{"b"})
		p.dead.Store(true)
		p.west.chaos = p.east.chaos
		if res := p.apply(context.Background(), method("m")); res.err == nil {
			t.Error("Apply with no hub that can be used: no error")
		}
	})
}

// A hub that dies half way: what was done stands, the rest fails, and whoever goes on
// with the run does each device once.
func TestHubThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		west, east := devices(6), []string{"east-0", "east-1", "east-2", "east-3", "east-4"}
		p := newPair(t, west, east)
		p.options.Outage = time.Minute
		p.east.on(opInvoke, "east-1", 1, fault{takes: time.Second, hook: func() { p.dead.Store(true) }})
		p.east.on(opInvoke, "east-0", 1, refused(&hub.Error{Kind: hub.KindCut, Message: "reset"})) // it may have run
		res := p.apply(context.Background(), method("m", serial))
		job := res.job(t, "m")
		want := map[string]string{"east-0": "unanswered", "east-1": "succeeded", "east-2": "failed", "east-3": "failed", "east-4": "failed"}
		for _, row := range job.Devices {
			if row.Hub == "west" && row.Outcome != spec.OutcomeSucceeded || row.Hub == "east" && string(row.Outcome) != want[row.DeviceID] {
				t.Errorf("%s of %s: %s, want %s", row.DeviceID, row.Hub, row.Outcome, want[row.DeviceID])
			}
		}
		if len(job.Devices) != 11 || job.Status != spec.StatusFailed || job.Listing == spec.ListingIncomplete {
			t.Errorf("job %s with %d rows, listing %q", job.Status, len(job.Devices), job.Listing)
		}
		if took := res.report.Run.EndedAt.Sub(p.east.begin); took > 2*time.Minute {
			t.Errorf("the run took %v: the outage may take one minute", took)
		}
		p.dead.Store(false)
		again := p.apply(context.Background(), method("m", serial))
		if have := callsOf(p.east); have != "east-0:1 east-1:1 east-2:1 east-3:1 east-4:1" {
			// A call that was refused before it was sent is no call of the device.
			sent := map[string]int{}
			for _, c := range p.east.of(opInvoke, "") {
				if c.err == nil || c.err.Kind == hub.KindCut {
					sent[c.target.DeviceID]++
				}
			}
			for id, n := range sent {
				if n != 1 {
					t.Errorf("%s was called %d times", id, n)
				}
			}
		}
		if left := again.job(t, "m").Outcomes; left[spec.OutcomeSucceeded] != 10 || left[spec.OutcomeUnanswered] != 1 {
			t.Errorf("after it was resumed: %v", left)
		}
	})
}

// A hub that takes no calls is not in the way of the other: its calls end while the
// first waits.
func TestHubsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		east := make([]string, 50)
		for i := range east {
			east[i] = fmt.Sprintf("east-%d", i)
		}
		p := newPair(t, devices(500), east)
		p.west.on(opInvoke, "", 0, refused(throttled(time.Minute)))
		time.AfterFunc(5*time.Minute, func() { p.west.on(opInvoke, "", 0, fault{}) })
		p.apply(context.Background(), method("m", func(j *spec.Job) { j.Concurrency = 2 }))
		for _, c := range p.east.of(opInvoke, "") {
			if c.ended > time.Second {
				t.Errorf("%s was done after %v: it waited for the other hub", c.target, c.ended)
			}
		}
	})
}

// Waves count the devices of all hubs, or of each for itself; so do the rules that stop
// them.
func TestWavesOverHubs(t *testing.T) {
	west, east := []string{"w-0", "w-1", "w-2", "w-3"}, []string{"e-0", "e-1", "e-2", "e-3"}
	scoped := func(s spec.RolloutScope, more ...func(*spec.Job)) spec.Job {
		return method("m", append([]func(*spec.Job){inWaves(time.Hour, "50%", "100%"), func(j *spec.Job) { j.Rollout.Scope = s }}, more...)...)
	}
	t.Run("plan", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, west, east)
			job := p.apply(context.Background(), scoped(spec.ScopePlan)).job(t, "m")
			if w := job.Waves; len(w) != 2 || w[0].Targets != 4 || w[0].Hub != "" || w[1].Targets != 4 || w[1].Verdict != spec.VerdictPassed {
				t.Errorf("waves %+v, want two of four", w)
			}
		})
	})
	t.Run("plan, stopped by one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, west, east)
			p.dead.Store(true)
			p.options.Outage = time.Minute
			job := p.apply(context.Background(), scoped(spec.ScopePlan, func(j *spec.Job) { j.Target.Devices = deviceIDs(append(east, west...)) }, stopWhen(spec.StopWhen{Failed: &spec.Share{Count: 2}}))).job(t, "m")
			if job.Status != spec.StatusStopped || job.Outcomes[spec.OutcomeFailed] != 4 {
				t.Errorf("job %s, %v: want the lost hub's devices to stop it", job.Status, job.Outcomes)
			}
		})
	})
	t.Run("hub", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, west, east)
			p.east.answer = func(call) hub.Answer { return hub.Answer{Status: 500, Payload: []byte("null")} }
			res := p.apply(context.Background(), scoped(spec.ScopeHub, stopWhen(spec.StopWhen{Failed: &spec.Share{Count: 2}})))
			job := res.job(t, "m")
			var waves []string
			for _, w := range job.Waves {
				waves = append(waves, fmt.Sprintf("%s %d %s", w.Hub, w.Targets, w.Verdict))
			}
			want := []string{"west 2 passed", "west 2 passed", "east 2 stopped", "east 2 notStarted"}
			if diff := cmp.Diff(want, waves); diff != "" || job.Status != spec.StatusStopped || callsOf(p.west) != "w-0:1 w-1:1 w-2:1 w-3:1" || job.Outcomes[spec.OutcomeNotReached] != 2 {
				t.Errorf("job %s, %v, waves (-want +have):\n%s", job.Status, job.Outcomes, diff)
			}
		})
	})
	t.Run("hub, resumed after each wave", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, west, east)
			job := scoped(spec.ScopeHub, func(j *spec.Job) { j.Rollout.Pause, j.Rollout.Manual = 0, true })
			first := p.apply(context.Background(), job).job(t, "m")
			if first.Status != spec.StatusStopped || first.Outcomes[spec.OutcomeSucceeded] != 4 {
				t.Errorf("the first run: %s, %v", first.Status, first.Outcomes)
			}
			last := p.apply(context.Background(), job).job(t, "m")
			if last.Status != spec.StatusSucceeded || callsOf(p.west)+callsOf(p.east) != "w-0:1 w-1:1 w-2:1 w-3:1e-0:1 e-1:1 e-2:1 e-3:1" {
				t.Errorf("the last run: %s, %v", last.Status, last.Outcomes)
			}
		})
	})
}

// A pinned preview of two hubs touches the devices of each as they were.
func TestPinnedOnHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, []string{"a", "b"}, []string{"a", "c"})
		job := update("m", `{"floor":3}`, "")
		file := p.pin(job)
		p.east.set("a", `{"floor":9,"$version":2}`, `{}`)
		res := p.applyPinned(file, job)
		want := []string{"a west succeeded", "a east skipped changedSincePreview", "b west succeeded", "c east succeeded"}
		if diff := cmp.Diff(want, res.rows(t)); diff != "" {
			t.Errorf("rows (-want +have):\n%s", diff)
		}
	})
}
