package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/results"
	"iothub-runner/spec"
)

// TestJournalTells makes a document out of the journal of a run, whole and cut off at
// many places, as a kill or a look at a run under way finds it. What it tells is what
// the run's own report tells, as far as the journal goes.
func TestJournalTells(t *testing.T) {
	w := world{each: 120, method: ", latency: 1ms", group: "shares: {offline: 5%, rejecting: 5%}"}
	r := newRun(t, w.start(t), planText("concurrency: 8"))
	rep, _ := r.apply(context.Background(), t)
	whole, err := results.Open([]string{r.journal}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	head := whole.Head()
	if head.Run.Status != rep.Run.Status || head.Run.ID != rep.Run.ID {
		t.Errorf("the journal tells of run %s, %s; the report of %s, %s", head.Run.ID, head.Run.Status, rep.Run.ID, rep.Run.Status)
	}
	if diff := cmp.Diff(rep.Summary, head.Summary); diff != "" {
		t.Errorf("the summaries differ (-report +journal):\n%s", diff)
	}
	jobs := map[string]int{}
	for i := range head.Jobs {
		jobs[head.Jobs[i].Name] = i
	}
	for i := range rep.Jobs {
		j := jobs[rep.Jobs[i].Name]
		var rows []spec.Row
		if err = json.Unmarshal([]byte("["+strings.Join(rowsOf(t, whole, j), ",")+"]"), &rows); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rep.Jobs[i].Devices, rows); diff != "" {
			t.Errorf("job %s (-report +journal):\n%s", rep.Jobs[i].Name, diff)
		}
		if head.Jobs[j].Type != rep.Jobs[i].Type || head.Jobs[j].Status != rep.Jobs[i].Status {
			t.Errorf("job %s: %s, %s in the journal; %s, %s in the report", rep.Jobs[i].Name, head.Jobs[j].Type, head.Jobs[j].Status, rep.Jobs[i].Type, rep.Jobs[i].Status)
		}
	}
	text, err := os.ReadFile(r.journal)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < len(text); cut += len(text)/60 + 1 {
		checkCutJournal(t, text[:cut], &rep)
	}
	if _, err := results.Open([]string{"-"}, bytes.NewReader(text[len(text)/2:])); err == nil {
		t.Error("half a journal without its beginning: no error")
	}
}

// checkCutJournal holds what the beginning of a journal tells against the report.
func checkCutJournal(t *testing.T, text []byte, rep *spec.Report) {
	t.Helper()
	d, err := results.Open([]string{"-"}, bytes.NewReader(text))
	if err != nil {
		if len(text) > 1000 {
			t.Errorf("cut at byte %d: %v", len(text), err)
		}
		return
	}
	defer d.Close()
	if s := d.Head().Run.Status; s != spec.StatusUnfinished {
		t.Errorf("cut at byte %d: the run is %s", len(text), s)
	}
	for i := range d.Head().Jobs {
		name := d.Head().Jobs[i].Name
		k := slices.IndexFunc(rep.Jobs, func(j spec.JobReport) bool { return j.Name == name })
		want := map[string]spec.Outcome{}
		for _, row := range rep.Jobs[k].Devices {
			want[row.DeviceID] = row.Outcome
		}
		for _, text := range rowsOf(t, d, i) {
			for id, o := range want {
				told := strings.Contains(text, `"deviceId":"`+id+`",`)
				open := strings.Contains(text, `"outcome":"notReached"`) || strings.Contains(text, `"outcome":"unanswered"`)
				if told && !open && !strings.Contains(text, `"outcome":"`+string(o)+`"`) {
					t.Errorf("%s of job %s ended as %s, and the journal tells %s", id, name, o, text)
				}
			}
		}
	}
}

func rowsOf(t *testing.T, d spec.Document, job int) (rows []string) {
	t.Helper()
	if err := d.Rows(job, func(row []byte) error {
		rows = append(rows, string(row))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestResultsOfShards puts the reports of shards together, and refuses what is no whole
// set of one run.
func TestResultsOfShards(t *testing.T) {
	dir := t.TempDir()
	part := func(name string, change func(*spec.Report), rows ...string) string {
		rep := spec.Report{
			Schema: spec.ReportSchema, Run: spec.Run{ID: name, Plan: spec.PlanRef{Name: "p", SHA256: "ab"}, Hub: "h", Status: spec.StatusSucceeded},
			Summary: spec.Summary{Outcomes: map[spec.Outcome]int{}}, Jobs: []spec.JobReport{{Name: "m", Type: spec.TypeDirectMethod, Status: spec.StatusSucceeded, Outcomes: map[spec.Outcome]int{}, Waves: []spec.WaveReport{}}},
		}
		change(&rep)
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(spec.WriteReport(f, &written{rep, rows}), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	shard := func(i, of int) func(*spec.Report) {
		return func(r *spec.Report) { r.Run.Shard = &spec.Shard{Index: i, Of: of} }
	}
	row := func(id, o string) string { return `{"deviceId":"` + id + `","outcome":"` + o + `","attempts":1}` }
	a := part("a", shard(1, 3), row("d1", "succeeded"), row("d4", "offline"))
	b := part("b", func(r *spec.Report) {
		shard(2, 3)(r)
		r.Run.Status, r.Run.ExitCode, r.Jobs[0].Status = spec.StatusFailed, 1, spec.StatusFailed
	}, row("d2", "rejected"))
	c := part("c", shard(3, 3))
	d, err := results.Open([]string{c, a, b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want := []string{row("d1", "succeeded"), row("d2", "rejected"), row("d4", "offline")}
	if diff := cmp.Diff(want, rowsOf(t, d, 0)); diff != "" {
		t.Errorf("rows (-want +have):\n%s", diff)
	}
	head := d.Head()
	if head.Run.Status != spec.StatusFailed || head.Run.ExitCode != 1 || head.Summary.Targets != 3 || head.Summary.Outcomes["offline"] != 1 || len(head.Summary.Causes) != 2 || head.Run.Shard != nil {
		t.Errorf("the whole: %+v", head)
	}
	for name, set := range map[string][]string{
		"shard 3/3 is missing":     {a, b},
		"of the same shard 1/3":    {a, part("again", shard(1, 3)), c},
		"no report of a shard":     {a, b, part("whole", func(*spec.Report) {})},
		"of another plan":          {a, b, part("other", func(r *spec.Report) { shard(3, 3)(r); r.Run.Plan.SHA256 = "cd" })},
		"and \"" + a + "\" one of": {a, b, part("four", shard(3, 4))},
	} {
		if _, err := results.Open(set, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Open: %v, want %q", err, name)
		}
	}
}

// written is a report to be written.
type written struct {
	rep  spec.Report
	rows []string
}

// Head returns the report less its rows.
func (w *written) Head() *spec.Report { return &w.rep }

// Rows yields them.
func (w *written) Rows(_ int, yield func([]byte) error) error {
	for _, r := range w.rows {
		if err := yield([]byte(r)); err != nil {
			return err
		}
	}
	return nil
}
