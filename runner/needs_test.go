package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/schedule"
	"iothub-runner/spec"
)

func needs(job string, condition spec.NeedIf) func(*spec.Job) {
	return func(j *spec.Job) { j.Needs = append(j.Needs, spec.Need{Job: job, If: condition}) }
}

// A job that needs another starts when that has ended, its delay counted from then.
func TestNeedsStartWhenTheOtherHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(1)...)
		g.hub.on(opPatch, "device-000000", 1, fault{takes: 5 * time.Second})
		res := g.apply(context.Background(),
			method("lock", needs("move", spec.NeedSucceeded), delay(20*time.Second)),
			update("move", `{"floor":3}`, "", delay(10*time.Second)))
		move, lock := res.job(t, "move"), res.job(t, "lock")
		if got, want := lock.ScheduledAt.Time, move.EndedAt.Add(20*time.Second); !got.Equal(want) {
			t.Errorf("lock is due at %v, want %v: 20s after move has ended", got, want)
		}
		if starts := g.hub.starts(opInvoke, ""); len(starts) != 1 || starts[0] < 35*time.Second {
			t.Errorf("calls at %v, want one after 35s", starts)
		}
	})
}

func TestNeedsThatAreNotMet(t *testing.T) {
	for _, tt := range []struct {
		name   string
		need   spec.NeedIf
		calls  int
		status spec.Status
	}{
		{"succeeded", spec.NeedSucceeded, 0, spec.StatusNotStarted},
		{"always", spec.NeedAlways, 1, spec.StatusSucceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(1)...)
				g.hub.on(opPatch, "", 0, refused(kind(hub.KindInvalid)))
				res := g.apply(context.Background(),
					update("move", `{"floor":3}`, ""), method("lock", needs("move", tt.need)))
				if n := len(g.hub.starts(opInvoke, "")); n != tt.calls {
					t.Errorf("%d calls, want %d", n, tt.calls)
				}
				if got := res.job(t, "lock").Status; got != tt.status {
					t.Errorf("lock ended as %s, want %s", got, tt.status)
				}
				if got := res.run.Status(); got != spec.StatusFailed {
					t.Errorf("the run ended as %s, want %s", got, spec.StatusFailed)
				}
			})
		})
	}
}

// A job whose need is not part of the run cannot be carried out at all.
func TestNeedsOutsideTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(1)...)
		res := g.apply(context.Background(), method("lock", needs("move", spec.NeedSucceeded)))
		want := &schedule.NeedError{Job: "lock", Need: "move"}
		if diff := cmp.Diff(error(want), res.err); diff != "" {
			t.Errorf("Apply (-want +have):\n%s", diff)
		}
	})
}

// templated is the first job of a plan, with its templates.
func templated(t *testing.T, job string) spec.Job {
	t.Helper()
	plan, found := planfile.Parse("plan.yaml", []byte("version: 1\nname: t\njobs:\n  - "+job+"\n"), planfile.Options{})
	if plan == nil {
		t.Fatalf("Parse:\n%s", found)
	}
	return plan.Jobs[0]
}

// Values of a device stand in what is sent to it; a device without them gets
// nothing, and says why.
func TestTemplatesPerDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2", "door-3")
		g.hub.set("door-1", `{}`, `{"site":"oslo"}`)
		g.hub.set("door-3", `{}`, `{"site":{"name":"bergen"}}`)
		lock := templated(t, `{name: lock, type: directMethod, target: {all: true}, method: lockDoor, payload: {door: "${device.id}", site: "${device.tags.site}"}}`)
		mark := templated(t, `{name: mark, type: updateTwin, target: {devices: [door-1, door-2]}, desired: {at: "${device.tags.site|\"unknown\"}"}}`)
		res := g.apply(context.Background(), lock, mark)
		sent := map[string]string{}
		for _, c := range g.hub.of(opInvoke, "") {
			sent[c.target.DeviceID] = string(c.payload)
		}
		for _, c := range g.hub.of(opPatch, "") {
			sent["patch of "+c.target.DeviceID] = string(c.sent.Desired)
		}
		want := map[string]string{
			"door-1": `{"door":"door-1","site":"oslo"}`, "door-3": `{"door":"door-3","site":{"name":"bergen"}}`,
			"patch of door-1": `{"at":"oslo"}`, "patch of door-2": `{"at":"unknown"}`,
		}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("sent (-want +have):\n%s", diff)
		}
		row := res.job(t, "lock").Devices[1]
		if row.Outcome != spec.OutcomeFailed || row.Error == nil || row.Error.Kind != "missingValue" {
			t.Errorf("row of a device without the tag: %+v", row)
		}
	})
}

// A call that may have run is not undone by a value that has gone since.
func TestTemplateThatCanNoLongerBeFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.set("door-1", `{}`, `{"site":"oslo"}`)
		g.hub.on(opInvoke, "door-1", 1, fault{err: noAnswer(), acts: true, hook: func() { g.hub.set("door-1", `{}`, `{}`) }})
		lock := templated(t, `{name: lock, type: directMethod, target: {all: true}, method: lockDoor, idempotent: true, payload: "${device.tags.site}"}`)
		res := g.apply(context.Background(), lock)
		row := res.row(t, "lock", "door-1")
		if row.Outcome != spec.OutcomeUnanswered || errorKind(row) != "missingValue" {
			t.Errorf("row = %+v, want unanswered for want of the value", row)
		}
	})
}
