package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// pin previews the jobs and returns the file that pins what it saw.
func (g *rig) pin(jobs ...spec.Job) []byte {
	g.Helper()
	g.plan = &spec.Plan{
		File: "plan.yaml", SHA256: strings.Repeat("ab", 32), Version: 1, Name: "test", Jobs: jobs,
		Vars: map[string]string{"a": "1", "pw": "secret"}, Sensitive: []string{"pw"},
	}
	var file bytes.Buffer
	o := preview.Options{Runner: "test", Hubs: g.hubs()}
	w, err := preview.NewPinWriter(&file, g.plan, []byte("the text"), o)
	if err != nil {
		g.Fatalf("NewPinWriter: %v", err)
	}
	o.Pin = w
	if _, err := preview.Make(context.Background(), g.plan, o); err != nil {
		g.Fatalf("Preview: %v", err)
	}
	if err := w.Close(); err != nil {
		g.Fatalf("Close of the pinned preview: %v", err)
	}
	return file.Bytes()
}

// applyPinned runs what a file pins.
func (g *rig) applyPinned(file []byte, jobs ...spec.Job) result {
	g.Helper()
	g.readPinned(file, jobs...)
	return g.apply(context.Background(), jobs...)
}

// readPinned makes the next run one of what a file pins. Jobs are held against
// it if they are given.
func (g *rig) readPinned(file []byte, jobs ...spec.Job) {
	g.Helper()
	p, err := preview.ReadPinned(bytes.NewReader(file))
	if err != nil {
		g.Fatalf("ReadPinned: %v", err)
	}
	names := []string{"TEST.example"}
	if len(g.hubs()) > 1 {
		names = []string{"west", "EAST"}
	}
	if err := p.Check(&spec.Plan{SHA256: strings.Repeat("ab", 32), Jobs: jobs}, names); err != nil && len(jobs) > 0 {
		g.Fatalf("Check of the plan that was previewed: %v", err)
	}
	g.options.Pinned = p
}

func wantError(tb testing.TB, row spec.Row, kind string) {
	tb.Helper()
	if row.Outcome != spec.OutcomeSkipped || row.Error == nil || row.Error.Kind != kind {
		tb.Errorf("row %+v, want it skipped for %s", row, kind)
	}
}

// A run of a pinned preview touches the devices that are in it, if nobody has
// changed them since. Whoever joined or left has a row that says so.
func TestPinnedLeavesAloneWhatHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "kept", "changed", "right", "rightThenChanged", "leaves", "joins", "gone")
		right := `{"floor":3}`
		g.hub.set("right", right, `{}`)
		g.hub.set("rightThenChanged", right, `{}`)
		out := map[string]bool{"joins": true}
		g.hub.match["site"] = func(t hub.Target) bool { return !out[t.DeviceID] }
		site := func(j *spec.Job) { j.Target = spec.Target{Source: spec.SourceDevices, Where: "site", Text: "site"} }
		jobs := []spec.Job{update("move", right, "", site), method("lock", site)}
		file := g.pin(jobs...)

		g.hub.set("changed", `{"floor":1}`, `{}`)
		g.hub.set("rightThenChanged", `{"floor":1}`, `{}`)
		delete(g.hub.twins, device("gone"))
		g.hub.order = slices.DeleteFunc(g.hub.order, func(t hub.Target) bool { return t.DeviceID == "gone" })
		out = map[string]bool{"leaves": true}
		res := g.applyPinned(file, jobs...)

		wantOutcomes(t, res.job(t, "move"), spec.StatusSucceeded, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 1, spec.OutcomeUnchanged: 1, spec.OutcomeSkipped: 5,
		})
		wantError(t, res.row(t, "move", "changed"), "changedSincePreview")
		wantError(t, res.row(t, "move", "rightThenChanged"), "changedSincePreview")
		for _, job := range []string{"move", "lock"} {
			wantError(t, res.row(t, job, "leaves"), "leftSincePreview")
			wantError(t, res.row(t, job, "gone"), "leftSincePreview")
			wantError(t, res.row(t, job, "joins"), "joinedSincePreview")
			if want := "since the preview 1 joined the target and 2 left it; they were not touched"; res.job(t, job).Reason != want {
				t.Errorf("reason of job %s: %q, want %q", job, res.job(t, job).Reason, want)
			}
		}
		wantOutcomes(t, res.job(t, "lock"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 4, spec.OutcomeSkipped: 3})
	})
}

// A target that nobody is in any more ends a run, but not one of a preview that
// names who was: they are left alone, and the other jobs go on.
func TestPinnedLeavesAloneATargetThatAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a", "b", "stays")
		left := false
		g.hub.match["site"] = func(t hub.Target) bool { return !left && t.DeviceID != "stays" }
		site := func(j *spec.Job) { j.Target = spec.Target{Source: spec.SourceDevices, Where: "site", Text: "site"} }
		some := func(j *spec.Job) { site(j); j.Target.Limit = 5 }
		jobs := []spec.Job{update("move", `{"floor":3}`, "", site), method("lock", some), method("other", named("stays"))}
		file := g.pin(jobs...)
		left = true
		res := g.applyPinned(file, jobs...)
		for _, job := range []string{"move", "lock"} {
			wantOutcomes(t, res.job(t, job), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSkipped: 2})
			wantError(t, res.row(t, job, "a"), "leftSincePreview")
			if want := "since the preview 2 left the target; they were not touched"; res.job(t, job).Reason != want {
				t.Errorf("reason of job %s: %q, want %q", job, res.job(t, job).Reason, want)
			}
		}
		wantOutcomes(t, res.job(t, "other"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
	})
}

// The changes that the run makes itself are not somebody else's, however its
// jobs meet on a twin.
func TestPinnedKnowsItsOwnChanges(t *testing.T) {
	tests := []struct {
		name  string
		delay time.Duration
		lost  bool // the answers of the first patches
	}{
		{name: "one after the other", delay: time.Minute},
		{name: "at once"},
		{name: "with answers that are lost", lost: true},
		{name: "with answers that are lost, one after the other", lost: true, delay: time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(20)...)
				g.hub.takes[opPatch], g.hub.takes[opRead] = 700*time.Millisecond, 90*time.Millisecond
				jobs := []spec.Job{update("one", `{"floor":3}`, ""), update("two", "", `{"site":"B"}`, delay(tt.delay)), method("lock")}
				for i := range jobs {
					jobs[i].Retry.Attempts = 9
					jobs[i].Retry.Backoff, jobs[i].Retry.MaxBackoff = time.Second, 2*time.Second
				}
				file := g.pin(jobs...)
				if tt.lost {
					for _, id := range devices(10) {
						g.hub.on(opPatch, id, 1, acted(kind(hub.KindCut)))
					}
				}
				res := g.applyPinned(file, jobs...)
				for _, j := range res.report.Jobs {
					wantOutcomes(t, j, spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 20})
				}
			})
		})
	}
}

// Somebody who writes while the run does is noticed, also by the etag of the
// patch itself.
func TestPinnedNoticesAWriterInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a", "b")
		job := update("move", `{"floor":3}`, "")
		file := g.pin(job)
		g.hub.on(opPatch, "a", 1, fault{before: func(t *fakeTwin) { t.version++ }})
		res := g.applyPinned(file, job)
		wantError(t, res.row(t, "move", "a"), "changedSincePreview")
		wantOutcomes(t, res.job(t, "move"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeSkipped: 1})
	})
}

// A limit says how many, not who. Those beyond it have not joined.
func TestPinnedWithALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		limit := func(j *spec.Job) { j.Target.Limit = 3 }
		file := g.pin(method("lock", limit))
		g.hub.order = append(g.hub.order[5:], g.hub.order[:5]...) // another order, as hubs may list
		res := g.applyPinned(file, method("lock", limit))
		wantOutcomes(t, res.job(t, "lock"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 3})
		res.row(t, "lock", "device-000002")
	})
}

// When too few are left of what was previewed, nothing is sent.
func TestPinnedKeepsExpectations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(4)...)
		job := method("lock", func(j *spec.Job) { j.Target.Expect.Min = 3 })
		file := g.pin(job)
		g.hub.order = g.hub.order[2:]
		res := g.applyPinned(file, job)
		if j := res.job(t, "lock"); j.Status != spec.StatusStopped || j.Outcomes[spec.OutcomeNotReached] != 2 || len(g.hub.of(opInvoke, "")) > 0 {
			t.Errorf("job is %s with %v and %d calls, want it stopped and nothing sent", j.Status, j.Outcomes, len(g.hub.of(opInvoke, "")))
		}
	})
}

// A run of a pinned preview that dies at any byte of its journal goes on as
// that: its own patches are not taken for somebody else's, also where two jobs
// were patching one device at the same moment.
func TestPinnedResumes(t *testing.T) {
	t.Parallel()
	whole := 0
	run := func(t *testing.T, limit int, later time.Duration) {
		t.Helper()
		jobs := func() []spec.Job {
			return []spec.Job{
				update("two", "", `{"site":"B"}`, delay(later)), update("one", `{"floor":3}`, ""), method("lock", idempotent),
			}
		}
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, devices(6)...)
			g.hub.takes[opPatch] = time.Second
			file := g.pin(jobs()...)
			g.hub.order = append(g.hub.order, device("new"))
			g.hub.twins[device("new")] = &fakeTwin{version: 1, desired: []byte(`{}`), tags: []byte(`{}`)}
			g.disk.limit = limit
			g.applyPinned(file, jobs()...)
			g.disk.limit = 0
			if limit == 0 {
				whole = len(g.disk.data)
				return
			}
			res := g.applyPinned(file, jobs()...)
			for _, j := range res.report.Jobs {
				if j.Outcomes[spec.OutcomeSucceeded] != 6 || j.Outcomes[spec.OutcomeSkipped] != 1 {
					t.Errorf("died at byte %d: job %s: %v, want 6 succeeded and the new one skipped", limit, j.Name, j.Outcomes)
				}
			}
		})
	}
	for _, later := range []time.Duration{0, time.Second, 2 * time.Second} {
		run(t, 0, later)
		for limit := 250; limit < whole; limit += 197 {
			run(t, limit, later)
		}
	}
}

// Whatever the fleet and the jobs, a run changes what the preview said and
// nothing else, with or without a file in between.
func TestApplyDoesWhatPreviewSaid(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			g := randomFleet(t, r)
			jobs := pinnableJobs(r)
			f := g.preview(preview.Options{}, jobs...)
			var res result
			if seed%2 == 0 {
				res = g.applyPinned(g.pin(jobs...), jobs...)
			} else {
				res = g.apply(context.Background(), jobs...)
			}
			for i, j := range res.report.Jobs {
				said := f.Jobs[i]
				did := map[string]int{}
				for _, row := range j.Devices {
					did[effectOf(row)]++
				}
				want := map[string]int{}
				for _, group := range said.Groups {
					want[sayingOf(&group)] += group.Count
				}
				if diff := cmp.Diff(want, did); diff != "" {
					t.Errorf("seed %d, job %s (-said +did):\n%s", seed, j.Name, diff)
				}
			}
			effects := 0
			for _, c := range append(g.hub.of(opPatch, ""), g.hub.of(opInvoke, "")...) {
				if c.executed {
					effects++
				}
			}
			if want := f.Summary.Changes + f.Summary.Calls; effects != want {
				t.Errorf("seed %d: %d requests changed something, the preview said %d", seed, effects, want)
			}
		})
	}
}

func effectOf(row spec.Row) string {
	switch {
	case row.Twin != nil && row.Twin.Patch != nil:
		return fmt.Sprintf("%s %s -> %s %s", row.Twin.Before.Desired, row.Twin.Before.Tags, row.Twin.Patch.Desired, row.Twin.Patch.Tags)
	case row.Outcome == spec.OutcomeUnchanged:
		return "unchanged"
	case row.Method != nil:
		return "called"
	}
	return "failed"
}

func sayingOf(g *preview.Group) string {
	switch kindOf(g) {
	case "change":
		return fmt.Sprintf("%s %s -> %s %s", g.Before.Desired, g.Before.Tags, g.Patch.Desired, g.Patch.Tags)
	case "call":
		return "called"
	case "failing":
		return "failed"
	}
	return "unchanged"
}

func randomFleet(t *testing.T, r *rand.Rand) *rig {
	t.Helper()
	ids := devices(5 + r.IntN(60))
	g := newRig(t, ids...)
	g.hub.pageSize = 1 + r.IntN(30)
	for _, id := range ids {
		g.hub.set(id, fmt.Sprintf(`{"floor":%d,"a":{"b":%d,"$c":"x"}}`, r.IntN(3), r.IntN(2)), fmt.Sprintf(`{"site":"%c"}`, 'A'+rune(r.IntN(2))))
	}
	for _, where := range []string{"even", "low"} {
		g.hub.match[where] = func(t hub.Target) bool {
			n := t.DeviceID[len(t.DeviceID)-1] - '0'
			return where == "even" && n%2 == 0 || where == "low" && n < 4
		}
	}
	return g
}

func pinnableJobs(r *rand.Rand) []spec.Job {
	aim := func(j *spec.Job) {
		switch r.IntN(5) {
		case 0:
			j.Target = spec.Target{Source: spec.SourceDevices, Where: "even", AllowEmpty: true}
		case 1:
			j.Target = spec.Target{Source: spec.SourceDevices, Where: "low", Devices: deviceIDs([]string{"device-000003", "device-000004", "device-000009", "nobody"})}
		case 2:
			j.Target.Limit = 1 + r.IntN(20)
		case 3:
			j.Target.Exclude = idList(devices(r.IntN(5)))
		}
	}
	pick := func(choices ...string) string { return choices[r.IntN(len(choices))] }
	jobs := []spec.Job{
		update("twin", pick(`{"floor":1}`, `{"floor":2,"new":{"deep":[1,null]}}`, `{"a":{"b":1}}`, `{"a":null,"floor":0}`), pick("", `{"site":"A"}`), aim),
		method("call", aim),
	}
	r.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
	return jobs
}

// A file that was cut anywhere, or edited anywhere, pins nothing.
func TestReadPinnedRefusesDamage(t *testing.T) {
	g := newRig(t, devices(3)...)
	file := g.pin(update("move", `{"floor":3}`, ""), method("lock"))
	if want := `],"end":{"lock":3,"move":3},"sha256":"`; !bytes.Contains(file, []byte("\n"+want)) || !json.Valid(file) {
		t.Errorf("the file does not end with %s, or is not JSON:\n%s", want, file)
	}
	for cut := range file {
		if _, err := preview.ReadPinned(bytes.NewReader(file[:cut])); err == nil {
			t.Errorf("a file that was cut at byte %d of %d was read", cut, len(file))
		}
	}
	for at := range file {
		edited := slices.Clone(file)
		edited[at] ^= 1
		p, err := preview.ReadPinned(bytes.NewReader(edited))
		if err == nil && at < bytes.LastIndex(file, []byte(`],"end"`)) {
			t.Errorf("a file with another byte at %d was read: %+v", at, p.Header)
		}
	}
}

func TestReadPinnedSaysWhatIsWrong(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "it ends before its last line"},
		{"version: 1\n", "line 1: it is not a pinned preview"},
		{"{\n  \"schema\": \"runner/pinned/v2\",\n", "line 1: it"},
		{`{"schema": "runner/pinned/v2"}` + "\n", "it ends before its last line"},
		{`{"schema":"runner/pinned/v9"}` + "\n", `line 1: it has the schema "runner/pinned/v9", this runner reads "runner/pinned/v2"`},
		{`{"schema":"runner/pinned/v2","targets":[` + "\n{\n", "line 2: it is not as it was written"},
		{`{"schema":"runner/pinned/v2","targets":[` + "\n" + `{"job":"x"}` + "\n", `line 2: there is no job "x" in it`},
	}
	for _, tt := range tests {
		_, err := preview.ReadPinned(strings.NewReader(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ReadPinned(%q) = %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestPinnedIsOfOnePlan(t *testing.T) {
	g := newRig(t, "a")
	move := update("move", `{"floor":3}`, "")
	p, err := preview.ReadPinned(bytes.NewReader(g.pin(move, method("lock"))))
	if err != nil {
		t.Fatal(err)
	}
	if want := (map[string]string{"a": "1"}); !maps.Equal(p.Header.Vars, want) || p.Header.Plan.Text != "the text" {
		t.Errorf("header %+v, want the vars %v and the text", p.Header, want)
	}
	same := strings.Repeat("ab", 32)
	tests := []struct {
		name string
		sum  string
		jobs []spec.Job
		hubs []string
		want string
	}{
		{name: "same", sum: same, jobs: []spec.Job{move, method("lock")}, hubs: []string{"test.example"}},
		{name: "another text", sum: "cd", jobs: []spec.Job{move, method("lock")}, hubs: []string{"test.example"}, want: `the plan file "" has changed`},
		{name: "fewer jobs", sum: same, jobs: []spec.Job{move}, hubs: []string{"test.example"}, want: "the jobs of the plan have changed"},
		{name: "another payload", sum: same, jobs: []spec.Job{move, method("lock", func(j *spec.Job) { j.Method.Payload = []byte(`1`) })}, hubs: []string{"test.example"}, want: `job "lock": what runner makes of it has changed since`},
		{name: "another hub", sum: same, jobs: []spec.Job{move, method("lock")}, hubs: []string{"other.example"}, want: "the pinned preview was made on hub test.example"},
	}
	for _, tt := range tests {
		err := p.Check(&spec.Plan{SHA256: tt.sum, Jobs: tt.jobs}, tt.hubs)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Check = %v, want %q", tt.name, err, tt.want)
		}
	}
}

// A pinned preview that cannot be written ends the preview.
func TestPreviewWithoutRoomForThePin(t *testing.T) {
	g := newRig(t, devices(5000)...)
	g.plan = &spec.Plan{Name: "test", Jobs: []spec.Job{method("lock")}}
	o := preview.Options{Hubs: []target.NamedHub{{Name: "test.example", Hub: g.hub}}}
	w, err := preview.NewPinWriter(fullDisk{}, g.plan, nil, o)
	if err != nil {
		t.Fatalf("NewPinWriter: %v", err)
	}
	o.Pin = w
	_, err = preview.Make(context.Background(), g.plan, o)
	if pin, ok := errors.AsType[*preview.PinError](err); !ok || !errors.Is(pin, errDiskFull) {
		t.Errorf("Preview: %v, want a PinError of the full disk", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errDiskFull }

// A call that is filled in from the twin is made if it is still the one that
// the preview showed, whatever else has changed in the twin.
func TestPinnedHoldsToWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := templated(t, `{name: lock, type: directMethod, target: {all: true}, method: lockDoor, payload: {door: "${device.id}", site: "${device.tags.site}"}}`)
		g := newRig(t, "same", "other", "moved", "bare")
		for _, id := range []string{"same", "other", "moved"} {
			g.hub.set(id, `{}`, `{"site":"A"}`)
		}
		f := g.preview(preview.Options{}, lock)
		if f.Summary.Calls != 3 || f.Summary.Failing != 1 || f.Jobs[0].Groups[0].Error != "the device's tags.site is missing" {
			t.Errorf("preview: %+v, want three calls and one device without a site: %+v", f.Summary, f.Jobs[0].Groups)
		}
		if want := `{"door":"moved","site":"A"}`; !slices.ContainsFunc(f.Jobs[0].Groups, func(g preview.Group) bool { return g.Call != nil && string(g.Call.Payload) == want }) {
			t.Errorf("groups %+v, want one with the payload %s", f.Jobs[0].Groups, want)
		}
		file := g.pin(lock)
		g.hub.set("other", `{}`, `{"site":"A","more":1}`)
		g.hub.set("moved", `{}`, `{"site":"B"}`)
		res := g.applyPinned(file, lock)
		wantError(t, res.row(t, "lock", "moved"), "changedSincePreview")
		wantOutcomes(t, res.job(t, "lock"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeSucceeded: 2, spec.OutcomeSkipped: 1, spec.OutcomeFailed: 1})
	})
}
