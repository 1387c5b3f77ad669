package runner_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/pace"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// pauses collects what a run or a preview tells of its waits.
type pauses struct {
	mu  sync.Mutex
	all []pace.Pause
}

func (p *pauses) add(x pace.Pause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, x)
}

func (p *pauses) of(calls string) (found []pace.Pause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.all {
		if x.Calls == calls && !x.Over {
			found = append(found, x)
		}
	}
	return found
}

// Whoever waits for long is told at once, for what and until when.
func TestLongWaitsAreTold(t *testing.T) {
	const day = 24 * time.Hour
	apply := func(job spec.Job) func(*rig, context.Context) {
		return func(g *rig, ctx context.Context) { g.apply(ctx, job) }
	}
	look := func(g *rig, ctx context.Context) {
		_, _ = preview.Make(ctx, &spec.Plan{Jobs: []spec.Job{method("m")}}, preview.Options{
			Hubs: []target.NamedHub{{Name: "test.example", Hub: g.hub}}, Paused: g.options.Paused,
		})
	}
	tests := map[string]struct {
		op    operation
		nth   int
		calls string
		run   func(*rig, context.Context)
	}{
		"the first query":            {opPreflight, 1, "queries", apply(method("m"))},
		"the first query of preview": {opPreflight, 1, "queries", look},
		"a job's query":              {opQuery, 1, "queries", apply(method("m"))},
		"a method":                   {opInvoke, 1, "methodCalls", apply(method("m"))},
		"a patch":                    {opPatch, 1, "twinUpdates", apply(update("u", `{"floor":3}`, ""))},
		"a twin read":                {opRead, 1, "twinReads", apply(update("u", `{"floor":3}`, "", named("device-000000")))},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told pauses
				g := newRig(t, devices(3)...)
				g.options.Paused = told.add
				g.hub.on(tt.op, "", tt.nth, refused(throttled(day)))
				tt.run(g, interruptAt(t, 5*time.Second))
				all := told.of(tt.calls)
				if len(all) != 1 {
					t.Fatalf("told of %+v, want one pause of %s", all, tt.calls)
				}
				if p := all[0]; p.Hub != "test.example" || p.Until.Sub(g.hub.begin) != day || !strings.Contains(p.Err.Error(), "429001") {
					t.Errorf("told of %+v, want the hub, a day and what it answered", p)
				}
			})
		})
	}
}

// A wait that is asked for in the middle of a run holds the class as well, if
// it is long: it is not meant for one call.
func TestALongWaitIsNotForOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told pauses
		g := newRig(t, devices(100)...)
		g.options.Paused, g.options.Outage = told.add, 2*time.Hour
		g.hub.takes[opInvoke] = 100 * time.Millisecond
		g.hub.on(opInvoke, "device-000010", 1, refused(throttled(10*time.Second)))
		g.hub.on(opInvoke, "device-000060", 1, refused(throttled(time.Hour)))
		g.apply(context.Background(), method("m", serial))
		if all := told.of("methodCalls"); len(all) != 2 || all[1].Until.Sub(g.hub.begin) < time.Hour {
			t.Errorf("told of %+v, want 10 s and an hour", all)
		}
		for _, at := range g.hub.starts(opInvoke, "device-000090") {
			if at < time.Hour {
				t.Errorf("a call after %v, and the hub had asked for an hour", at)
			}
		}
	})
}
