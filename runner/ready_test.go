package runner_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// The ways in which a hub is not ready.

func unavailable() *hub.Error {
	return &hub.Error{Kind: hub.KindServer, Code: 503001, StatusCode: 503, Message: "service unavailable"}
}

func quotaUsedUp() *hub.Error {
	return &hub.Error{Kind: hub.KindNotReady, Code: 403002, StatusCode: 403, Message: "quota exceeded"}
}

// between lets calls of an operation fail from one time to another.
func (h *fakeHub) between(from, to time.Duration, err *hub.Error, ops ...operation) {
	h.chaos = func(c call) (fault, bool) {
		for _, op := range ops {
			if c.op == op && c.began >= from && (to == 0 || c.began < to) {
				return refused(err), true
			}
		}
		return fault{}, false
	}
}

// A hub that is away for ten seconds costs no device, and no more time than it
// takes to notice its return.
func TestAShortOutageCostsNoDevice(t *testing.T) {
	t.Parallel()
	methods, twins := method("j"), update("j", `{"floor":3}`, "")
	all := []operation{opPreflight, opQuery, opRead, opPatch, opInvoke}
	tests := map[string]struct {
		job  spec.Job
		err  *hub.Error
		lost int // at most, of those that were under way
		// named says that the devices are named, because a query that fails like
		// that ends its listing soon.
		named bool
	}{
		"methods, no connection":     {methods, kind(hub.KindNotSent), 0, false},
		"methods, quota used up":     {methods, quotaUsedUp(), 0, false},
		"methods, token not taken":   {methods, hinted(kind(hub.KindTokenExpired), time.Second), 0, false},
		"methods, everything is 429": {methods, throttled(time.Second), 0, false},
		"methods, failing over":      {methods, kind(hub.KindNotReady), 0, false},
		"methods, 503":               {methods, unavailable(), 64 + 8, false},
		"methods, 500":               {methods, serverError(), 64 + 8, true},
		"methods, cut":               {methods, kind(hub.KindCut), 64 + 8, false},
		"twins, no connection":       {twins, kind(hub.KindNotSent), 0, false},
		"twins, 503":                 {twins, unavailable(), 0, false},
		"twins, 500":                 {twins, serverError(), 0, true},
		"twins, quota used up":       {twins, quotaUsedUp(), 0, false},
	}
	for name, tt := range tests {
		for _, listed := range []bool{false, true} {
			if listed && tt.named {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ids := devices(2000)
					g := newRig(t, ids...)
					for _, op := range all {
						g.hub.takes[op] = 20 * time.Millisecond
					}
					g.hub.between(200*time.Millisecond, 10200*time.Millisecond, tt.err, all...)
					job := tt.job
					job.Concurrency = 64
					if !listed {
						named(ids...)(&job)
					}
					rep := g.apply(context.Background(), job).job(t, "j")
					if lost := len(ids) - rep.Outcomes[spec.OutcomeSucceeded]; lost > tt.lost || rep.Targets != len(ids) {
						t.Errorf("%d targets: %v, want all but %d to succeed", rep.Targets, rep.Outcomes, tt.lost)
					}
					healthy := 2 * time.Second
					if took := rep.EndedAt.Sub(rep.StartedAt.Time); took > healthy+15*time.Second {
						t.Errorf("the job took %v, of which 10s were the outage", took)
					}
					calls := 0
					for _, op := range all {
						for _, c := range g.hub.of(op, "") {
							if c.began > 500*time.Millisecond && c.began < 10*time.Second {
								calls++
							}
						}
					}
					if calls > 700 {
						t.Errorf("%d calls to a hub that takes none", calls)
					}
				})
			})
		}
	}
}

// What lasts longer than the run is ready to wait ends the job as stopped, and
// whoever was not called was not reached.
func TestALongOutageStopsTheJob(t *testing.T) {
	tests := map[string]struct {
		job     spec.Job
		op      operation
		err     *hub.Error
		outage  time.Duration
		want    time.Duration
		reached int
	}{
		"as long as usual":  {method("j"), opInvoke, kind(hub.KindNotSent), 0, 10 * time.Minute, 100},
		"as long as told":   {method("j"), opInvoke, quotaUsedUp(), 3 * time.Minute, 3 * time.Minute, 100},
		"one that is alone": {method("j", serial), opInvoke, kind(hub.KindNotSent), time.Minute, time.Minute, 13},
		"twins":             {update("j", `{"floor":3}`, ""), opPatch, kind(hub.KindNotSent), time.Minute, time.Minute, 100},
		"all 429":           {method("j"), opInvoke, throttled(10 * time.Second), 2 * time.Minute, 2 * time.Minute, 100},
		"429 for a day":     {method("j"), opInvoke, throttled(24 * time.Hour), time.Minute, time.Minute, 100},
		"a query, a day":    {method("j"), opQuery, throttled(24 * time.Hour), time.Minute, time.Minute, 0},
		"a query":           {method("j"), opQuery, kind(hub.KindNotSent), time.Minute, time.Minute, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told pauses
				g := newRig(t, devices(1000)...)
				g.options.Outage, g.options.Paused = tt.outage, told.add
				g.hub.takes[opInvoke], g.hub.takes[opPatch] = 80*time.Millisecond, 80*time.Millisecond
				g.hub.between(time.Second, 0, tt.err, tt.op)
				if tt.op == opQuery {
					g.hub.between(0, 0, tt.err, tt.op)
				}
				res := g.apply(context.Background(), tt.job)
				job := res.job(t, "j")
				if job.Status != spec.StatusStopped || !strings.Contains(job.Reason, "not ready") {
					t.Errorf("the job ended as %s (%s), want stopped", job.Status, job.Reason)
				}
				if job.Outcomes[spec.OutcomeSucceeded] < tt.reached ||
					job.Outcomes[spec.OutcomeSucceeded]+job.Outcomes[spec.OutcomeNotReached] != job.Targets {
					t.Errorf("outcomes %v, want those that were called and the rest", job.Outcomes)
				}
				if took := res.report.Run.EndedAt.Sub(g.hub.begin); took < tt.want || took > tt.want+5*time.Second {
					t.Errorf("the run took %v, want %v", took, tt.want)
				}
				if len(told.all) == 0 || told.all[0].GiveUp.Sub(told.all[0].Since) != tt.want {
					t.Errorf("told of %+v, want why and until when", told.all)
				}
			})
		})
	}
}

// At the start nobody waits for a hub that cannot be reached.
func TestAHubThatWasNeverThereEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.on(opPreflight, "", 0, refused(kind(hub.KindNotSent)))
		res := g.apply(context.Background(), method("m"))
		if _, ok := errors.AsType[*target.HubError](res.err); !ok {
			t.Errorf("Apply: %v, want the hub's error", res.err)
		}
		if took := time.Since(g.hub.begin); took > 10*time.Second {
			t.Errorf("that took %v", took)
		}
	})
}

// Who asks for more time at the start than the run waits ends it as well.
func TestAHubThatAsksForADayEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.on(opPreflight, "", 0, refused(throttled(24*time.Hour)))
		res := g.apply(context.Background(), method("m"))
		if _, ok := errors.AsType[*target.HubError](res.err); !ok || !strings.Contains(res.err.Error(), "not ready for 10m0s") {
			t.Errorf("Apply: %v, want the hub's error", res.err)
		}
		if took := time.Since(g.hub.begin); took != 10*time.Minute {
			t.Errorf("that took %v, want 10m", took)
		}
	})
}

// A job that begins later asks for itself.
func TestALaterJobAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(20)...)
		g.options.Outage = time.Minute
		g.hub.between(0, 5*time.Minute, kind(hub.KindNotSent), opInvoke)
		res := g.apply(context.Background(), method("now"), method("later", delay(4*time.Minute+30*time.Second)))
		if s := res.job(t, "now").Status; s != spec.StatusStopped {
			t.Errorf("the first job ended as %s, want stopped", s)
		}
		wantOutcomes(t, res.job(t, "later"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 20})
	})
}

// One call that never leaves, while others do, uses up its attempts.
func TestOneDeviceIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(500)...)
		g.hub.takes[opInvoke] = 50 * time.Millisecond
		g.hub.on(opInvoke, "device-000003", 0, refused(kind(hub.KindNotSent)))
		job := g.apply(context.Background(), method("m")).job(t, "m")
		wantOutcomes(t, job, spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 499, spec.OutcomeFailed: 1})
		if n := len(g.hub.of(opInvoke, "device-000003")); n > 20 {
			t.Errorf("%d calls of the one that is never sent", n)
		}
	})
}

// Nor is the last one of a job, when nobody else is left who could be served.
func TestTheLastDeviceIsNoOutage(t *testing.T) {
	for name, tt := range map[string]struct {
		op  operation
		err *hub.Error
	}{
		"read, cut":  {opRead, kind(hub.KindCut)},
		"read, 503":  {opRead, unavailable()},
		"read, 500":  {opRead, serverError()},
		"patch, cut": {opPatch, kind(hub.KindCut)},
		"patch, 503": {opPatch, unavailable()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(5)...)
				g.hub.on(tt.op, "device-000003", 0, refused(tt.err))
				job := g.apply(context.Background(), update("t", `{"floor":3}`, "", serial, named(devices(5)...))).job(t, "t")
				if job.Outcomes[spec.OutcomeSucceeded] != 4 || job.Outcomes[spec.OutcomeNotReached] > 0 {
					t.Errorf("outcomes %v, want four that succeeded and one that was given up", job.Outcomes)
				}
				if took := job.EndedAt.Sub(job.StartedAt.Time); took > 2*time.Minute {
					t.Errorf("the job took %v", took)
				}
			})
		})
	}
}

// Single failures among many answers slow nobody down.
func TestSingleFailuresAreNoOutage(t *testing.T) {
	for name, err := range map[string]*hub.Error{"no connection": kind(hub.KindNotSent), "500": serverError(), "503": unavailable()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(5000)...)
				g.hub.takes[opInvoke] = 50 * time.Millisecond
				n := 0
				g.hub.chaos = func(c call) (fault, bool) {
					if n++; c.op == opInvoke && n%50 == 0 {
						return refused(err), true
					}
					return fault{}, false
				}
				job := g.apply(context.Background(), method("m", func(j *spec.Job) { j.Concurrency = 64 })).job(t, "m")
				allowed := 5100 * 50 * time.Millisecond / 64
				if took := job.EndedAt.Sub(job.StartedAt.Time); took > allowed*12/10 {
					t.Errorf("the job took %v, want about %v", took, allowed)
				}
			})
		})
	}
}
