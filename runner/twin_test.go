package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

func hubErrorOf(tb testing.TB, res result) *target.HubError {
	tb.Helper()
	err := res.err
	if res.run != nil {
		err = res.run.Cause()
	}
	e, ok := errors.AsType[*target.HubError](err)
	if !ok {
		tb.Fatalf("ended with %v, want a *HubError", err)
	}
	return e
}

// twinCase is one twin, what befalls it, and what the job should make of it.
type twinCase struct {
	name          string
	desired, tags string // of the twin; empty as made
	wantDesired   string // of the job
	wantTags      string
	arrange       func(g *rig)
	change        func(*spec.Job)
	outcome       spec.Outcome
	before, patch *spec.Sections
	ifMatch       []string // of the patches that were sent
	reads         int
	after         string // the twin's desired section at the end
}

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

func (tt *twinCase) run(t *testing.T) {
	t.Helper()
	g := newRig(t, "door-1")
	if tt.desired != "" || tt.tags != "" {
		g.hub.set("door-1", tt.desired, tt.tags)
	}
	if tt.arrange != nil {
		tt.arrange(g)
	}
	job := update("u", tt.wantDesired, tt.wantTags)
	if tt.change != nil {
		tt.change(&job)
	}
	res := g.apply(context.Background(), job)
	row := res.row(t, "u", "door-1")
	if row.Outcome != tt.outcome {
		t.Errorf("outcome = %s (%+v), want %s", row.Outcome, row.Error, tt.outcome)
	}
	var before, patch *spec.Sections
	if row.Twin != nil {
		before, patch = row.Twin.Before, row.Twin.Patch
	}
	if diff := cmp.Diff(tt.before, before); diff != "" {
		t.Errorf("before-values (-want +have):\n%s", diff)
	}
	if diff := cmp.Diff(tt.patch, patch); diff != "" {
		t.Errorf("patch (-want +have):\n%s", diff)
	}
	var ifMatch []string
	for _, c := range g.hub.of(opPatch, "door-1") {
		ifMatch = append(ifMatch, c.ifMatch)
	}
	if diff := cmp.Diff(tt.ifMatch, ifMatch); diff != "" {
		t.Errorf("If-Match of the patches (-want +have):\n%s", diff)
	}
	if n := len(g.hub.of(opRead, "door-1")); n != tt.reads {
		t.Errorf("%d direct reads, want %d", n, tt.reads)
	}
	if tt.after != "" && string(g.hub.twins[device("door-1")].desired) != tt.after {
		t.Errorf("the twin is %s, want %s", g.hub.twins[device("door-1")].desired, tt.after)
	}
	checkVersion(t, g, row)
}

// checkVersion wants the row of a twin that is as wanted to say at which version.
func checkVersion(t *testing.T, g *rig, row spec.Row) {
	t.Helper()
	if row.Outcome != spec.OutcomeSucceeded && row.Outcome != spec.OutcomeUnchanged {
		return
	}
	now := g.hub.twins[device("door-1")]
	if row.Twin.Version != now.version || row.Twin.ETag != now.etag() {
		t.Errorf("row is at version %d, %s; the twin at %d, %s", row.Twin.Version, row.Twin.ETag, now.version, now.etag())
	}
}

// etags returns the etags of versions that follow each other.
func etags(from, to int) (all []string) {
	for version := from; version <= to; version++ {
		all = append(all, fmt.Sprintf("etag-%d", version))
	}
	return all
}

// Jobs that write the same twins at once get there one after the other.
func TestJobsOnTheSameTwins(t *testing.T) {
	for _, takes := range []time.Duration{0, 40 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, devices(30)...)
			g.hub.takes[opPatch], g.hub.takes[opRead] = takes, takes
			var jobs []spec.Job
			for i := range 12 {
				key := strconv.Itoa(i)
				jobs = append(jobs, update("j"+key, `{"k`+key+`":1}`, ""))
			}
			res := g.apply(context.Background(), jobs...)
			for _, j := range res.report.Jobs {
				wantOutcomes(t, j, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 30})
			}
			if took := res.report.Run.EndedAt.Sub(g.hub.begin); took > 30*time.Second {
				t.Errorf("the run took %v", took)
			}
		})
	}
}

func TestTwinUpdate(t *testing.T) {
	old, moved := `{"building":42,"floor":3}`, `{"building":43,"floor":3}`
	change := &spec.Sections{Desired: raw(`{"building":43}`)}
	was := &spec.Sections{Desired: raw(`{"building":42}`)}
	tests := []twinCase{
		{
			name: "only what differs is sent, with the page's etag", desired: old, tags: `{}`, wantDesired: moved,
			outcome: spec.OutcomeSucceeded, before: was, patch: change, ifMatch: []string{"etag-2"}, after: moved,
		},
		{
			name: "both sections", desired: old, tags: `{"site":"A"}`, wantDesired: moved, wantTags: `{"site":"B","old":null,"new":[1]}`,
			outcome: spec.OutcomeSucceeded, ifMatch: []string{"etag-2"},
			before: &spec.Sections{Desired: raw(`{"building":42}`), Tags: raw(`{"site":"A","new":null}`)},
			patch:  &spec.Sections{Desired: raw(`{"building":43}`), Tags: raw(`{"site":"B","new":[1]}`)},
		},
		{
			name: "as wanted is read directly", desired: moved, tags: `{}`, wantDesired: moved,
			outcome: spec.OutcomeUnchanged, reads: 1,
		},
		{
			name: "the index is behind: it seems as wanted and is not", desired: moved, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) {
				g.hub.freezeIndex()
				g.hub.set("door-1", old, `{}`)
			},
			outcome: spec.OutcomeSucceeded, before: was, patch: change, ifMatch: []string{"etag-3"}, reads: 1, after: moved,
		},
		{
			name: "the index is behind: it seems to differ and does not", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) {
				g.hub.freezeIndex()
				g.hub.set("door-1", moved, `{}`)
			},
			outcome: spec.OutcomeUnchanged, ifMatch: []string{"etag-2"}, reads: 1,
		},
		{
			name: "the index is behind: before-values are the true ones", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) {
				g.hub.freezeIndex()
				g.hub.set("door-1", `{"building":7,"floor":3}`, `{}`)
			},
			outcome: spec.OutcomeSucceeded, before: &spec.Sections{Desired: raw(`{"building":7}`)}, patch: change,
			ifMatch: []string{"etag-2", "etag-3"}, reads: 1, after: moved,
		},
		{
			name: "changed under our hands three times", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.meddle(3) },
			outcome: spec.OutcomeSucceeded, before: &spec.Sections{Desired: raw(`{"building":-3}`)}, patch: change,
			ifMatch: []string{"etag-2", "etag-3", "etag-4", "etag-5"}, reads: 3, after: moved,
		},
		{
			name: "changed under our hands, and the plan does not mind", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.meddle(1) }, change: func(j *spec.Job) { j.Twin.Guard = spec.GuardNone },
			outcome: spec.OutcomeSucceeded, ifMatch: []string{"*"}, after: moved,
			before: &spec.Sections{Desired: raw(old)}, patch: &spec.Sections{Desired: raw(moved)},
		},
		{
			name: "the index is behind, and the plan does not mind", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) {
				g.hub.freezeIndex()
				g.hub.set("door-1", `{"building":43,"floor":9}`, `{}`)
			},
			change:  func(j *spec.Job) { j.Twin.Guard = spec.GuardNone },
			outcome: spec.OutcomeSucceeded, ifMatch: []string{"*"}, after: moved,
			before: &spec.Sections{Desired: raw(old)}, patch: &spec.Sections{Desired: raw(moved)},
		},
		{
			name: "changed under our hands for ever", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.meddle(100) },
			outcome: spec.OutcomeFailed, ifMatch: etags(2, 22), reads: 20,
		},
		{
			name: "cut after it was applied: the re-read proves it", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.fail(opPatch, "door-1", acted(kind(hub.KindCut))) },
			outcome: spec.OutcomeSucceeded, before: was, patch: change, ifMatch: []string{"etag-2"}, reads: 1, after: moved,
		},
		{
			name: "cut before it was applied: sent again", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.fail(opPatch, "door-1", refused(kind(hub.KindCut))) },
			outcome: spec.OutcomeSucceeded, before: was, patch: change, ifMatch: []string{"etag-2", "etag-2"}, reads: 1, after: moved,
		},
		{
			name: "garbled, applied", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.fail(opPatch, "door-1", acted(kind(hub.KindBadAnswer))) },
			outcome: spec.OutcomeSucceeded, before: was, patch: change, ifMatch: []string{"etag-2"}, reads: 1,
		},
		{
			name: "no answer to any patch", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.hub.on(opPatch, "", 0, refused(serverError())) },
			outcome: spec.OutcomeUnanswered, before: was, patch: change, ifMatch: []string{"etag-2", "etag-2", "etag-2"}, reads: 2, after: old,
		},
		{
			name: "applied, and then nobody can tell", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) {
				g.fail(opPatch, "door-1", acted(kind(hub.KindCut)))
				g.hub.on(opRead, "door-1", 0, refused(serverError()))
			},
			outcome: spec.OutcomeUnanswered, before: was, patch: change, ifMatch: []string{"etag-2"}, reads: 2, after: moved,
		},
		{
			name: "a twin that the hub does not know", desired: old, tags: `{}`, wantDesired: moved,
			change:  named("ghost", "door-1"),
			outcome: spec.OutcomeSucceeded, before: was, patch: change, ifMatch: []string{"etag-2"}, reads: 1,
		},
		{
			name: "a read that is throttled uses up no attempt", desired: moved, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) {
				g.fail(opRead, "door-1", refused(throttled(time.Second)), refused(throttled(time.Minute)))
			},
			change: attempts(1), outcome: spec.OutcomeUnchanged, reads: 3,
		},
		{
			name: "a read that fails", desired: moved, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.hub.on(opRead, "door-1", 0, refused(serverError())) },
			outcome: spec.OutcomeFailed, reads: 3,
		},
		{
			name: "a key that is to go and is not there", desired: old, tags: `{}`, wantDesired: `{"gone":null}`,
			outcome: spec.OutcomeUnchanged, reads: 1,
		},
		{
			name: "refused", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.hub.on(opPatch, "", 0, refused(kind(hub.KindInvalid))) },
			outcome: spec.OutcomeFailed, ifMatch: []string{"etag-2"}, after: old,
		},
		{
			name: "the token expires in the middle", desired: old, tags: `{}`, wantDesired: moved,
			arrange: func(g *rig) { g.fail(opPatch, "door-1", refused(kind(hub.KindTokenExpired))) },
			change:  attempts(1), outcome: spec.OutcomeSucceeded, before: was, patch: change,
			ifMatch: []string{"etag-2", "etag-2"}, reads: 1, after: moved,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tt.run(t) })
		})
	}
}

// meddle changes the twin just before each of the first n patches arrives.
func (g *rig) meddle(n int) {
	for i := range n {
		nth := i + 1
		g.hub.on(opPatch, "door-1", nth, fault{before: func(t *fakeTwin) {
			t.version++
			t.desired = raw(`{"building":` + strconv.Itoa(-nth) + `,"floor":3}`)
		}})
	}
}

// A 412 that is followed by a patch of ours which proves nothing must not be
// taken for one that did.
func TestTwinChangedByOthersIsNotOurSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.set("door-1", `{"floor":1}`, `{}`)
		g.hub.on(opPatch, "door-1", 1, fault{before: func(t *fakeTwin) {
			t.version++
			t.desired = raw(`{"floor":3}`)
		}})
		res := g.apply(context.Background(), update("u", `{"floor":3}`, ""))
		row := res.row(t, "u", "door-1")
		if row.Outcome != spec.OutcomeUnchanged || row.Twin.Before != nil || row.Attempts != 2 {
			t.Errorf("row = %+v, want unchanged after two attempts, without before-values", row)
		}
	})
}

func TestTwoJobsOnOneTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(50)...)
		g.hub.takes[opPatch] = 5 * time.Millisecond
		res := g.apply(context.Background(),
			update("floor", `{"floor":3}`, ""), update("site", "", `{"site":"B"}`))
		for _, name := range []string{"floor", "site"} {
			wantOutcomes(t, res.job(t, name), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 50})
		}
	})
}
