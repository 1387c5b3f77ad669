package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// preview looks at the rig's hub, and checks what holds for every preview.
func (g *rig) preview(o preview.Options, jobs ...spec.Job) *preview.Forecast {
	g.Helper()
	f, err := g.tryPreview(o, jobs...)
	if err != nil {
		g.Fatalf("Preview: %v", err)
	}
	return f
}

func (g *rig) tryPreview(o preview.Options, jobs ...spec.Job) (*preview.Forecast, error) {
	g.Helper()
	g.plan = &spec.Plan{File: "plan.yaml", SHA256: strings.Repeat("ab", 32), Version: 1, Name: "test", Jobs: jobs, Hub: g.size}
	o.Hubs, o.Runner = []target.NamedHub{{Name: "test.example", Hub: g.hub}}, "test"
	f, err := preview.Make(context.Background(), g.plan, o)
	if n := len(g.hub.of(opPatch, "")) + len(g.hub.of(opInvoke, "")); n > 0 {
		g.Errorf("a preview sent %d patches and calls, want none", n)
	}
	if err == nil {
		checkForecast(g, f)
	}
	return f, err
}

// checkForecast fails the test if the numbers of a forecast do not add up.
func checkForecast(tb testing.TB, f *preview.Forecast) {
	tb.Helper()
	var sum preview.ForecastSummary
	for i := range f.Jobs {
		j := &f.Jobs[i]
		sum.Targets += j.Targets
		sum.Changes += j.Changes
		sum.Calls += j.Calls
		sum.Unchanged += j.Unchanged
		sum.Failing += j.Failing
		if j.Stopped+j.Error != "" {
			continue
		}
		counted := map[string]int{}
		for k := range j.Groups {
			g := &j.Groups[k]
			counted[kindOf(g)] += g.Count
			if len(g.Devices) == 0 || len(g.Devices) > g.Count || len(g.Devices) > 20 {
				tb.Errorf("job %s: a group of %d names %d devices", j.Name, g.Count, len(g.Devices))
			}
		}
		want := map[string]int{"change": j.Changes, "call": j.Calls, "unchanged": j.Unchanged, "failing": j.Failing}
		for kind, n := range want {
			if counted[kind] != n {
				tb.Errorf("job %s: the groups count %d %s, the job %d", j.Name, counted[kind], kind, n)
			}
		}
		if n := j.Changes + j.Calls + j.Unchanged + j.Failing; n != j.Targets {
			tb.Errorf("job %s: %d targets are accounted for, %d were found", j.Name, n, j.Targets)
		}
	}
	sum.Load = f.Summary.Load
	if diff := cmp.Diff(sum, f.Summary); diff != "" {
		tb.Errorf("the summary is not the sum of the jobs (-sum +summary):\n%s", diff)
	}
}

func kindOf(g *preview.Group) string {
	switch {
	case g.Error != "":
		return "failing"
	case g.Unchanged:
		return "unchanged"
	case g.Call != nil:
		return "call"
	}
	return "change"
}

func sectionsOf(desired, tags string) *spec.Sections {
	s := &spec.Sections{}
	if desired != "" {
		s.Desired = json.RawMessage(desired)
	}
	if tags != "" {
		s.Tags = json.RawMessage(tags)
	}
	return s
}

func TestPreviewGroupsWhatIsAlike(t *testing.T) {
	g := newRig(t, "a", "b", "c", "d")
	g.hub.set("a", `{"floor":1}`, `{}`)
	g.hub.set("b", `{"floor":1}`, `{"site":"x"}`)
	g.hub.set("c", `{"floor":3}`, `{"moved":true}`)
	f := g.preview(preview.Options{}, update("move", `{"floor":3}`, `{"moved":true}`), method("lock"))
	want := []preview.Group{
		{Count: 2, Devices: []string{"a", "b"}, Before: sectionsOf(`{"floor":1}`, `{"moved":null}`), Patch: sectionsOf(`{"floor":3}`, `{"moved":true}`)},
		{Count: 1, Devices: []string{"d"}, Before: sectionsOf(`{"floor":null}`, `{"moved":null}`), Patch: sectionsOf(`{"floor":3}`, `{"moved":true}`)},
		{Count: 1, Devices: []string{"c"}, Unchanged: true},
	}
	if diff := cmp.Diff(want, f.Jobs[0].Groups); diff != "" {
		t.Errorf("groups of the twin job (-want +have):\n%s", diff)
	}
	want = []preview.Group{{Count: 4, Devices: []string{"a", "b", "c", "d"}, Call: &preview.CallForecast{
		MethodName: "lock", Payload: json.RawMessage(`{"lockTime":"10m"}`), ResponseTimeoutInSeconds: 30,
	}}}
	if diff := cmp.Diff(want, f.Jobs[1].Groups); diff != "" {
		t.Errorf("groups of the method job (-want +have):\n%s", diff)
	}
	requests := map[string]int{"queries": 3, "twinReads": 1, "twinUpdates": 3, "methodCalls": 4}
	if diff := cmp.Diff(requests, f.Summary.Requests); diff != "" {
		t.Errorf("requests of a run (-want +have):\n%s", diff)
	}
	if !f.Changes() {
		t.Error("Changes() = false, want true")
	}
}

// Two jobs with one target are looked at with one listing, and no twin that the
// listing shows is read by itself.
func TestPreviewAsksLittle(t *testing.T) {
	g := newRig(t, devices(250)...)
	f := g.preview(preview.Options{}, update("move", `{"floor":3}`, ""), method("lock"), update("tag", "", `{"a":1}`))
	if n := len(g.hub.of(opQuery, "")); n != 3 {
		t.Errorf("%d queries for 250 devices, want 3", n)
	}
	if n := len(g.hub.of(opRead, "")); n != 0 {
		t.Errorf("%d twins were read, want none", n)
	}
	text := g.hub.of(opQuery, "")[0].query.Text
	if want := "SELECT deviceId, etag, tags, properties.desired AS desired FROM devices"; text != want {
		t.Errorf("query %q, want %q", text, want)
	}
	if n := f.Summary.Requests["queries"]; n != 10 {
		t.Errorf("a run makes %d queries by the forecast, want 3 for each job and 1 more", n)
	}
}

// Devices that the plan names are not in the listing: a few are read, many are
// queried, and those that the index does not know are read after all.
func TestPreviewOfNamedDevices(t *testing.T) {
	tests := []struct {
		name           string
		named          int
		queries, reads int
	}{
		{name: "few", named: 3, reads: 4},
		{name: "many", named: 150, queries: 2, reads: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ids := devices(tt.named)
			ids[0] = "it's"
			g := newRig(t, ids...)
			g.hub.match[""] = nil
			g.hub.matchIDs = true
			f := g.preview(preview.Options{}, update("move", `{"floor":3}`, "", named(append(ids, "nobody")...)))
			if n := len(g.hub.of(opQuery, "")); n != tt.queries {
				t.Errorf("%d queries, want %d", n, tt.queries)
			}
			if n := len(g.hub.of(opRead, "")); n != tt.reads {
				t.Errorf("%d reads of twins, want %d", n, tt.reads)
			}
			j := f.Jobs[0]
			if j.Changes != tt.named || j.Failing != 1 || j.Groups[0].Error != "hub answered 404001 DeviceNotFound" {
				t.Errorf("job: %+v, want %d changes, and nobody not found", j, tt.named)
			}
			if n := f.Summary.Requests["twinReads"]; n != tt.named {
				t.Errorf("a run reads %d twins by the forecast, want %d: each that the plan names", n, tt.named)
			}
		})
	}
}

// The index may be behind. The preview says so, and --direct looks past it.
func TestPreviewOfAStaleIndex(t *testing.T) {
	g := newRig(t, "old", "new")
	g.hub.freezeIndex()
	g.hub.set("new", `{"floor":3}`, `{}`)
	job := update("move", `{"floor":3}`, "")
	if f := g.preview(preview.Options{}, job); f.Summary.Changes != 2 || f.TwinsFrom != "index" {
		t.Errorf("by the index: %d changes from %q, want both", f.Summary.Changes, f.TwinsFrom)
	}
	f := g.preview(preview.Options{Direct: true}, job)
	if f.Summary.Changes != 1 || f.Summary.Unchanged != 1 || f.TwinsFrom != "twins" {
		t.Errorf("direct: %+v from %q, want one change", f.Summary, f.TwinsFrom)
	}
	if n := len(g.hub.of(opRead, "")); n != 2 {
		t.Errorf("%d twins were read, want 2", n)
	}
}

func TestPreviewOfWhatWouldNotRun(t *testing.T) {
	nobody := func(j *spec.Job) { j.Target = spec.Target{Source: spec.SourceDevices, Where: "nobody"} }
	expect := func(low, high int) func(*spec.Job) {
		return func(j *spec.Job) { j.Target.Expect = spec.Expect{Min: low, Max: high} }
	}
	yesterday := func(p spec.LatePolicy) func(*spec.Job) {
		return func(j *spec.Job) { j.At, j.IfLate = time.Now().Add(-time.Hour), p }
	}
	broken := func(j *spec.Job) { j.Target = spec.Target{Source: spec.SourceDevices, Where: "broken"} }
	tests := []struct {
		name    string
		change  func(*spec.Job)
		stopped string // of the job
		stops   bool   // the run
		err     string
	}{
		{name: "nobody", change: nobody, stopped: "matched no device", stops: true},
		{name: "too few", change: expect(9, 0), stopped: "matched 4 devices, expect.min is 9", stops: true},
		{name: "too many", change: expect(0, 3), stopped: "expect.max is 3", stops: true},
		{name: "late", change: yesterday(spec.LateFail), stopped: "had passed by 1h0m0s when the run started", stops: true},
		{name: "late and skipped", change: yesterday(spec.LateSkip), stopped: "and ifLate is skip"},
		{name: "late and run", change: yesterday(spec.LateRun)},
		{name: "query refused", change: broken, err: "HTTP 400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t, "a", "b", "c", "d")
			g.hub.match["nobody"] = func(hub.Target) bool { return false }
			f := g.preview(preview.Options{}, method("lock", tt.change), method("ring"))
			j := f.Jobs[0]
			if (tt.stopped == "") != (j.Stopped == "") || !strings.Contains(j.Stopped, tt.stopped) {
				t.Errorf("stopped %q, want %q", j.Stopped, tt.stopped)
			}
			if (f.Stopped() != nil) != tt.stops {
				t.Errorf("Stopped() = %v, want an error: %t", f.Stopped(), tt.stops)
			}
			if (tt.err == "") != (j.Error == "") || (f.Incomplete() == nil) != (tt.err == "") {
				t.Errorf("error %q and Incomplete() = %v, want %q", j.Error, f.Incomplete(), tt.err)
			}
			if tt.stopped+tt.err != "" && (j.Calls > 0 || len(j.Groups) > 0) {
				t.Errorf("job %+v would not run, but calls %d devices", j.Name, j.Calls)
			}
			others := 4
			if tt.name == "late" {
				others = 0 // no job begins
			}
			if f.Jobs[1].Calls != others {
				t.Errorf("the other job makes %d calls, want %d", f.Jobs[1].Calls, others)
			}
		})
	}
}

// A limit, a list of exceptions and a device that is both found and named are
// what they are in a run.
func TestPreviewSelectsLikeARun(t *testing.T) {
	select3 := func(j *spec.Job) {
		j.Target.Devices = deviceIDs([]string{"device-000001", "extra"})
		j.Target.Exclude = idList([]string{"device-000000"})
	}
	limited := func(j *spec.Job) { j.Target.Limit = 2 }
	g := newRig(t, append(devices(4), "extra")...)
	g.hub.pageSize = 2
	f := g.preview(preview.Options{}, method("all", select3), method("two", select3, limited))
	if n := f.Jobs[0].Calls; n != 4 {
		t.Errorf("%d calls, want 4: device-000000 is left out, none comes twice", n)
	}
	if n := len(g.hub.of(opQuery, "")); n != 3 {
		t.Errorf("%d queries for both jobs, want 3 pages of 2", n)
	}
	g.preview(preview.Options{}, method("two", limited))
	if n := len(g.hub.of(opQuery, "")); n != 4 {
		t.Errorf("%d queries more for the limited job, want 1: it needs no second page", n-3)
	}
	if want := []string{"device-000001", "device-000002"}; !slices.Equal(f.Jobs[1].Groups[0].Devices, want) {
		t.Errorf("devices of the limited job: %v, want %v", f.Jobs[1].Groups[0].Devices, want)
	}
}

func TestPreviewOfAnUnusableHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		g.hub.on(opPreflight, "", 0, refused(unauthorized()))
		_, err := g.tryPreview(preview.Options{}, method("lock"))
		if _, ok := errors.AsType[*target.HubError](err); !ok {
			t.Errorf("Preview of a hub that refuses us: %v, want a HubError", err)
		}
		g = newRig(t, "a")
		g.hub.on(opQuery, "", 2, refused(unauthorized()))
		g.hub.pageSize = 1
		_, err = g.tryPreview(preview.Options{}, update("u", `{"a":1}`, "", named("x")), method("lock"))
		if err != nil {
			t.Errorf("Preview with one query: %v", err)
		}
		g.plan.Hub.HostName = "other.example"
		_, err = preview.Make(context.Background(), g.plan, preview.Options{Hubs: []target.NamedHub{{Name: "test.example", Hub: g.hub}}})
		if _, ok := errors.AsType[*target.WrongHubError](err); !ok {
			t.Errorf("Preview on another hub than the plan's: %v, want a WrongHubError", err)
		}
	})
}

// Of very many different changes those that occur often stay as they are, and
// the others stand together by what they change. Nothing is lost.
func TestPreviewFoldsManyGroups(t *testing.T) {
	const n = 20_000
	g := newRig(t, devices(n)...)
	g.hub.quiet = true
	for i, id := range devices(n) {
		before := fmt.Sprintf(`{"floor":%d}`, i)
		if i%4 == 3 {
			before = `{"floor":-1}`
		}
		g.hub.set(id, before, fmt.Sprintf(`{"serial":"%d"}`, i))
	}
	f := g.preview(preview.Options{}, update("move", `{"floor":3}`, ""))
	groups := f.Jobs[0].Groups
	if len(groups) > 1100 {
		t.Errorf("%d groups, want about 1000 at most", len(groups))
	}
	various := 0
	for _, g := range groups {
		if !g.Various {
			continue
		}
		various += g.Count
		if diff := cmp.Diff([]string{"before.desired.floor"}, g.Varies); diff != "" {
			t.Errorf("parts with other values in a group that stands for many (-want +got):\n%s", diff)
		}
	}
	often := slices.IndexFunc(groups, func(g preview.Group) bool {
		return g.Before != nil && string(g.Before.Desired) == `{"floor":-1}` && !g.Various
	})
	if often < 0 || groups[often].Count != n/4 {
		t.Errorf("the frequent change is group %d of %d, want all %d of it together", often, len(groups), n/4)
	}
	if various < n/2 {
		t.Errorf("%d devices stand together by what they change, want most of the %d that are all different", various, n*3/4)
	}
}
