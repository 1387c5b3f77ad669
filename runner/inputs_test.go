package runner_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/inputs"
	"iothub-runner/internal/journal"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// hashOf returns the hash by which a run knows a job again.
func hashOf(job spec.Job) string {
	return inputs.Of(&spec.Plan{Jobs: []spec.Job{job}}).Jobs[job.Name]
}

// The hash of a job is kept in journals and reports, which outlive builds.
func TestHashOfAJobIsFrozen(t *testing.T) {
	job := method("lock", named("door-1", "gateway/edge"), idempotent, deadline(time.Hour))
	if have, want := hashOf(job), "b6e61fd5c1eb699b7aca317324c48d22"; have != want {
		t.Errorf("hash of a method job = %s, want %s", have, want)
	}
	job = update("move", `{"floor":3,"gone":null}`, `{"moved":false}`)
	if have, want := hashOf(job), "cf698a013f323d886c892c5d7d1ddd24"; have != want {
		t.Errorf("hash of a twin job = %s, want %s", have, want)
	}
}

func TestHashOfAJobCoversWhatItDoes(t *testing.T) {
	base := func() spec.Job {
		j := method("lock", named("a", "b"))
		j.Twin = &spec.TwinUpdate{Desired: []byte(`{"a":0}`)}
		j.Confirm = &spec.Confirm{Reported: []byte(`{}`), Within: time.Minute}
		j.Window = &spec.Window{From: time.Hour, To: 2 * time.Hour, Timezone: "UTC", Location: time.UTC}
		return j
	}
	same := map[string]func(*spec.Job){
		"pace":      func(j *spec.Job) { j.Concurrency, j.Rate = 1, 5 },
		"places":    func(j *spec.Job) { j.Pos = spec.Pos{Line: 3} },
		"its text":  func(j *spec.Job) { j.Target.Text = "others" },
		"its zone":  func(j *spec.Job) { j.Window.Location = time.Local },
		"its files": func(j *spec.Job) { j.Files = []spec.File{{Name: "a"}} },
	}
	other := map[string]func(*spec.Job){
		"payload":    func(j *spec.Job) { j.Method.Payload = []byte(`{"lockTime":"11m"}`) },
		"no payload": func(j *spec.Job) { j.Method.Payload = nil },
		"method":     func(j *spec.Job) { j.Method.Name = "unlock" },
		"success":    func(j *spec.Job) { j.Method.Success = spec.StatusSet{{From: 200, To: 204}} },
		"idempotent": idempotent,
		"a zero":     func(j *spec.Job) { j.Twin.Desired = []byte(`{}`) },
		"tags":       func(j *spec.Job) { j.Twin.Tags = []byte(`{"a":0}`) },
		"section":    func(j *spec.Job) { j.Twin.Tags, j.Twin.Desired = j.Twin.Desired, nil },
		"confirm":    func(j *spec.Job) { j.Confirm.Reported = []byte(`{"a":1}`) },
		"within":     func(j *spec.Job) { j.Confirm.Within = time.Hour },
		"where":      func(j *spec.Job) { j.Target.Where = "tags.a = 1" },
		"devices":    func(j *spec.Job) { j.Target.Devices = deviceIDs([]string{"a", "c"}) },
		"a module":   func(j *spec.Job) { j.Target.Devices = deviceIDs([]string{"a/b"}) },
		"exclude":    func(j *spec.Job) { j.Target.Exclude = []spec.DeviceID{{Device: "c"}} },
		"limit":      func(j *spec.Job) { j.Target.Limit = 1 },
		"window":     func(j *spec.Job) { j.Window.Timezone = "Europe/Paris" },
		"delay":      delay(time.Second),
		"at":         func(j *spec.Job) { j.At = time.Unix(1, 0) },
		"offline":    whenOffline(spec.OfflineWait),
		"needs":      func(j *spec.Job) { j.Needs = []spec.Need{{Job: "a"}} },
	}
	want := hashOf(base())
	for name, change := range same {
		j := base()
		if change(&j); hashOf(j) != want {
			t.Errorf("%s: another hash, and the job does the same", name)
		}
	}
	seen := map[string]string{want: "nothing"}
	for name, change := range other {
		j := base()
		change(&j)
		if first, known := seen[hashOf(j)]; known {
			t.Errorf("%s: the same hash as with a change of %s", name, first)
		}
		seen[hashOf(j)] = name
	}
}

// Values are recorded, so that a resumed run need not be given them, but for
// secrets. What earlier versions have in place of a text is no value.
func TestInputsKeepNoSecrets(t *testing.T) {
	plan := &spec.Plan{Vars: map[string]string{"n": "43", "site": "paris", "pw": "hunter2"}, Sensitive: []string{"pw"}}
	in := inputs.Of(plan)
	if diff := cmp.Diff(map[string]string{"n": "43", "site": "paris"}, in.Vars); diff != "" {
		t.Errorf("recorded values (-want +have):\n%s", diff)
	}
	vars := map[string]string{"old": "sha256:e80960ebff50e111", "digest": "sha256:" + strings.Repeat("ab", 32), "empty": ""}
	for name, want := range map[string]bool{"old": false, "digest": true, "empty": true, "none": false} {
		if value, ok := inputs.RecordedVar(vars, name); ok != want || ok && value != vars[name] {
			t.Errorf("RecordedVar(%s) = %q, %t; want %t", name, value, ok, want)
		}
	}
}

// A run goes on only with what it was filled in with; what has changed is said
// by name. A journal that does not say goes on as it did.
func TestPastIsOfTheseInputs(t *testing.T) {
	before := func() *spec.Plan {
		lock := method("lock")
		lock.Files = []spec.File{{Field: "payloadFile", Name: "lock.json", SHA256: "aa"}, {Field: "devicesFile", Name: "doors.txt", SHA256: "cc"}}
		return &spec.Plan{Vars: map[string]string{"building": "43", "site": "paris"}, Jobs: []spec.Job{update("move", `{"floor":3}`, ""), lock}}
	}
	set := func(name, value string) func(*spec.Plan) { return func(p *spec.Plan) { p.Vars[name] = value } }
	floor := func(p *spec.Plan) { p.Jobs[0].Twin.Desired = []byte(`{"floor":4}`) }
	payload := func(p *spec.Plan) { p.Jobs[1].Method.Payload = []byte(`1`) }
	const other = "the run to go on with was of other jobs: "
	tests := []struct {
		name   string
		change []func(*spec.Plan)
		want   string
	}{
		{name: "the same"},
		{name: "a variable of nothing that is sent", change: []func(*spec.Plan){set("building", "44")}},
		{name: "a number", change: []func(*spec.Plan){set("building", "44"), floor}, want: other + `job "move": var building was "43", now "44"`},
		{name: "a text", change: []func(*spec.Plan){set("site", "rome"), payload}, want: other + `job "lock": var site was "paris", now "rome"`},
		{
			name: "two jobs", change: []func(*spec.Plan){set("building", "44"), floor, payload},
			want: other + `job "move": var building was "43", now "44" (and 1 more that differ)`,
		},
		{
			name: "a file", change: []func(*spec.Plan){payload, func(p *spec.Plan) { p.Jobs[1].Files[0].SHA256 = "bb" }},
			want: other + `job "lock": payloadFile "lock.json" has changed`,
		},
		{
			name: "a secret", change: []func(*spec.Plan){payload, func(p *spec.Plan) { p.Vars["pw"], p.Sensitive = "x", []string{"pw"} }},
			want: other + `job "lock": a sensitive variable is not what it was: pw`,
		},
		{name: "runner", change: []func(*spec.Plan){payload}, want: other + `job "lock": runner 0.1.0, which began that run, reads it otherwise`},
		{name: "some of the jobs", change: []func(*spec.Plan){func(p *spec.Plan) { p.Jobs = p.Jobs[1:] }}},
		{
			name: "more jobs", change: []func(*spec.Plan){func(p *spec.Plan) { p.Jobs = append(p.Jobs, method("unlock")) }},
			want: `job "unlock" is not part of the run to go on with, which was of --job lock --job move alone`,
		},
	}
	in := inputs.Of(before())
	for _, tt := range tests {
		for _, recorded := range []bool{true, false} {
			header := journal.Header{Run: "r", Runner: "0.1.0"}
			want := ""
			if recorded {
				header.Jobs, header.Vars, header.Files, want = in.Jobs, in.Vars, in.Files, tt.want
			}
			past := runner.NewPast()
			if err := past.Visit(0, header); err != nil {
				t.Fatal(err)
			}
			plan := before()
			for _, c := range tt.change {
				c(plan)
			}
			have := ""
			if err := past.Check(plan, nil, nil); err != nil {
				have = err.Error()
			}
			if have != want {
				t.Errorf("%s, recorded %t: Check = %q, want %q", tt.name, recorded, have, want)
			}
		}
	}
}

// The report of a run has the inputs of the run that was begun, however small
// the part of it that was resumed.
func TestReportKeepsTheInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		jobs := []spec.Job{method("one"), method("two")}
		first := g.apply(context.Background(), jobs...).report.Run.Plan.Inputs
		if want := map[string]string{"one": hashOf(jobs[0]), "two": hashOf(jobs[1])}; first == nil || !maps.Equal(first.Jobs, want) {
			t.Fatalf("inputs %+v, want the jobs %v", first, want)
		}
		g = newRig(t, "a")
		g.recorded = first
		g.apply(context.Background(), jobs...)
		again := g.apply(context.Background(), jobs[0]).report.Run.Plan.Inputs
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("inputs in the report of a resumed run (-first +resumed):\n%s", diff)
		}
	})
}
