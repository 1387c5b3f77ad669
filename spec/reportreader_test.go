package spec_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/spec"
)

// sample is a report of two jobs, as runner writes it.
func sample(t *testing.T) (spec.Report, string) {
	t.Helper()
	at := spec.Time{Time: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)}
	rep := spec.Report{
		Schema: spec.ReportSchema, Run: spec.Run{ID: "20261127T120000Z-abcdef", Hub: "h", StartedAt: at, EndedAt: at, Status: spec.StatusFailed},
		Summary: spec.Summary{Targets: 3, Outcomes: map[spec.Outcome]int{spec.OutcomeSucceeded: 2, spec.OutcomeOffline: 1}},
		Jobs: []spec.JobReport{
			{Name: "a", ScheduledAt: at, Targets: 2, Waves: []spec.WaveReport{}, Devices: []spec.Row{{DeviceID: "d1", Outcome: spec.OutcomeSucceeded}, {DeviceID: "d2", Outcome: spec.OutcomeOffline}}},
			{Name: "b", ScheduledAt: at, Targets: 0, Waves: []spec.WaveReport{}, Devices: []spec.Row{}},
			{Name: "c", ScheduledAt: at, Targets: 1, Waves: []spec.WaveReport{}, Devices: []spec.Row{{DeviceID: "d1", ModuleID: "m", Outcome: spec.OutcomeSucceeded}}},
		},
	}
	text, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return rep, string(text)
}

// readAll reads a report whole, as nobody should who expects a large one.
func readAll(text string) (spec.Report, error) {
	rr, err := spec.NewReportReader(strings.NewReader(text))
	if err != nil {
		return spec.Report{}, err
	}
	rep := spec.Report{Schema: spec.ReportSchema, Run: rr.Run}
	summary, err := rr.Summary()
	if err != nil {
		return rep, err
	}
	rep.Summary = *summary
	for {
		job, err := rr.Job()
		if errors.Is(err, io.EOF) {
			return rep, nil
		}
		if err != nil {
			return rep, err
		}
		job.Devices = []spec.Row{}
		for {
			row, err := rr.Row()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return rep, err
			}
			job.Devices = append(job.Devices, *row)
		}
		rep.Jobs = append(rep.Jobs, *job)
	}
}

func TestReportReader(t *testing.T) {
	want, text := sample(t)
	have, err := readAll(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("read (-want +have):\n%s", diff)
	}
}

// Rows that nobody reads are skipped.
func TestReportReaderSkipsRows(t *testing.T) {
	_, text := sample(t)
	rr, err := spec.NewReportReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for {
		job, err := rr.Job()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, job.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" {
		t.Errorf("jobs (-want +have):\n%s", diff)
	}
}

// A report that was cut anywhere, or is none, never reads as a whole one.
func TestReportReaderRefusesDamage(t *testing.T) {
	_, text := sample(t)
	for cut := range len(text) {
		if _, err := readAll(text[:cut]); err == nil {
			t.Fatalf("a report cut after %d of %d bytes was read without an error", cut, len(text))
		}
	}
	for _, other := range []string{"", "[]", "{}", `{"schema": "runner/preview/v1"}`, `{"schema": "runner/report/v2", "run": {}}`, "null", "7", "version: 1"} {
		if _, err := spec.NewReportReader(strings.NewReader(other)); !errors.Is(err, spec.ErrNotReport) {
			t.Errorf("NewReportReader(%q) = %v, want ErrNotReport", other, err)
		}
	}
	sorted := `{"schema": "runner/report/v1", "run": {}, "jobs": []}`
	if _, err := readAll(sorted); err == nil || !strings.Contains(err.Error(), "order in which runner writes them") {
		t.Errorf("a report without a summary: %v", err)
	}
}
