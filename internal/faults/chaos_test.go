package faults_test

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

var chaosRuns = flag.Int("chaos", 200, "how many runs go over connections that break")

// patient outlasts connections that break: many attempts, close to each other.
const patient = "concurrency: 8, retry: {attempts: 40, backoff: 1ms, maxBackoff: 5ms}"

// TestChaos carries plans out through a proxy that does to connections what
// networks do, by a seed: it cuts them at any byte, the TLS handshake's as well,
// ends one direction, swallows, holds, spoils, repeats and swaps bytes, or passes
// them on one by one. Each row must say what its device did.
func TestChaos(t *testing.T) {
	source := seedOfRuns()
	for n := range *chaosRuns {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			const each = 10
			hub := world{each: each}.start(t)
			r := chaoticRun(t, hub, source+uint64(n))
			rep, _ := r.apply(context.Background(), t)
			checkListed(t, hub, each, rep)
			checkRows(t, hub, rep)
			if t.Failed() {
				t.Logf("-seed %d", source+uint64(n))
			}
		})
	}
}

// TestChaosOfTwo has two runs change the same devices at once, over such
// connections. What a device did is what both reports say together.
func TestChaosOfTwo(t *testing.T) {
	source := seedOfRuns()
	for n := range max(1, *chaosRuns/10) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			const each = 10
			hub := world{each: each}.start(t)
			var reports [2]spec.Report
			var running sync.WaitGroup
			for i := range reports {
				r := chaoticRun(t, hub, source+uint64(2*n+i))
				running.Go(func() { reports[i], _ = r.apply(context.Background(), t) })
			}
			running.Wait()
			checkTogether(t, hub, each, reports)
			if t.Failed() {
				t.Logf("-seed %d", source+uint64(2*n))
			}
		})
	}
}

// chaoticRun is a run whose connections break.
func chaoticRun(tb testing.TB, hub *emulator.Server, seed uint64) *run {
	tb.Helper()
	plan := parsePlan(tb, planText(patient))
	proxy := startBreaker(tb, hub.HTTPSAddr(), seed)
	connection := strings.Replace(hub.ConnectionString(), hub.HostName(), "localhost:"+proxy.port(), 1)
	return &run{
		hub: hub, plan: plan, client: connect(tb, hub, connection, plan), journal: filepath.Join(tb.TempDir(), "journal.ndjson"),
		change: func(o *runner.Options) { o.Outage = time.Minute },
	}
}

// checkListed holds a report to its devices: all of them have a row, or the report
// says that they could not be listed, and then who has none did nothing.
func checkListed(tb testing.TB, hub *emulator.Server, each int, reports ...spec.Report) {
	tb.Helper()
	listed := map[string]bool{}
	for _, rep := range reports {
		for i := range rep.Jobs {
			job := &rep.Jobs[i]
			if job.Listing != spec.ListingIncomplete {
				checkComplete(tb, each, job)
			} else if job.Status == spec.StatusSucceeded {
				tb.Errorf("job %s succeeded, and its devices could not be listed", job.Name)
			}
			for j := range job.Devices {
				listed[job.Devices[j].DeviceID] = true
			}
		}
	}
	for id, e := range hub.EachExecuted {
		if !listed[id] {
			tb.Errorf("%s has no row and executed %+v", id, e)
		}
	}
}

// checkTogether holds the rows of two runs against what each device did.
func checkTogether(tb testing.TB, hub *emulator.Server, each int, reports [2]spec.Report) {
	tb.Helper()
	checkListed(tb, hub, each, reports[:]...)
	for i := range reports[0].Jobs {
		name := reports[0].Jobs[i].Name
		one, other := &reports[0].Jobs[i], &reports[1].Jobs[i]
		if len(one.Devices) != len(other.Devices) {
			continue // one of them could not list its devices
		}
		for j := range one.Devices {
			a, b := &one.Devices[j], &other.Devices[j]
			e := hub.Executed(a.DeviceID)
			leastA, mostA := bounds(a.Outcome, mostCalls(name, a))
			leastB, mostB := bounds(b.Outcome, mostCalls(name, b))
			acted, least, most := e.Methods, leastA+leastB, mostA+mostB
			if name == roleTwin { // who lost its answer and finds what it wanted cannot know whose patch it was
				acted, least = e.Patches, max(leastA, leastB)
			}
			if acted < least || acted > most {
				tb.Errorf("%s is %s and %s, but acted %d times, want %d to %d", a.DeviceID, a.Outcome, b.Outcome, acted, least, most)
			}
		}
	}
}
