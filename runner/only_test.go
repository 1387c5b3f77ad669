package runner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// rejecting lets devices answer 500 to the methods whose names are given.
func rejecting(methods ...string) func(call) hub.Answer {
	return func(c call) hub.Answer {
		if slices.Contains(methods, c.name) {
			return hub.Answer{Status: 500, Payload: json.RawMessage(`"busy"`)}
		}
		return hub.Answer{Status: 200, Payload: json.RawMessage(`null`)}
	}
}

// Picking outcomes starts no job that had not begun: none of its targets has one.
func TestOnlyStartsNoJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(5)...)
		g.hub.answer = rejecting("first")
		late := lateBy(-time.Hour, spec.LateFail)
		jobs := []spec.Job{method("first"), method("second", delay(time.Hour)), method("third", late)}
		g.apply(interruptAt(t, time.Minute), jobs...)
		g.hub.answer = nil
		<-time.NewTimer(3 * time.Hour).C // the third job would be late now
		g.options.Only = spec.FailedOutcomes()
		res := g.apply(context.Background(), jobs...)
		wantOutcomes(t, res.job(t, "first"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 5})
		for _, name := range []string{"second", "third"} {
			job := res.job(t, name)
			if n := len(g.hub.of(opInvoke, "")); job.Status != spec.StatusNotStarted || job.Listing != spec.ListingIncomplete || n != 10 {
				t.Errorf("job %s is %s, listing %q, after %d calls; want it not to start and 10 calls", name, job.Status, job.Listing, n)
			}
		}
		if res.run.Status() == spec.StatusSucceeded {
			t.Errorf("the run is %s, though jobs did not begin", res.run.Status())
		}
		g.options.Only = nil
		late(&jobs[2])
		jobs[2].IfLate = spec.LateRun
		res = g.apply(context.Background(), jobs...)
		if n := len(g.hub.of(opInvoke, "")); res.run.Status() != spec.StatusSucceeded || n != 20 {
			t.Errorf("resumed as a whole: %s after %d calls, want succeeded after 20", res.run.Status(), n)
		}
	})
}

// What an earlier run knew of a device stands until something newer is known.
func TestOnlyKeepsWhatIsKnown(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, time.Second, 90 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(20)...)
				g.hub.answer = rejecting("m")
				g.hub.takes[opInvoke] = time.Minute
				once := method("m", serial, whenOffline(spec.OfflineWait))
				g.apply(context.Background(), once)
				g.options.Only = []spec.Outcome{spec.OutcomeRejected}
				g.hub.on(opInvoke, "", 2, refused(hinted(offline(), time.Hour)))
				res := g.apply(interruptAt(t, after), once)
				if res.err != nil {
					t.Fatal(res.err)
				}
				wantOutcomes(t, res.job(t, "m"), spec.StatusInterrupted, map[spec.Outcome]int{spec.OutcomeRejected: 20})
				for _, row := range res.job(t, "m").Devices {
					if row.Attempts < 1 || row.Method == nil || row.Method.Status != 500 || row.Error == nil || row.Error.Kind != "rejected" {
						t.Errorf("row %+v, want the answer of the first run", row)
					}
				}
				calls := len(g.hub.of(opInvoke, ""))
				g.options.Only = nil
				g.apply(context.Background(), once)
				if n := len(g.hub.of(opInvoke, "")); n != calls {
					t.Errorf("going on made %d calls, want none: all had ended", n-calls)
				}
			})
		})
	}
}

// A job that was cut off in its listing is not whole because some of its
// outcomes are taken up.
func TestOnlyOfAnIncompleteListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(250)...)
		g.hub.answer = rejecting("m")
		g.hub.on(opQuery, "", 2, refused(throttled(time.Hour)))
		g.apply(interruptAt(t, time.Minute), method("m"))
		g.hub.answer = nil
		g.options.Only = spec.FailedOutcomes()
		res := g.apply(context.Background(), method("m"))
		job := res.job(t, "m")
		wantOutcomes(t, job, spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 100})
		if job.Listing != spec.ListingIncomplete {
			t.Errorf("listing = %q, want incomplete", job.Listing)
		}
		g.options.Only = nil
		res = g.apply(context.Background(), method("m"))
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 250})
	})
}

// A job that is told to stop lists its target to the end, if it may.
func TestListingGoesOnAfterAStop(t *testing.T) {
	stops := map[string]func(t *testing.T, j *spec.Job) context.Context{
		"signal": func(t *testing.T, _ *spec.Job) context.Context { t.Helper(); return interruptAt(t, 3*time.Second) },
		"deadline": func(_ *testing.T, j *spec.Job) context.Context {
			j.Deadline = 3 * time.Second
			return context.Background()
		},
	}
	for name, stop := range stops {
		for grace, listing := range map[time.Duration]spec.Listing{time.Minute: "", 5 * time.Second: spec.ListingIncomplete, 0: spec.ListingIncomplete} {
			t.Run(fmt.Sprint(name, " ", grace), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newRig(t, devices(2000)...)
					g.hub.takes[opQuery], g.hub.takes[opInvoke] = time.Second, time.Second
					g.options.Grace = grace
					job := method("m", serial)
					ctx := stop(t, &job)
					res := g.apply(ctx, job)
					have := res.job(t, "m")
					if have.Listing != listing || listing == "" && (have.Targets != 2000 || have.Outcomes[spec.OutcomeNotReached] < 1990) {
						t.Errorf("listing %q with %d targets, %v; want %q", have.Listing, have.Targets, have.Outcomes, listing)
					}
					if n := len(g.hub.of(opInvoke, "")); n > 4 {
						t.Errorf("%d calls in three seconds, one a second", n)
					}
				})
			})
		}
	}
}

// TestRandomSequences starts, interrupts, kills and resumes runs by chance, as a
// whole or for some outcomes, and compares each report with what was executed.
func TestRandomSequences(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomSequence(t, seed) })
		})
	}
}

func randomSequence(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 11))
	g := newRig(t, devices(60)...)
	g.hub.pageSize = 1 + r.IntN(30)
	g.hub.takes[opInvoke], g.hub.takes[opPatch], g.hub.takes[opQuery] = time.Second, time.Second, time.Second
	g.hub.chaos = chaos{seed: seed, share: 0.3}.fault
	g.hub.answer = func(c call) hub.Answer {
		return hub.Answer{Status: 200 + 300*((c.nth+len(c.target.DeviceID)+int(c.target.DeviceID[len(c.target.DeviceID)-1]))%2), Payload: json.RawMessage("1")}
	}
	jobs := []spec.Job{
		method("once", attempts(2)), method("late", delay(40*time.Second), attempts(1)),
		update("move", `{"floor":3}`, "", attempts(2), needs("once", spec.NeedAlways)),
	}
	for j := range jobs {
		jobs[j].Concurrency = 1 + r.IntN(8)
	}
	allowed := map[hub.Target]int{} // calls of each method that its device may get
	for range 6 {
		picked := g.pickAtRandom(r)
		for _, id := range g.hub.order {
			if len(picked) > 0 || allowed[id] == 0 {
				allowed[id]++
			}
		}
		g.options.Grace = time.Duration(r.IntN(2)) * 20 * time.Second
		g.runAtRandom(r, jobs)
		for _, id := range g.hub.order {
			for _, name := range []string{"once", "late"} {
				if n := g.hub.ran(name, id); n > allowed[id] {
					t.Errorf("seed %d: %s ran %s %d times, want at most %d", seed, id, name, n, allowed[id])
				}
			}
		}
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

// pickAtRandom picks outcomes for the next run, half of the time none.
func (g *rig) pickAtRandom(r *rand.Rand) []spec.Outcome {
	g.options.Only = nil
	if len(g.disk.data) > 0 && r.IntN(2) == 0 {
		g.options.Only = [][]spec.Outcome{
			spec.FailedOutcomes(), {spec.OutcomeRejected}, {spec.OutcomeOffline, spec.OutcomeFailed}, {spec.OutcomeNotReached},
		}[r.IntN(4)]
	}
	return g.options.Only
}

// runAtRandom lets a run come to its end, be interrupted, or die at an instant.
func (g *rig) runAtRandom(r *rand.Rand, jobs []spec.Job) {
	g.Helper()
	after := time.Millisecond + time.Duration(r.IntN(100))*time.Second
	switch r.IntN(3) {
	case 0:
		g.apply(context.Background(), jobs...)
	case 1:
		g.apply(interruptAt(g, after), jobs...)
	case 2:
		before := g.options
		var data []byte
		timer := time.AfterFunc(after, func() {
			g.disk.mu.Lock()
			defer g.disk.mu.Unlock()
			data = append(data, g.disk.data...)
		})
		work, cut := context.WithCancel(context.Background())
		end := time.AfterFunc(after, cut)
		options := before
		options.Work = work
		g.options = options
		g.apply(interruptAt(g, after), jobs...)
		timer.Stop()
		end.Stop()
		cut()
		synctest.Wait() // for a timer that has just fired
		g.options = before
		g.disk.mu.Lock()
		defer g.disk.mu.Unlock()
		if data != nil { // else it had ended by then
			g.disk.data = data
		}
	}
}
