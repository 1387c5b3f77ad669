package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // the windows below are in places

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/preview"
	"iothub-runner/internal/schedule"
	"iothub-runner/spec"
)

// A forecast of time comes from the throttles that the hub publishes.
func TestPreviewForecastsTime(t *testing.T) {
	tests := []struct {
		name    string
		size    spec.Hub
		job     spec.Job
		seconds float64
		limit   string
	}{
		{name: "unknown hub", job: method("lock")},
		{name: "methods on S1, where listing takes longer", size: spec.Hub{SKU: "S1", Units: 1}, job: method("lock"), seconds: 9, limit: "queries"},
		{name: "methods on two units, the same", size: spec.Hub{SKU: "S1", Units: 2}, job: method("lock"), seconds: 4.5, limit: "queries"},
		{name: "twins on S1", size: spec.Hub{SKU: "S1", Units: 1}, job: update("u", `{"a":1}`, ""), seconds: 9, limit: "queries"},
		{name: "twins on S3", size: spec.Hub{SKU: "S3", Units: 1}, job: update("u", `{"a":1}`, ""), seconds: 1, limit: "twinUpdates"},
		{name: "a rate of its own", job: method("lock", func(j *spec.Job) { j.Rate = 2 }), seconds: 120, limit: "rate"},
		{name: "a payload of three steps", size: spec.Hub{SKU: "S1", Units: 10}, seconds: 1.8, limit: "methodCalls", job: method("lock", func(j *spec.Job) {
			j.Method.Payload = []byte(`"` + strings.Repeat("x", 3*4096-2) + `"`)
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(240)...)
				g.size = tt.size
				f := g.preview(preview.Options{}, tt.job)
				load := f.Jobs[0].Load
				if load.Seconds != tt.seconds || load.Limit != tt.limit {
					t.Errorf("takes %v s for %q, want %v s for %q", load.Seconds, load.Limit, tt.seconds, tt.limit)
				}
				if known := tt.size.SKU != "" || tt.limit == "rate"; (f.Jobs[0].EndsAt != nil) != known {
					t.Errorf("ends at %v, want a time: %t", f.Jobs[0].EndsAt, known)
				}
			})
		})
	}
}

// The jobs of a run start when the plan says, in the clock's own time.
func TestPreviewForecastsStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is midnight of 2000-01-01, a Saturday
		paris, err := time.LoadLocation("Europe/Paris")
		if err != nil {
			t.Fatal(err)
		}
		slow := func(j *spec.Job) { j.Rate = 1 } // ten devices in ten seconds
		at := func(j *spec.Job) { j.At = time.Now().Add(time.Hour) }
		needs := func(names ...string) func(*spec.Job) {
			return func(j *spec.Job) {
				for _, n := range names {
					j.Needs = append(j.Needs, spec.Need{Job: n, If: spec.NeedSucceeded})
				}
			}
		}
		monday := func(j *spec.Job) {
			j.Window = &spec.Window{From: 2 * time.Hour, To: 2*time.Hour + 5*time.Second, Days: []time.Weekday{time.Monday}, Location: paris}
		}
		g := newRig(t, devices(10)...)
		f := g.preview(preview.Options{},
			method("third", needs("second", "first"), delay(5*time.Second)),
			method("first", delay(time.Minute), slow),
			method("second", needs("first"), slow, deadline(4*time.Second)),
			method("at", at),
			method("window", monday, slow),
			update("waves", `{"a":1}`, "", func(j *spec.Job) {
				j.Rollout = &spec.Rollout{Pause: time.Minute, Waves: sizes("1", "50%", "100%")}
				j.Rate = 1
			}),
		)
		start := f.CreatedAt.Time
		want := map[string][2]time.Duration{
			"first": {time.Minute, 70 * time.Second}, "second": {70 * time.Second, 80 * time.Second}, "third": {85 * time.Second, 0},
			"at":     {time.Hour, 0},
			"window": {49 * time.Hour, 49*time.Hour + 10*time.Second}, // 02:00 in Paris is 01:00 UTC
			"waves":  {0, 130 * time.Second},
		}
		for _, j := range f.Jobs {
			w := want[j.Name]
			if got := j.StartsAt.Sub(start); got != w[0] {
				t.Errorf("job %s starts after %v, want %v", j.Name, got, w[0])
			}
			if (j.EndsAt == nil) != (w[1] == 0) || j.EndsAt != nil && j.EndsAt.Sub(start) != w[1] {
				t.Errorf("job %s ends at %v, want after %v", j.Name, j.EndsAt, w[1])
			}
		}
		var have []string
		for _, w := range f.Jobs[5].Waves {
			have = append(have, fmt.Sprint(w.Wave, " ", w.Targets, " ", w.StartsAt.Sub(start), " ", w.Seconds, " ", len(w.Devices)))
		}
		if diff := cmp.Diff([]string{"1 1 0s 1 1", "50% 4 1m1s 4 0", "100% 5 2m5s 5 0"}, have); diff != "" {
			t.Errorf("waves (-want +have):\n%s", diff)
		}
		if d := f.Jobs[2].Deadline; d == nil || d.Sub(start) != 74*time.Second {
			t.Errorf("deadline of the second job: %v, want 74s after the start", d)
		}
		wantWarnings := []string{
			"job second takes 10s at least, its deadline is 4s: not every device will be reached",
			"job window takes 10s at least, its window closes after 5s: not every device will be reached in it",
		}
		if diff := cmp.Diff(wantWarnings, f.Warnings); diff != "" {
			t.Errorf("warnings (-want +have):\n%s", diff)
		}
	})
}

// A job that needs one which is left out cannot run, and has no preview.
func TestPreviewOfSomeJobs(t *testing.T) {
	g := newRig(t, "a")
	_, err := g.tryPreview(preview.Options{}, method("second", func(j *spec.Job) { j.Needs = []spec.Need{{Job: "first"}} }))
	if diff := cmp.Diff(&schedule.NeedError{Job: "second", Need: "first"}, err); diff != "" {
		t.Errorf("Preview (-want +have):\n%s", diff)
	}
}

// The quota counts requests and answers, in messages of the size that the sku
// has.
func TestPreviewForecastsMessages(t *testing.T) {
	tests := []struct {
		name     string
		sku      string
		job      spec.Job
		messages int
	}{
		{name: "methods", sku: "S1", job: method("m"), messages: 2*10 + 1 + 1},
		{name: "twins", sku: "S1", job: update("u", `{"a":1}`, ""), messages: 10 + 1 + 1},
		{name: "a free hub counts half kilobytes", sku: "F1", job: method("m", func(j *spec.Job) {
			j.Method.Payload = []byte(`"` + strings.Repeat("x", 600) + `"`)
		}), messages: 3*10 + 2 + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(10)...)
				g.size = spec.Hub{SKU: tt.sku, Units: 1}
				f := g.preview(preview.Options{}, tt.job)
				if f.Summary.Messages != tt.messages || f.Summary.Quota == 0 {
					t.Errorf("%d messages of %d, want %d", f.Summary.Messages, f.Summary.Quota, tt.messages)
				}
			})
		})
	}
}
