package runner_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// patient waits for devices as plans do that say nothing of their retries.
func patient(j *spec.Job) {
	j.Offline = spec.OfflineWait
	j.Retry = spec.Retry{Attempts: 4, Backoff: time.Second, MaxBackoff: time.Minute}
}

// Of the devices that are due, who the hub heard of last goes first; also where the
// cohort is listed before anything is sent.
func TestHeardOfLastGoesFirst(t *testing.T) {
	for name, change := range map[string]func(*spec.Job){
		"as it is listed":   func(*spec.Job) {},
		"listed beforehand": func(j *spec.Job) { j.Target.Expect.Min = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ids := devices(6)
				g := newRig(t, ids...)
				g.hub.takes = nil
				g.hub.heard = map[string]time.Time{}
				for i, hours := range []int{30, 2, 700, 1, 30} { // the last was never heard of
					g.hub.heard[ids[i]] = time.Now().Add(-time.Duration(hours) * time.Hour)
				}
				g.hub.on(opInvoke, "", 1, refused(hinted(offline(), time.Minute)))
				g.apply(context.Background(), method("m", patient, serial, deadline(time.Hour), change))
				var order []string
				for _, c := range g.hub.of(opInvoke, "") {
					order = append(order, c.target.DeviceID)
				}
				want := append(slices.Clone(ids), ids[3], ids[1], ids[0], ids[4], ids[2], ids[5])
				if !slices.Equal(order, want) {
					t.Errorf("called %v, want %v", order, want)
				}
			})
		})
	}
}

// A device that stays away is left alone for longer and longer, up to minutes.
func TestWaitsGrowToMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 50
		g := newRig(t, devices(size)...)
		g.hub.on(opInvoke, "", 0, refused(offline()))
		res := g.apply(context.Background(), method("m", patient, deadline(4*time.Hour)))
		wantOutcomes(t, res.job(t, "m"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeOffline: size})
		late, longest := 0, time.Duration(0)
		for _, id := range devices(size) {
			starts := g.hub.starts(opInvoke, id)
			for i, at := range starts {
				if at > time.Hour && at <= 2*time.Hour {
					late++
				}
				if i > 0 {
					longest = max(longest, at-starts[i-1])
				}
			}
			if starts[1] > 2*time.Second {
				t.Errorf("%s is tried again after %v, want about a second", id, starts[1])
			}
		}
		if late > 20*size || late < 10*size {
			t.Errorf("%d calls of %d devices in an hour, want about 16 of each", late, size)
		}
		if longest > 5*time.Minute {
			t.Errorf("a device was left alone for %v, want at most 5m", longest)
		}
		calls := len(g.hub.of(opInvoke, ""))
		if each := len(g.disk.data) / calls; each > 700 {
			t.Errorf("%d bytes of journal for each call, want at most 700", each)
		}
	})
}

// What is known of a device that is waited for is known when it comes back.
func TestWhoWasWaitedForHasItsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.fail(opInvoke, "door-1", refused(offline()), refused(offline()), refused(kind(hub.KindNotSent)))
		row := g.apply(context.Background(), method("m", patient, deadline(time.Hour))).row(t, "m", "door-1")
		if row.Outcome != spec.OutcomeSucceeded || row.Attempts != 4 || !row.StartedAt.Equal(g.hub.begin) {
			t.Errorf("row %+v, want success at the fourth attempt, begun at once", row)
		}
		last := row.History[len(row.History)-1]
		offline := row.History[0]
		if last.Attempt != 4 || last.Error != nil || offline.Error == nil || offline.Error.Code != 404103 || offline.Error.TrackingID == "" {
			t.Errorf("history %+v, want what the hub answered each time", row.History)
		}
	})
}

// A stop finds those that are waited for as they were left, and a resume goes on
// with them.
func TestWhoWasWaitedForIsResumed(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *rig, spec.Job) result{
		"interrupted": func(t *testing.T, g *rig, job spec.Job) result {
			t.Helper()
			return g.apply(interruptAt(t, 10*time.Minute), job)
		},
		"deadline": func(t *testing.T, g *rig, job spec.Job) result {
			t.Helper()
			job.Deadline = 10 * time.Minute
			return g.apply(context.Background(), job)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(20)...)
				g.hub.between(0, 15*time.Minute, offline(), opInvoke)
				job := method("m", patient, deadline(5*time.Hour))
				res := end(t, g, job)
				row := res.row(t, "m", "device-000003")
				want := map[string]spec.Outcome{"interrupted": spec.OutcomeNotReached, "deadline": spec.OutcomeOffline}[name]
				if row.Outcome != want || row.Attempts < 8 || errorKind(row) != "offline" || len(row.History) == 0 {
					t.Errorf("row %+v, want %s after several attempts", row, want)
				}
				if row.Outcome == spec.OutcomeOffline {
					g.options.Only = []spec.Outcome{spec.OutcomeOffline}
				}
				before := row.Attempts
				res = g.apply(context.Background(), job)
				wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 20})
				if row := res.row(t, "m", "device-000003"); row.Attempts <= before {
					t.Errorf("%d attempts, and there were %d before", row.Attempts, before)
				}
			})
		})
	}
}

// A journal that breaks while devices are waited for ends the run.
func TestJournalBreaksWhileDevicesAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(5)...)
		g.hub.on(opInvoke, "", 0, refused(offline()))
		g.disk.limit = 8 << 10
		res := g.apply(context.Background(), method("m", patient, deadline(5*time.Hour)))
		if _, ok := errors.AsType[*runner.JournalError](res.run.Cause()); !ok {
			t.Errorf("Cause() = %v, want the journal's", res.run.Cause())
		}
		if !bytes.Contains(g.text, []byte("device-000004")) {
			t.Error("a row is missing")
		}
	})
}

// A preview says what it may cost to wait, before it has.
func TestPreviewForecastsWaits(t *testing.T) {
	tests := map[string]struct {
		size    spec.Hub
		devices int
		change  func(*spec.Job)
		want    string
	}{
		"a day": {
			spec.Hub{SKU: "S1", Units: 1},
			100, deadline(24 * time.Hour),
			"job m waits for devices that are offline: one that stays away takes about 786 messages in 24h0m0s of the hub's quota of 400000 a day, so that 509 of them use it up",
		},
		"days": {
			spec.Hub{SKU: "S1", Units: 1},
			100, deadline(72 * time.Hour),
			"job m waits for devices that are offline: one that stays away takes about 786 messages in 24h0m0s of the hub's quota of 400000 a day, so that 509 of them use it up",
		},
		"a hub of unknown size": {
			spec.Hub{},
			100, deadline(24 * time.Hour),
			"job m waits for devices that are offline: one that stays away takes about 786 messages in 24h0m0s of the hub's quota, of which an S1 unit has 400000 a day, so that 509 of them use it up",
		},
		"a free hub, and an hour": {
			spec.Hub{SKU: "F1", Units: 1},
			100, deadline(time.Hour),
			"job m waits for devices that are offline: one that stays away takes about 50 messages in 1h0m0s of the hub's quota of 8000 a day, so that 160 of them use it up",
		},
		"few devices": {spec.Hub{SKU: "S1", Units: 1}, 3, deadline(24 * time.Hour), ""},
		"not waited for": {
			spec.Hub{SKU: "F1", Units: 1}, 100, func(j *spec.Job) { j.Offline = spec.OfflineFail }, "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(tt.devices)...)
				plan := &spec.Plan{Name: "test", Hub: tt.size, Jobs: []spec.Job{method("m", patient, tt.change)}}
				f, err := preview.Make(context.Background(), plan, preview.Options{Hubs: []target.NamedHub{{Name: "h", Hub: g.hub}}})
				if err != nil {
					t.Fatal(err)
				}
				if have := strings.Join(f.Warnings, "\n"); have != tt.want {
					t.Errorf("warnings:\n%s\nwant:\n%s", have, tt.want)
				}
			})
		})
	}
}
