package runner_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// chaos makes every call go wrong by chance, the same for the same seed and call.
type chaos struct {
	seed  uint64
	share float64
}

func (c chaos) fault(x call) (fault, bool) {
	if x.op == opPreflight {
		return fault{}, false
	}
	h := uint64(14695981039346656037)
	for _, b := range fmt.Append(nil, c.seed, x.op, x.name, x.target, x.nth) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	r := rand.New(rand.NewPCG(c.seed, h))
	f := fault{takes: time.Duration(r.IntN(2000)) * time.Millisecond}
	if r.Float64() > c.share {
		return f, true
	}
	kinds := []hub.Kind{
		hub.KindNotSent, hub.KindThrottled, hub.KindServer, hub.KindCut, hub.KindTokenExpired,
		hub.KindBadAnswer, hub.KindNoAnswer, hub.KindOffline, hub.KindInvalid, hub.KindNotFound,
	}
	if x.op == opQuery {
		kinds = kinds[:4]
	}
	f.err = kind(kinds[r.IntN(len(kinds))])
	if f.err.Kind == hub.KindTokenExpired && x.nth%2 == 0 {
		f.err = serverError() // two in a row would end the run
	}
	f.err.Wait = time.Duration(r.IntN(3)*r.IntN(20)) * time.Second
	mayAct := f.err.Kind == hub.KindServer || f.err.Kind == hub.KindCut || f.err.Kind == hub.KindNoAnswer
	f.acts = f.err.Kind == hub.KindBadAnswer || mayAct && r.IntN(2) == 0
	return f, true
}

// randomJobs makes jobs with policies by chance. They share devices, so that
// patches of one job meet those of another.
func randomJobs(r *rand.Rand) []spec.Job {
	offline := []spec.OfflinePolicy{spec.OfflineFail, spec.OfflineSkip, spec.OfflineWait}
	vary := func(j *spec.Job) {
		j.Concurrency = 1 + r.IntN(40)
		j.Delay = time.Duration(r.IntN(30)) * time.Second
		j.Retry = spec.Retry{Attempts: 1 + r.IntN(5), Backoff: time.Duration(r.IntN(4)) * time.Second, MaxBackoff: 20 * time.Second}
		j.Offline = offline[r.IntN(3)]
		j.Deadline = time.Duration(1+r.IntN(10)) * time.Minute
		if r.IntN(3) == 0 {
			j.Rate = 1 + 50*r.Float64()
		}
		if r.IntN(4) == 0 {
			j.Target.Limit = 1 + r.IntN(125)
		}
		if r.IntN(4) == 0 {
			j.Target.Expect.Min = 1
		}
		if j.Method != nil {
			j.Method.Idempotent = r.IntN(2) == 0
		}
	}
	return []spec.Job{
		method("lock", vary), method("reboot", vary),
		update("move", `{"floor":3,"site":{"name":"B","old":null}}`, "", vary),
		update("tag", `{"floor":3}`, `{"moved":true}`, vary),
	}
}

func TestRandomRuns(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomRun(t, seed) })
		})
	}
}

// randomRun runs four jobs over 100 devices under random faults, half of the
// time to an interruption and on from there. What must hold of every run is
// held against it by the rig.
func randomRun(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	g := newRig(t, devices(100)...)
	g.hub.pageSize = 1 + r.IntN(50)
	for i := range 100 {
		g.hub.set(fmt.Sprintf("device-%06d", i), fmt.Sprintf(`{"floor":%d,"site":{"name":"A"}}`, i%4), `{"moved":false}`)
	}
	if r.IntN(2) == 0 {
		g.hub.freezeIndex()
		for i := range 20 {
			g.hub.set(fmt.Sprintf("device-%06d", i), `{"floor":3,"site":{"name":"B"}}`, `{"moved":true}`)
		}
	}
	g.hub.chaos = chaos{seed: seed, share: r.Float64() * 0.5}.fault
	jobs := randomJobs(r)
	ctx := context.Background()
	if r.IntN(2) == 0 {
		ctx = interruptAt(t, time.Duration(r.IntN(120))*time.Second)
	}
	res := g.apply(ctx, jobs...)
	if res.err != nil {
		return // interrupted before it began
	}
	listed := res.job(t, "lock").Targets
	g.hub.chaos = nil
	res = g.apply(context.Background(), jobs...)
	for _, job := range res.report.Jobs {
		if job.Targets < listed && job.Name == "lock" || job.Outcomes[spec.OutcomeNotReached] > 0 && job.Status != spec.StatusStopped {
			t.Errorf("seed %d: resumed job %s: %d of %d targets, %v, %s", seed, job.Name, job.Targets, listed, job.Outcomes, job.Status)
		}
	}
	if t.Failed() {
		t.Fatalf("with seed %d", seed)
	}
}
