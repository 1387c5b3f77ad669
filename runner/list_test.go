package runner_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// where aims a job at what a condition selects.
func where(condition string, more ...func(*spec.Target)) func(*spec.Job) {
	return func(j *spec.Job) {
		j.Target = spec.Target{Text: condition, Source: spec.SourceDevices, Where: condition}
		for _, m := range more {
			m(&j.Target)
		}
	}
}

// aimed changes the target of a job.
func aimed(change func(*spec.Target)) func(*spec.Job) {
	return func(j *spec.Job) { change(&j.Target) }
}

func TestQueryAsksForNoMoreThanNeeded(t *testing.T) {
	modules := func(x *spec.Target) { x.Source = spec.SourceModules }
	tests := []struct {
		name string
		job  spec.Job
		want string
	}{
		{"all, method", method("j"), "SELECT deviceId FROM devices"},
		{"condition", method("j", where("tags.b = 43")), "SELECT deviceId FROM devices WHERE tags.b = 43"},
		{"modules", method("j", aimed(modules)), "SELECT deviceId, moduleId FROM devices.modules"},
		{"top", method("j", aimed(func(x *spec.Target) { x.Top = 7 })), "SELECT TOP 7 deviceId FROM devices"},
		{"desired", update("j", `{"a":1}`, ""), "SELECT deviceId, etag, properties.desired AS desired FROM devices"},
		{"tags", update("j", "", `{"a":1}`), "SELECT deviceId, etag, tags FROM devices"},
		{
			"all of it", update("j", `{"a":1}`, `{"a":1}`, where("x = 1", modules)),
			"SELECT deviceId, moduleId, etag, tags, properties.desired AS desired FROM devices.modules WHERE x = 1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "door-1", "door-1/lock")
				g.hub.match["x = 1"] = func(hub.Target) bool { return true }
				g.hub.match["tags.b = 43"] = g.hub.match["x = 1"]
				res := g.apply(context.Background(), tt.job)
				queries := g.hub.of(opQuery, "")
				if len(queries) != 1 || queries[0].query.Text != tt.want || queries[0].query.PageSize != 100 {
					t.Errorf("queries = %+v, want one page of 100 of %q", queries, tt.want)
				}
				wantOutcomes(t, res.job(t, "j"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 1})
			})
		})
	}
}

func rowsOf(ids ...string) []hub.Row {
	rows := make([]hub.Row, len(ids))
	for i, id := range ids {
		rows[i].Target = device(id)
	}
	return rows
}

func TestTarget(t *testing.T) {
	odd := func(x hub.Target) bool { return strings.ContainsAny(x.DeviceID[len(x.DeviceID)-1:], "13579") }
	six := []string{"d-1", "d-2", "d-3", "d-4", "d-5", "d-6"}
	tests := []struct {
		name    string
		devices []string
		pages   [][]string
		change  func(*spec.Job)
		want    []string
		queries int
		ahead   bool // one page more may be under way when the listing is stopped
		reason  string
	}{
		{name: "pages", devices: six, want: six, queries: 3},
		{name: "condition", devices: six, change: where("odd"), want: []string{"d-1", "d-3", "d-5"}, queries: 2},
		{name: "empty pages and a short one", pages: [][]string{{}, {"d-1", "d-2"}, {}, {"d-3"}, {"d-4"}, {}}, devices: six, want: six[:4], queries: 6},
		{name: "a device on two pages", pages: [][]string{{"d-1", "d-2"}, {"d-2", "d-3", "d-3"}, {"d-1"}}, devices: six, want: six[:3], queries: 3},
		{name: "by name", devices: six, change: named("d-4", "d-2", "d-4"), want: []string{"d-2", "d-4"}, queries: 0},
		{
			name: "by name and condition", devices: six, queries: 2,
			change: where("odd", func(x *spec.Target) { x.Devices = deviceIDs([]string{"d-1", "d-2"}) }),
			want:   []string{"d-1", "d-2", "d-3", "d-5"},
		},
		{
			name: "excluded", devices: six, queries: 2,
			change: where("odd", func(x *spec.Target) {
				x.Devices, x.Exclude = deviceIDs([]string{"d-2", "d-4"}), idList([]string{"d-4", "d-5"})
			}),
			want: []string{"d-1", "d-2", "d-3"},
		},
		{name: "limit in the middle of a page", devices: six, change: aimed(func(x *spec.Target) { x.Limit = 3 }), want: six[:3], queries: 2, ahead: true},
		{name: "limit beyond the fleet", devices: six, change: aimed(func(x *spec.Target) { x.Limit = 7 }), want: six, queries: 3},
		{
			name: "limit does not count what is excluded or known", devices: six,
			pages: [][]string{{"d-1", "d-2"}, {"d-1", "d-3"}, {"d-4"}, {"d-5"}}, queries: 3, ahead: true,
			change: aimed(func(x *spec.Target) { x.Limit, x.Exclude = 3, idList([]string{"d-2"}) }), want: []string{"d-1", "d-3", "d-4"},
		},
		{name: "as expected", devices: six, change: aimed(func(x *spec.Target) { x.Expect = spec.Expect{Min: 6, Max: 6} }), want: six, queries: 3},
		{
			name: "fewer than expected", devices: six, queries: 3, reason: "the target matched 6 devices, expect.min is 7",
			change: aimed(func(x *spec.Target) { x.Expect = spec.Expect{Min: 7, Max: 9} }),
		},
		{
			name: "more than expected", devices: six, queries: 2, ahead: true, reason: "the target matched at least 4 devices, expect.max is 3",
			change: aimed(func(x *spec.Target) { x.Expect = spec.Expect{Max: 3} }),
		},
		{
			name: "limit before expect", devices: six, queries: 2, ahead: true, want: six[:3],
			change: aimed(func(x *spec.Target) { x.Limit, x.Expect = 3, spec.Expect{Max: 3} }),
		},
		{
			name: "nothing", devices: []string{"d-2"}, queries: 1, change: where("odd"),
			reason: "the target matched no device; set target.allowEmpty: true if that is fine",
		},
		{
			name: "nothing left", devices: six, change: aimed(func(x *spec.Target) { x.Exclude = idList(six) }), queries: 3,
			reason: "the target matched no device; set target.allowEmpty: true if that is fine",
		},
		{name: "nothing is fine", devices: []string{"d-2"}, queries: 1, change: where("odd", func(x *spec.Target) { x.AllowEmpty = true })},
		{
			name: "modules", devices: []string{"d-2/m", "d-1/n", "d-1", "d-1/m"}, change: aimed(func(x *spec.Target) { x.Source = spec.SourceModules }),
			want: []string{"d-1/m", "d-1/n", "d-2/m"}, queries: 2,
		},
		{name: "a bad condition", devices: six, change: where("odder"), queries: 1, reason: "hub answered 400004: bad query odder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, tt.devices...)
				g.hub.pageSize = 2
				g.hub.match["odd"] = odd
				for _, ids := range tt.pages {
					g.hub.pages = append(g.hub.pages, hub.Page{Rows: rowsOf(ids...)})
				}
				job := method("m", serial)
				if tt.change != nil {
					tt.change(&job)
				}
				res := g.apply(context.Background(), job)
				if n := len(g.hub.of(opQuery, "")); n != tt.queries && (!tt.ahead || n != tt.queries+1) {
					t.Errorf("%d query pages, want %d", n, tt.queries)
				}
				checkCalled(t, g, res.job(t, "m"), tt.want, tt.reason)
			})
		})
	}
}

// checkCalled wants exactly these devices called, or none and a reason.
func checkCalled(t *testing.T, g *rig, job spec.JobReport, want []string, reason string) {
	t.Helper()
	var called []string
	for _, row := range job.Devices {
		if row.Outcome == spec.OutcomeSucceeded {
			called = append(called, rowTarget(row).String())
		}
	}
	if diff := cmp.Diff(want, called); diff != "" {
		t.Errorf("devices called (-want +have):\n%s", diff)
	}
	if len(g.hub.of(opInvoke, "")) != len(want) {
		t.Errorf("%d calls, want %d", len(g.hub.of(opInvoke, "")), len(want))
	}
	status := spec.StatusSucceeded
	if reason != "" {
		status = spec.StatusStopped
	}
	if strings.HasPrefix(reason, "hub ") {
		status = spec.StatusFailed
	}
	if job.Status != status || job.Reason != reason {
		t.Errorf("job is %s: %q, want %s: %q", job.Status, job.Reason, status, reason)
	}
}

// Two modules of a cohort that was listed beforehand, and their device: the
// page's etag is gone by then, so each twin is read directly.
func TestExpectedCohortOfTwinsIsReadDirectly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		res := g.apply(context.Background(), update("u", `{"floor":3}`, "", aimed(func(x *spec.Target) { x.Expect.Min = 3 })))
		wantOutcomes(t, res.job(t, "u"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 3})
		if n := len(g.hub.of(opRead, "")); n != 3 {
			t.Errorf("%d direct reads, want 3", n)
		}
	})
}

func TestQueryRetries(t *testing.T) {
	const sec = time.Second
	done := map[spec.Outcome]int{spec.OutcomeSucceeded: 20}
	first := map[spec.Outcome]int{spec.OutcomeSucceeded: 10}
	tests := []struct {
		name   string
		faults []fault // of the query pages, in order
		status spec.Status
		want   map[spec.Outcome]int
		starts []time.Duration
		fatal  bool
	}{
		{
			name: "429 uses up no attempt", faults: []fault{refused(throttled(10 * sec)), refused(throttled(0)), refused(throttled(30 * sec))},
			status: spec.StatusSucceeded, want: done, starts: []time.Duration{0, 10 * sec, 11 * sec, 41 * sec},
		},
		{
			name: "a server error passes", faults: []fault{{}, refused(serverError()), refused(hinted(kind(hub.KindCut), 5*sec))},
			status: spec.StatusSucceeded, want: done, starts: []time.Duration{0, 0, 0, 5 * sec},
		},
		{
			name: "a server error stays", faults: []fault{{}, refused(serverError()), refused(serverError()), refused(serverError())},
			status: spec.StatusFailed, want: first, starts: []time.Duration{0, 0, 0, 0},
		},
		{
			name: "refused in the middle", faults: []fault{{}, refused(kind(hub.KindInvalid))},
			status: spec.StatusFailed, want: first, starts: []time.Duration{0, 0},
		},
		{
			name: "the token expires", faults: []fault{{}, refused(kind(hub.KindTokenExpired))},
			status: spec.StatusSucceeded, want: done, starts: []time.Duration{0, 0, 0},
		},
		{
			name: "a fresh token is in doubt", faults: []fault{{}, refused(kind(hub.KindTokenExpired)), refused(hinted(kind(hub.KindTokenExpired), sec))},
			status: spec.StatusSucceeded, want: done, starts: []time.Duration{0, 0, 0, sec},
		},
		{
			name: "unauthorized in the middle", faults: []fault{{}, {err: unauthorized(), takes: sec}},
			status: spec.StatusFailed, want: first, starts: []time.Duration{0, 0}, fatal: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(20)...)
				g.hub.pageSize = 10
				g.fail(opQuery, "", tt.faults...)
				// No faster than pages are asked for: the fatal cases find the first page done.
				res := g.apply(context.Background(), method("m", func(j *spec.Job) { j.Concurrency = 10 }))
				starts := g.hub.starts(opQuery, "")
				if diff := cmp.Diff(tt.starts, starts[:min(len(starts), len(tt.starts))]); diff != "" {
					t.Errorf("times of the queries (-want +have):\n%s", diff)
				}
				if tt.fatal {
					hubErrorOf(t, res)
				} else if res.run.Cause() != nil {
					t.Errorf("Cause() = %v, want nil", res.run.Cause())
				}
				if !tt.fatal || tt.faults[len(tt.faults)-1].takes > 0 {
					wantOutcomes(t, res.job(t, "m"), tt.status, tt.want)
				}
			})
		})
	}
}

func TestPreflight(t *testing.T) {
	const sec = time.Second
	tests := []struct {
		name   string
		faults []fault
		always *fault
		plan   string // the hub that the plan names
		fatal  bool
		wrong  bool
		calls  int
		starts []time.Duration
	}{
		{name: "unauthorized", always: &fault{err: unauthorized()}, fatal: true, calls: 1},
		{name: "unreachable", always: &fault{err: kind(hub.KindNotSent)}, fatal: true, calls: 3},
		{name: "comes back", faults: []fault{refused(kind(hub.KindNotSent)), refused(serverError())}, calls: 3},
		{name: "token expired once", faults: []fault{refused(kind(hub.KindTokenExpired))}, calls: 2},
		{name: "busy is not gone", faults: []fault{
			refused(throttled(10 * sec)), refused(throttled(10 * sec)), refused(throttled(10 * sec)), refused(throttled(10 * sec)),
		}, calls: 5, starts: []time.Duration{0, 10 * sec, 20 * sec, 30 * sec, 40 * sec}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "door-1")
				if tt.always != nil {
					g.hub.on(opPreflight, "", 0, *tt.always)
				}
				g.fail(opPreflight, "", tt.faults...)
				res := g.apply(context.Background(), method("m"))
				if tt.fatal {
					hubErrorOf(t, res)
				} else if res.err != nil {
					t.Errorf("Apply: %v", res.err)
				}
				if n := len(g.hub.of(opPreflight, "")); n != tt.calls {
					t.Errorf("%d queries before the first job, want %d", n, tt.calls)
				}
				if sent := len(g.hub.of(opInvoke, "")) > 0; sent == tt.fatal {
					t.Errorf("sent anything: %t, want %t", sent, !tt.fatal)
				}
				if starts := g.hub.starts(opPreflight, ""); tt.starts != nil && !cmp.Equal(starts, tt.starts) {
					t.Errorf("queries at %v, want %v", starts, tt.starts)
				}
			})
		})
	}
}

func TestWrongHub(t *testing.T) {
	tests := []struct {
		name      string
		plan      string
		rehearsal bool
		hubs      []string
		wrong     bool
	}{
		{name: "the plan's", plan: "A.example", hubs: []string{"a.EXAMPLE"}},
		{name: "another", plan: "b.example", hubs: []string{"a.example"}, wrong: true},
		{name: "another as well", plan: "a.example", hubs: []string{"a.example", "b.example"}, wrong: true},
		{name: "rehearsal", plan: "b.example", hubs: []string{"a.example"}, rehearsal: true},
		{name: "any", hubs: []string{"a.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHub(device("door-1"))
				w := fileJournal(t, t.TempDir()+"/j")
				defer w.Close()
				o := runner.Options{Journal: w, Rehearsal: tt.rehearsal}
				for _, name := range tt.hubs {
					o.Hubs = append(o.Hubs, target.NamedHub{Name: name, Hub: h})
				}
				plan := &spec.Plan{Name: "test", Hub: spec.Hub{HostName: tt.plan}, Jobs: []spec.Job{method("m")}}
				_, err := runner.Apply(context.Background(), plan, o)
				if _, wrong := errors.AsType[*target.WrongHubError](err); wrong != tt.wrong || err != nil && !wrong {
					t.Errorf("Apply on %v of a plan for %q: %v, want wrong hub: %t", tt.hubs, tt.plan, err, tt.wrong)
				}
				if called := len(h.of(opInvoke, "")) > 0; called == tt.wrong {
					t.Errorf("called anything: %t, want %t", called, !tt.wrong)
				}
			})
		})
	}
}

func TestNoHub(t *testing.T) {
	if _, err := runner.Apply(context.Background(), &spec.Plan{}, runner.Options{}); err == nil {
		t.Error("Apply without a hub: no error")
	}
}

// A hub that hands out a token again would be listed for ever. An empty page may
// do so, but not time and again.
func TestListingThatRepeatsItself(t *testing.T) {
	full, empty := hub.Row{Target: device("d")}, []string{"1"}
	for range 200 {
		empty = append(empty, "1")
	}
	for _, tt := range []struct {
		name    string
		tokens  []string
		rows    []hub.Row // of the second page and all later ones
		queries int       // until the error; 0 for none
	}{
		{"the same token", []string{"1", "1"}, []hub.Row{full}, 2},
		{"two tokens in turn", []string{"1", "2", "1"}, []hub.Row{full}, 3},
		{"an empty page", []string{"1", "1", "2", "1", "2", ""}, nil, 0},
		{"empty pages for ever", empty, nil, 102},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "d")
				for i, token := range tt.tokens {
					p := hub.Page{Rows: tt.rows, Continuation: token}
					if i == 0 {
						p.Rows = []hub.Row{full}
					}
					g.hub.replies = append(g.hub.replies, p)
				}
				res := g.apply(context.Background(), method("m"))
				job, want := res.job(t, "m"), ""
				if tt.queries > 0 {
					want = "of the query ends with the continuation token \"1\""
				}
				if (want == "") != (job.Status == spec.StatusSucceeded) || !strings.Contains(job.Reason, want) {
					t.Errorf("job %s because %q, want the reason %q", job.Status, job.Reason, want)
				}
				if n := len(g.hub.of(opQuery, "")); tt.queries > 0 && n != tt.queries {
					t.Errorf("%d queries, want %d", n, tt.queries)
				}
			})
		})
	}
}

// A device that is left out is left out with its modules, and what was not there
// to be left out is said.
func TestExclusions(t *testing.T) {
	exclude := func(list ...string) func(*spec.Job) {
		return func(j *spec.Job) { j.Target.Exclude = idList(list) }
	}
	modules := func(j *spec.Job) { j.Target.Source = spec.SourceModules }
	strict := func(j *spec.Job) { j.Target.Expect.Excluded = true }
	for _, tt := range []struct {
		name   string
		change []func(*spec.Job)
		called []string
		idle   []string
		status spec.Status
	}{
		{"a device", []func(*spec.Job){exclude("b")}, []string{"a"}, nil, spec.StatusSucceeded},
		{"a device and its modules", []func(*spec.Job){modules, exclude("b")}, []string{"a/m"}, nil, spec.StatusSucceeded},
		{"one module", []func(*spec.Job){modules, exclude("b/m")}, []string{"a/m", "b/n"}, nil, spec.StatusSucceeded},
		{"another letter case", []func(*spec.Job){exclude("B")}, []string{"a", "b"}, []string{"B"}, spec.StatusSucceeded},
		{"some and some", []func(*spec.Job){exclude("B", "b", "c")}, []string{"a"}, []string{"B", "c"}, spec.StatusSucceeded},
		{"one that has to be there", []func(*spec.Job){exclude("B"), strict}, nil, []string{"B"}, spec.StatusStopped},
		{"all are there", []func(*spec.Job){exclude("b"), strict}, []string{"a"}, nil, spec.StatusSucceeded},
		{"cut off at a limit", []func(*spec.Job){exclude("z"), func(j *spec.Job) { j.Target.Limit = 1 }}, []string{"a"}, nil, spec.StatusSucceeded},
		{"named", []func(*spec.Job){named("a", "b/m", "b/n"), exclude("b")}, []string{"a"}, nil, spec.StatusSucceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "a", "b", "a/m", "b/m", "b/n")
				res := g.apply(context.Background(), method("m", tt.change...))
				job := res.job(t, "m")
				var called []string
				for _, c := range g.hub.of(opInvoke, "") {
					called = append(called, c.target.String())
				}
				slices.Sort(called)
				if diff := cmp.Diff(tt.called, called); diff != "" || job.Status != tt.status {
					t.Errorf("job %s: %s; called (-want +have):\n%s", job.Status, job.Reason, diff)
				}
				idle := job.IdleExclusions
				if tt.status == spec.StatusStopped {
					idle = tt.idle // the reason has them
				}
				if diff := cmp.Diff(tt.idle, idle); diff != "" || len(tt.idle) > 0 && !strings.Contains(job.Reason, `"B"`) {
					t.Errorf("idle exclusions, reason %q (-want +have):\n%s", job.Reason, diff)
				}
			})
		})
	}
}

// A list of names may be longer than a line of the journal.
func TestManyNamedDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := make([]string, 1234)
		for i := range ids {
			ids[i] = fmt.Sprintf("%s-%05d", strings.Repeat("x", 100), i)
		}
		g := newRig(t, ids...)
		res := g.apply(context.Background(), method("m", named(ids...)))
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: len(ids)})
		for _, rec := range g.disk.records(t) {
			if page, ok := rec.(journal.Targets); ok && len(page.Targets) > 100 {
				t.Errorf("a line of the journal has %d targets, want pages of 100", len(page.Targets))
			}
		}
	})
}
