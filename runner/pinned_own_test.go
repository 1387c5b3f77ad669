package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// A patch whose answer is lost is recognised by another job as soon as that
// reads the twin, however long the one that sent it waits to look again.
func TestPinnedRecognisesALostPatchOfAnotherJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		slow := func(j *spec.Job) { j.Retry.Backoff, j.Retry.MaxBackoff = time.Hour, time.Hour }
		jobs := []spec.Job{update("one", `{"floor":3}`, "", slow), update("two", "", `{"site":"B"}`, delay(time.Second))}
		file := g.pin(jobs...)
		g.hub.on(opPatch, "a", 1, acted(hinted(kind(hub.KindCut), time.Hour)))
		res := g.applyPinned(file, jobs...)
		for _, j := range res.report.Jobs {
			wantOutcomes(t, j, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
		}
		if took := res.job(t, "two").EndedAt.Sub(res.job(t, "two").StartedAt.Time); took != 0 {
			t.Errorf("job two waited %v for the other, want it to see the patch", took)
		}
	})
}

// A patch that is given up stays one of ours.
func TestPinnedRemembersAPatchThatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		jobs := []spec.Job{update("one", `{"floor":3}`, "", attempts(1)), update("two", "", `{"site":"B"}`, delay(time.Second))}
		file := g.pin(jobs...)
		g.hub.on(opPatch, "a", 1, acted(kind(hub.KindCut)))
		res := g.applyPinned(file, jobs...)
		wantOutcomes(t, res.job(t, "one"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeUnanswered: 1})
		wantOutcomes(t, res.job(t, "two"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})

		// So it does for a run that goes on, and for one that picks it.
		g.options.Only = []spec.Outcome{spec.OutcomeUnanswered}
		res = g.applyPinned(file, jobs...)
		wantOutcomes(t, res.job(t, "one"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
		if row := res.row(t, "one", "a"); string(row.Twin.Patch.Desired) != `{"floor":3}` || string(row.Twin.Before.Desired) != `{"floor":null}` {
			t.Errorf("row %+v, want the patch of the earlier run and what it replaced", row.Twin)
		}
	})
}

// While the answer of another job's patch may still come, a job waits for it,
// for as long as that takes.
func TestPinnedWaitsForAPatchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		jobs := []spec.Job{update("one", `{"floor":3}`, ""), update("two", "", `{"site":"B"}`, delay(time.Second))}
		file := g.pin(jobs...)
		g.hub.on(opPatch, "a", 1, fault{takes: 50 * time.Second})
		res := g.applyPinned(file, jobs...)
		for _, j := range res.report.Jobs {
			wantOutcomes(t, j, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
		}
	})
}

// What a resumed run finds in a twin that two of its jobs were patching when it
// was killed, and what it says of it.
func TestPinnedResumesAmongPatches(t *testing.T) {
	const changed = "changedSincePreview"
	tests := []struct {
		name     string
		one, two fault         // what becomes of each job's first patch
		after    time.Duration // of the first job, the second starts
		then     string        // what somebody sets desired to after the kill
		later    string        // the job that starts an hour later when resumed
		want     map[string]spec.Outcome
		kinds    map[string]string
	}{
		{
			name: "the first one took effect", one: fault{takes: time.Hour}, two: fault{err: kind(hub.KindNotSent), takes: time.Hour},
			want: map[string]spec.Outcome{"one": spec.OutcomeSucceeded, "two": spec.OutcomeSucceeded},
		},
		{
			name: "the first one took effect, and its job starts later", one: fault{takes: time.Hour}, two: fault{err: kind(hub.KindNotSent), takes: time.Hour},
			later: "one", want: map[string]spec.Outcome{"one": spec.OutcomeSucceeded, "two": spec.OutcomeSucceeded},
		},
		{
			name: "neither took effect", one: fault{err: kind(hub.KindNotSent), takes: time.Hour}, two: fault{err: kind(hub.KindNotSent), takes: time.Hour},
			want: map[string]spec.Outcome{"one": spec.OutcomeSucceeded, "two": spec.OutcomeSucceeded},
		},
		{
			name: "neither took effect, and somebody wrote", one: fault{err: kind(hub.KindNotSent), takes: time.Hour}, two: fault{err: kind(hub.KindNotSent), takes: time.Hour},
			then: `{"floor":7}`, want: map[string]spec.Outcome{"one": spec.OutcomeUnanswered, "two": spec.OutcomeUnanswered},
		},
		{
			name: "the second one was accepted before the first arrived", one: fault{err: kind(hub.KindNotSent), takes: time.Hour}, two: fault{takes: time.Second}, after: time.Second,
			want: map[string]spec.Outcome{"one": spec.OutcomeSucceeded, "two": spec.OutcomeSucceeded},
		},
		{
			name: "the second one was accepted, and somebody wrote what the first meant to", one: fault{err: kind(hub.KindNotSent), takes: time.Hour}, two: fault{takes: time.Second}, after: time.Second,
			then: `{"floor":3}`, want: map[string]spec.Outcome{"one": spec.OutcomeSkipped, "two": spec.OutcomeSucceeded}, kinds: map[string]string{"one": changed},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "a")
				jobs := []spec.Job{update("one", `{"floor":3}`, ""), update("two", "", `{"site":"B"}`, delay(tt.after))}
				file := g.pin(jobs...)
				g.hub.chaos = func(c call) (fault, bool) {
					if c.sent.Desired != nil {
						return tt.one, true
					}
					return tt.two, c.sent.Tags != nil
				}
				g.readPinned(file)
				g.killAt(time.Minute, jobs...)
				g.hub.chaos = nil
				if tt.then != "" {
					g.hub.mu.Lock()
					twin := g.hub.twins[device("a")]
					twin.version, twin.desired = twin.version+1, []byte(tt.then)
					g.hub.mu.Unlock()
				}
				for i := range jobs {
					if jobs[i].Name == tt.later {
						jobs[i].Delay = time.Hour
					}
				}
				g.readPinned(file)
				res := g.apply(context.Background(), jobs...)
				for job, want := range tt.want {
					row := res.row(t, job, "a")
					if row.Outcome != want {
						t.Errorf("job %s: %+v (%+v), want %s", job, row, row.Error, want)
					}
					if tt.kinds[job] != "" {
						wantError(t, row, tt.kinds[job])
					}
				}
			})
		})
	}
}

// A job that built on another's lost patch says in its intent that the twin was
// as the run had left it, even where its own patch hides the other's.
func TestPinnedResumesAPatchUponALostOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		slow := func(j *spec.Job) { j.Retry.Backoff, j.Retry.MaxBackoff = time.Hour, time.Hour }
		jobs := []spec.Job{update("one", `{"floor":3}`, "", slow), update("two", `{"floor":5}`, "", delay(time.Second))}
		file := g.pin(jobs...)
		g.hub.on(opPatch, "a", 1, acted(hinted(kind(hub.KindCut), time.Hour)))
		g.hub.on(opPatch, "a", 2, fault{takes: time.Hour})
		g.readPinned(file)
		g.killAt(time.Minute, jobs...)
		g.readPinned(file)
		res := g.apply(context.Background(), jobs[1], jobs[0])
		for _, j := range res.report.Jobs {
			wantOutcomes(t, j, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
		}
	})
}

// A twin that was read before a patch of ours took effect, and looked at after,
// has not been changed by somebody else.
func TestPinnedReadsAgainWhatIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		jobs := []spec.Job{update("one", `{"floor":3}`, "", delay(time.Second)), update("two", "", `{"site":"B"}`)}
		file := g.pin(jobs...)
		g.hub.on(opRead, "a", 1, fault{takes: time.Minute}) // that of job two
		res := g.applyPinned(file, jobs...)
		for _, j := range res.report.Jobs {
			wantOutcomes(t, j, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
		}
	})
}
