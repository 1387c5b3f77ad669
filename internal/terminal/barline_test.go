package terminal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/runner"
	"iothub-runner/spec"
)

func progressOf(name string, done, listed int64, outcomes map[spec.Outcome]int64) runner.JobProgress {
	return runner.JobProgress{Name: name, Started: true, Whole: true, Listed: listed, Done: done, Outcomes: outcomes}
}

func TestDrawBars(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 23, 15, 0, 0, time.UTC)
	running := stopwatch{from: now.Add(-10 * time.Second)}
	half := progressOf("lock", 50, 100, map[spec.Outcome]int64{spec.OutcomeSucceeded: 45, spec.OutcomeOffline: 5})
	listing := progressOf("move", 70, 80, map[spec.Outcome]int64{spec.OutcomeSucceeded: 70})
	listing.Whole = false
	ended := progressOf("wave", 100, 100, map[spec.Outcome]int64{spec.OutcomeSucceeded: 80, spec.OutcomeNotReached: 20})
	ended.Ended = true
	later := runner.JobProgress{Name: "a-job-with-a-rather-long-name", ScheduledAt: now.Add(90 * time.Second)}
	never := runner.JobProgress{Name: "never", Ended: true}
	looking := runner.JobProgress{Name: "look", Started: true}
	needy := runner.JobProgress{Name: "needy", Needs: []spec.Need{{Job: "lock"}, {Job: "move"}}}
	tests := []struct {
		name        string
		jobs        []runner.JobProgress
		look        look
		width, rows int
		want        []string
	}{
		{"all states", []runner.JobProgress{half, listing, ended, later, never, looking, needy}, look{}, 80, 24, []string{
			"lock                        [=========         ]  50 of 100   10s left  5 offli…",
			"move                        [      ===         ]  70          10s       70 succ…",
			"wave                        [==============    ]  100 of 100  6s        20 notR…",
			"a-job-with-a-rather-long-…  [                  ]  starts in 1m30s",
			"never                       [                  ]  not started",
			"look                        [      ===         ]  looking for devices",
			"needy                       [                  ]  waits for lock, move",
		}},
		{"wide, with everything that the terminal can show", []runner.JobProgress{half}, look{color: true, unicode: true}, 100, 24, []string{
			"lock  \x1b[33m━━━━━━━━━━━━\x1b[0m\x1b[2m─────────────\x1b[0m  50 of 100  10s left  5 offline, 45 succeeded",
		}},
		{"narrow: the bars go", []runner.JobProgress{half, later}, look{}, 40, 24, []string{
			"lock           50 of 100  10s left  5 o…",
			"a-job-with-a…  starts in 1m30s",
		}},
		{"tiny", []runner.JobProgress{half}, look{}, 12, 24, []string{"lock  50 of…"}},
		{"low: running jobs first, in the order of the plan", []runner.JobProgress{ended, later, half, never, listing}, look{}, 60, 3, []string{
			"lock  [======       ]  50 of 100  10s left  5 offline, 45 s…",
			"move  [==           ]  70         10s       70 succeeded",
			"and 3 more jobs; 2 of 5 ended",
		}},
	}
	for _, tt := range tests {
		clocks := make([]stopwatch, len(tt.jobs))
		for i, j := range tt.jobs {
			if j.Started {
				clocks[i] = running
			}
			if j.Ended {
				clocks[i].to = now.Add(-4 * time.Second)
			}
		}
		got := drawBars(tt.jobs, clocks, now, tt.look, tt.width, tt.rows)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: drawBars (-want +got):\n%s", tt.name, diff)
		}
		for _, line := range got {
			if n := visibleWidth(line); n > tt.width {
				t.Errorf("%s: a line of %d columns on a terminal of %d: %q", tt.name, n, tt.width, line)
			}
		}
	}
}

// TestBarsAlwaysFit draws jobs on terminals of every size: no line is ever
// wider than the terminal, and there are never more of them than asked for.
func TestBarsAlwaysFit(t *testing.T) {
	t.Parallel()
	outcomes := map[spec.Outcome]int64{}
	for i, o := range spec.Outcomes() {
		outcomes[o] = int64(100 + i)
	}
	now := time.Now()
	var jobs []runner.JobProgress
	for i := range 30 {
		j := progressOf(strings.Repeat("nämé", i)+"x", int64(i), 1_000_000, outcomes)
		j.Started, j.Whole, j.Ended = i%5 != 0, i%3 == 0, i%4 == 0
		jobs = append(jobs, j)
	}
	for width := 1; width < 200; width++ {
		for _, rows := range []int{1, 2, 7, 50} {
			clocks := make([]stopwatch, len(jobs))
			lines := drawBars(jobs, clocks, now, look{color: true, unicode: true}, width, rows)
			if len(lines) > rows {
				t.Fatalf("%d lines for %d rows", len(lines), rows)
			}
			for _, line := range lines {
				if n := visibleWidth(line); n > width {
					t.Fatalf("a line of %d columns on a terminal of %d: %q", n, width, line)
				}
			}
		}
	}
}

// TestScreenErasesFolds draws two lines of 30 columns on a terminal of 80, as
// a stream that is no terminal counts, and asserts what the next drawing starts
// with: at the start of the line, whatever was echoed there.
func TestScreenErasesFolds(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := &bars{out: &out}
	line := strings.Repeat("x", 30)
	long := strings.Repeat("y", 170) // three rows of the terminal
	for _, frame := range []struct {
		talk string
		rows []string
	}{{"talk\n", []string{line, long}}, {"", []string{line, line}}} {
		if err := b.showLocked(frame.talk, frame.rows); err != nil {
			t.Fatal(err)
		}
	}
	want := "\r\x1b[Jtalk\n" + line + "\n" + long + "\n\r\x1b[4A\x1b[J" + line + "\n" + line + "\n"
	if got := out.String(); got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestVisibleWidth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want int
	}{{"", 0}, {"abc", 3}, {"\x1b[32m━━\x1b[0m…", 3}, {"\x1b[12A\x1b[Jab", 2}, {"a\x1b[", 1}} {
		if got := visibleWidth(tt.line); got != tt.want {
			t.Errorf("visibleWidth(%q) = %d, want %d", tt.line, got, tt.want)
		}
	}
}

func TestWander(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i := range 200 {
		from, to := wander(time.Duration(i)*redrawInterval, 20)
		if from < 0 || to > 20 || to-from != 4 {
			t.Fatalf("wander(%d) = %d, %d in a bar of 20", i, from, to)
		}
		seen[fmt.Sprint(from)] = true
	}
	if len(seen) != 17 {
		t.Errorf("the piece was seen in %d places, want all 17", len(seen))
	}
}

func TestSpeaksUnicode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		vars map[string]string
		want bool
	}{
		{map[string]string{}, false},
		{map[string]string{"LANG": "en_US.UTF-8"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "C.utf8"}, true},
	}
	for _, tt := range tests {
		env := func(key string) string { return tt.vars[key] }
		if got := speaksUnicode(env); got != tt.want {
			t.Errorf("speaksUnicode(%v) = %t, want %t", tt.vars, got, tt.want)
		}
	}
}
