package browser_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/foreign"
	"iothub-runner/internal/render"
	"iothub-runner/spec"
)

// hostile is what a device may be called or answer, to be shown and not obeyed.
const hostile = `</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">`

// TestPage opens the page of a run over ten thousand devices of which three in a hundred
// failed, and of one over a hundred thousand.
func TestPage(t *testing.T) {
	node, err := foreign.Node(t.Context())
	if err == nil {
		err = chromium()
	}
	if err != nil && os.Getenv("RUNNER_TEST_BROWSER") == "require" {
		t.Fatal(err)
	}
	if foreign.Excused(t, "the HTML and JUnit reports", err) {
		return
	}
	for _, file := range []string{"page.test.cjs", "package-lock.json"} { // go test is to know what its result depends on
		if _, readErr := os.ReadFile(file); readErr != nil {
			t.Fatal(readErr)
		}
	}
	shots, err := filepath.Abs("../../../dist/screenshots")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	foreign.RunNode(t, node, []string{
		"PAGE=" + write(t, newRun(10_000), "html", filepath.Join(dir, "run.html")),
		"LARGE=" + write(t, newRun(100_000), "html", filepath.Join(dir, "large.html")),
		"HUGE=" + write(t, newRun(150_000), "html", filepath.Join(dir, "huge.html")),
		"JUNIT=" + write(t, newRun(1_000), "junit", filepath.Join(dir, "run.xml")),
		"SHOTS=" + shots, "HOSTILE=" + hostile,
	}, "page.test.cjs")
}

// chromium says whether there is one; playwright takes it from where Debian puts it.
func chromium() error {
	if _, err := exec.LookPath("chromium"); err != nil {
		return foreign.AbsenceError("there is no chromium; make browser installs it")
	}
	return nil
}

func write(t *testing.T, d spec.Document, format, path string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := render.ReportFormat(format)(f, d); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// run is the report of a run that never was.
type run struct {
	head spec.Report
	size int
}

func newRun(size int) *run {
	began := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *spec.Time { return &spec.Time{Time: began.Add(d)} }
	r := &run{size: size}
	outcomes := map[spec.Outcome]int{}
	for i := range size {
		outcomes[outcomeOf(i)]++
	}
	job := spec.JobReport{
		Name: "lock", Type: spec.TypeDirectMethod, Target: "tags.building = 43", Status: spec.StatusFailed,
		Reason:      fmt.Sprintf("%d of %d targets did not succeed", size*3/100, size),
		ScheduledAt: *at(0), StartedAt: at(0), EndedAt: at(2 * time.Minute), Targets: size, Outcomes: outcomes,
		Attempts: size, RatePerSecond: float64(size) / 120, PublishedPerSecond: float64(size) / 100,
		LatencyMs: spec.Latency{P50: 30, P90: 90, P99: 200, Max: 400},
		Waves: []spec.WaveReport{
			{Wave: "1", Targets: 1, StartedAt: at(0), EndedAt: at(time.Second), Outcomes: map[spec.Outcome]int{spec.OutcomeSucceeded: 1}, Verdict: spec.VerdictPassed},
			{Wave: "100%", Targets: size - 1, StartedAt: at(30 * time.Second), EndedAt: at(2 * time.Minute), Outcomes: outcomes, Verdict: spec.VerdictPassed},
		},
	}
	r.head = spec.Report{
		Schema: spec.ReportSchema,
		Run: spec.Run{
			ID: "20261127T020000Z-3f2a9c", Plan: spec.PlanRef{Name: "lock-building-43", File: "plan.yaml", SHA256: "f17a8ce46f8f"},
			Hub: "contoso.azure-devices.net", Engine: "direct", Runner: "test", StartedAt: *at(0), EndedAt: *at(2 * time.Minute), Status: spec.StatusFailed, ExitCode: 1,
		},
		Summary: spec.Summary{Targets: size, Outcomes: outcomes, Attempts: size},
		Jobs:    []spec.JobReport{job},
	}
	return r
}

// outcomeOf gives two devices in a hundred that were offline and one that said no.
func outcomeOf(i int) spec.Outcome {
	switch i % 100 {
	case 1, 2:
		return spec.OutcomeOffline
	case 3:
		return spec.OutcomeRejected
	}
	return spec.OutcomeSucceeded
}

// Head returns the report less its rows.
func (r *run) Head() *spec.Report { return &r.head }

// Rows yields those of the one job.
func (r *run) Rows(_ int, yield func([]byte) error) error {
	for i := range r.size {
		began := r.head.Run.StartedAt.Add(time.Duration(i) * 115 * time.Second / time.Duration(r.size))
		row := spec.Row{
			DeviceID: fmt.Sprintf("door-%06d", i), Outcome: outcomeOf(i), Attempts: 1,
			StartedAt: &spec.Time{Time: began}, EndedAt: &spec.Time{Time: began.Add(time.Duration(20+i%400) * time.Millisecond)},
		}
		switch row.Outcome { //nolint:exhaustive // the others do not occur
		case spec.OutcomeOffline:
			row.Error = &spec.RowError{Kind: "offline", Code: 404103, Name: "DeviceNotOnline", Message: "the device is not online"}
		case spec.OutcomeRejected:
			row.Method = &spec.MethodResult{Status: 423, Payload: json.RawMessage(`{"reason":"someone stands in the door"}`)}
			row.Error = &spec.RowError{Kind: "rejected", Message: "the device answered status 423, success is 200-299"}
		default:
			row.Method = &spec.MethodResult{Status: 200, Payload: json.RawMessage("null")}
		}
		if i == 0 {
			row.DeviceID = hostile
			row.Method.Payload, _ = json.Marshal(hostile)
		}
		text, err := json.Marshal(&row)
		if err == nil {
			err = yield(text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
