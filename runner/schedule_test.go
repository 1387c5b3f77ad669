package runner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/spec"
)

func TestJobsStartAtTheirDueTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2")
		g.hub.takes[opInvoke] = 45 * time.Second // longer than the other job waits
		later := time.Now().Add(40 * time.Second)
		res := g.apply(context.Background(),
			method("first", delay(10*time.Second), serial),
			update("second", `{"floor":3}`, "", delay(20*time.Second)),
			method("third", func(j *spec.Job) { j.At = later }),
		)
		var invoked, patched []time.Duration
		for _, c := range g.hub.of(opInvoke, "") {
			invoked = append(invoked, c.began)
		}
		for _, c := range g.hub.of(opPatch, "") {
			patched = append(patched, c.began)
		}
		wantInvoked := []time.Duration{10 * time.Second, 40 * time.Second, 40 * time.Second, 55 * time.Second}
		if diff := cmp.Diff(wantInvoked, invoked); diff != "" {
			t.Errorf("times of the method calls (-want +have):\n%s", diff)
		}
		if diff := cmp.Diff([]time.Duration{20 * time.Second, 20 * time.Second}, patched); diff != "" {
			t.Errorf("times of the patches (-want +have):\n%s", diff)
		}
		for name, due := range map[string]time.Duration{"first": 10 * time.Second, "second": 20 * time.Second, "third": 40 * time.Second} {
			job := res.job(t, name)
			at := g.hub.begin.Add(due)
			if !job.ScheduledAt.Equal(at) || !job.StartedAt.Equal(at) {
				t.Errorf("job %s: scheduled %v, started %v, want %v", name, job.ScheduledAt, job.StartedAt, at)
			}
		}
		if got, want := res.report.Run.EndedAt.Sub(g.hub.begin), 100*time.Second; got != want {
			t.Errorf("the run took %v, want %v", got, want)
		}
	})
}
