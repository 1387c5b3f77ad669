package runner_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/spec"
)

// shapes are how long devices and hubs take to answer. What they have in common
// is that nothing queues: each answer takes as long as it takes.
var shapes = map[string]func(r *rand.Rand) time.Duration{
	"lognormal": func(r *rand.Rand) time.Duration { // median 800 ms, 99 % within 4 s
		return seconds(0.8 * math.Exp(0.69*r.NormFloat64()))
	},
	"bimodal": func(r *rand.Rand) time.Duration {
		if r.Float64() < 0.3 {
			return seconds(4 + r.Float64())
		}
		return seconds(0.02 + 0.02*r.Float64())
	},
	"mostly slow": func(r *rand.Rand) time.Duration {
		if r.Float64() < 0.9 {
			return seconds(3 + r.Float64())
		}
		return seconds(0.02)
	},
	"heavy tail": func(r *rand.Rand) time.Duration { // Pareto; one in a thousand takes 20 s
		return seconds(min(20, 0.2*math.Pow(1-r.Float64(), -1/1.5)))
	},
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// uneven is a job of 300 devices that answer unevenly.
type uneven struct {
	op     operation // which takes its time
	job    func(name string, change ...func(*spec.Job)) spec.Job
	canary int // devices that an earlier job of the run goes over
	draw   func(r *rand.Rand) time.Duration
}

// TestUnevenAnswersAreNoQueue: each run is paired with what its concurrency
// allows for the same answers. Neither slow answers nor quick ones before them
// make a run slower that was never refused anything.
func TestUnevenAnswersAreNoQueue(t *testing.T) {
	floor := func(name string, change ...func(*spec.Job)) spec.Job {
		return update(name, `{"floor":"`+name+`"}`, "", change...)
	}
	for shape, draw := range shapes {
		for _, canary := range []int{0, 6} {
			for _, u := range []uneven{{opInvoke, method, canary, draw}, {opPatch, floor, canary, draw}} {
				t.Run(fmt.Sprintf("%s, %s, after %d", u.op, shape, canary), func(t *testing.T) {
					synctest.Test(t, u.check)
				})
			}
		}
	}
}

func (u uneven) check(t *testing.T) {
	ids := devices(300)
	g := newRig(t, ids...)
	r := rand.New(rand.NewPCG(7, 11))
	var drawn []time.Duration
	g.hub.chaos = func(c call) (fault, bool) {
		if c.op != u.op {
			return fault{}, false
		}
		f := fault{takes: u.draw(r)}
		drawn = append(drawn, f.takes)
		return f, true
	}
	jobs := []spec.Job{u.job("all", func(j *spec.Job) { j.Concurrency = 64 })}
	if u.canary > 0 {
		jobs = append(jobs, u.job("canary", named(ids[:u.canary]...)))
		jobs[0].Needs = []spec.Need{{Job: "canary", If: spec.NeedSucceeded}}
	}
	res := g.apply(context.Background(), jobs...)
	all := res.job(t, "all")
	took := all.EndedAt.Sub(all.StartedAt.Time)
	allowed := allows(drawn[u.canary:], 64)
	t.Logf("%.2f of what the concurrency allows", took.Seconds()/allowed.Seconds())
	if took > allowed*12/10 {
		t.Errorf("took %v, and the concurrency allows %v", took, allowed)
	}
	if waited := res.report.Summary.ThrottledMs; waited != 0 {
		t.Errorf("throttledMs = %d, and nothing was refused", waited)
	}
}

// allows is how long calls take of which so many are under way at once.
func allows(takes []time.Duration, concurrency int) time.Duration {
	free := make([]time.Duration, concurrency)
	for _, d := range takes {
		first := slices.Index(free, slices.Min(free))
		free[first] += d
	}
	return slices.Max(free)
}

// TestLatencyIsTheHubs: what the disk takes to record an intent is not what a
// device takes to answer.
func TestLatencyIsTheHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.disk.stall = 2 * time.Second
		g.hub.takes[opInvoke], g.hub.takes[opPatch] = 30*time.Millisecond, 40*time.Millisecond
		res := g.apply(context.Background(), method("m", serial), update("u", `{"floor":3}`, ""))
		for name, want := range map[string]int64{"m": 30, "u": 40} {
			if got := res.job(t, name).LatencyMs; got.P50 != want || got.Max != want {
				t.Errorf("job %s: latencyMs %+v, want %d: the rest is the journal's", name, got, want)
			}
			row := res.row(t, name, "device-000000")
			if took := row.EndedAt.Sub(row.StartedAt.Time).Milliseconds(); took != want {
				t.Errorf("job %s: the row's request took %d ms, want %d", name, took, want)
			}
		}
	})
}

// TestWaitsAreToldApart: a hub's published throttle is one reason to wait, its
// refusals are another.
func TestWaitsAreToldApart(t *testing.T) {
	tests := map[string]struct {
		size             spec.Hub
		refusals         int
		throttled, paced bool
	}{
		"unknown size":          {},
		"known size":            {size: spec.Hub{SKU: "S1", Units: 1}, paced: true},
		"unknown size, refused": {refusals: 1, throttled: true},
		"known size, refused":   {size: spec.Hub{SKU: "S1", Units: 1}, refusals: 1, throttled: true, paced: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(100)...)
				g.size = tt.size
				g.hub.takes[opInvoke] = 100 * time.Millisecond
				for nth := range tt.refusals {
					g.hub.on(opInvoke, "device-000050", nth+1, refused(throttled(5*time.Second)))
				}
				s := g.apply(context.Background(), method("m", func(j *spec.Job) { j.Concurrency = 64 })).report.Summary
				if (s.ThrottledMs > 0) != tt.throttled || (s.PacedMs > 0) != tt.paced {
					t.Errorf("throttledMs %d pacedMs %d, want %v, %v", s.ThrottledMs, s.PacedMs, tt.throttled, tt.paced)
				}
			})
		})
	}
}
