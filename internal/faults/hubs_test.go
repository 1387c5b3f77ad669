package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// TestHubDies runs a plan over two hubs that have devices of the same names, and ends
// one of them half way. Every row is true of its own hub, the other hub's part is
// whole, and when the hub is back the run goes on with what was left.
func TestHubDies(t *testing.T) {
	for _, defaults := range []string{"concurrency: 16", "concurrency: 16, rollout: {waves: [10%, 50%, 100%]}"} {
		t.Run(defaults, func(t *testing.T) {
			const each = 300
			w := world{each: each, method: ", latency: 20ms"}
			west, east := w.start(t), w.start(t)
			r := &twoHubs{plan: parsePlan(t, planText(defaults)), journal: filepath.Join(t.TempDir(), "journal.ndjson")}
			r.hubs[0], r.hubs[1] = west, east
			killed := make(chan struct{})
			go func() {
				defer close(killed)
				for executed(east) < each {
					time.Sleep(time.Millisecond) // until it has done about a third
				}
				_ = east.Close()
			}()
			rep := r.carryOut(t)
			<-killed
			for i := range rep.Jobs {
				lost := map[string]int{}
				for j := range rep.Jobs[i].Devices {
					row := &rep.Jobs[i].Devices[j]
					if wrong := wrongRow(r.of(row.Hub), rep.Jobs[i].Name, row); wrong != "" {
						t.Errorf("job %s, %s of %s: %s", rep.Jobs[i].Name, row.DeviceID, row.Hub, wrong)
					}
					if row.Outcome == spec.OutcomeFailed {
						lost[row.Hub]++
					}
				}
				job := &rep.Jobs[i]
				if whole := job.Targets == 2*each; whole == (job.Listing == spec.ListingIncomplete) || lost["west"] > 0 {
					t.Errorf("job %s: %d targets, listing %q, %v failed; want %d or an incomplete listing, and none in the west", job.Name, job.Targets, job.Listing, lost, 2*each)
				}
			}
			if h := rep.Summary.Hubs; h[0].Lost != "" || h[1].Lost == "" || h[1].Outcomes[spec.OutcomeFailed] == 0 {
				t.Fatalf("the totals of the hubs: %+v; want east lost, with devices that failed", h)
			}
			back := w.start(t)
			r.hubs[1] = back
			again := r.carryOut(t)
			for i := range again.Jobs {
				if n := again.Jobs[i].Outcomes[spec.OutcomeFailed] + again.Jobs[i].Outcomes[spec.OutcomeNotReached]; n > 0 || again.Jobs[i].Targets != 2*each {
					t.Errorf("job %s: %d of %d devices are still to be done", again.Jobs[i].Name, n, again.Jobs[i].Targets)
				}
			}
			for _, id := range idsOf(roleOnce, each) {
				if n := east.Executed(id).Methods + back.Executed(id).Methods; n > 1 || west.Executed(id).Methods != 1 {
					t.Errorf("%s was called %d times in the east and %d in the west", id, n, west.Executed(id).Methods)
				}
			}
		})
	}
}

func executed(h *emulator.Server) (n int) {
	for _, e := range h.EachExecuted {
		n += e.Methods + e.Patches
	}
	return n
}

// twoHubs is a plan on two hubs, west and east.
type twoHubs struct {
	plan    *spec.Plan
	hubs    [2]*emulator.Server
	journal string
}

func (r *twoHubs) of(name string) *emulator.Server {
	if name == "west" {
		return r.hubs[0]
	}
	return r.hubs[1]
}

// carryOut begins the run, or goes on with it, and returns its report.
func (r *twoHubs) carryOut(tb testing.TB) (rep spec.Report) {
	tb.Helper()
	past := runner.NewPast()
	w, err := journal.Open(r.journal, journal.Batch, past.Visit)
	if err != nil {
		past = nil
		w, err = journal.Create(r.journal, journal.Header{Run: "run", Plan: r.plan.Name, Hubs: []string{"west", "east"}, StartedAt: time.Now()}, journal.Batch)
	}
	if err != nil {
		tb.Fatal(err)
	}
	done, err := runner.Apply(context.Background(), r.plan, runner.Options{
		Hubs:    []target.NamedHub{{Name: "west", Hub: newClient(tb, r.hubs[0], r.plan)}, {Name: "east", Hub: newClient(tb, r.hubs[1], r.plan)}},
		Journal: w, RunID: "run", Past: past, Outage: 2 * time.Second,
	})
	if err != nil {
		tb.Fatal(err)
	}
	var text bytes.Buffer
	if err := done.WriteReport(&text, 1); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text.Bytes(), &rep); err != nil {
		tb.Fatal(err)
	}
	return rep
}
