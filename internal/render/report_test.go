package render

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/spec"
)

// memory is a report in memory.
type memory struct {
	spec.Report

	rows [][]spec.Row
}

// Head returns the report less its rows.
func (m *memory) Head() *spec.Report { return &m.Report }

// Rows yields those of a job.
func (m *memory) Rows(job int, yield func([]byte) error) error {
	for i := range m.rows[job] {
		text, err := json.Marshal(&m.rows[job][i])
		if err == nil {
			err = yield(text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func moment(s int) *spec.Time {
	return &spec.Time{Time: time.Date(2026, 11, 27, 2, 0, s, 0, time.UTC)}
}

// nasty is a report whose devices are called and answer what a reader may take for
// something else: a formula, markup, the end of a cell, an order to a terminal.
func nasty() *memory {
	rows := []spec.Row{
		{DeviceID: "door-1", Outcome: spec.OutcomeSucceeded, StartedAt: moment(1), EndedAt: moment(2), Attempts: 1, Method: &spec.MethodResult{Status: 200, Payload: json.RawMessage(`{"ok":true}`)}},
		{DeviceID: "=cmd|'/c calc'!A1", Outcome: spec.OutcomeRejected, StartedAt: moment(1), EndedAt: moment(3), Attempts: 1, Method: &spec.MethodResult{Status: 423, Payload: json.RawMessage(`"@SUM(1)<b>&\u202e|"`)}, Error: &spec.RowError{Kind: "rejected", Message: "the device answered status 423"}},
		{DeviceID: "<img src=x>", ModuleID: "`m`", Outcome: spec.OutcomeOffline, StartedAt: moment(1), EndedAt: moment(5), Attempts: 4, Error: &spec.RowError{Kind: "offline", Code: 404103, Name: "DeviceNotOnline", Message: "-1+1 @everyone | \x1b[31m"}},
		{DeviceID: "door-9", Outcome: spec.OutcomeNotReached},
	}
	patch := &spec.TwinResult{Patch: &spec.Sections{Desired: json.RawMessage(`{"floor":3}`)}}
	moved := []spec.Row{{DeviceID: "door-1", Outcome: spec.OutcomeSucceeded, StartedAt: moment(1), EndedAt: moment(2), Attempts: 1, Twin: patch}, {DeviceID: "door-2", Outcome: spec.OutcomeFailed, StartedAt: moment(1), EndedAt: moment(2), Attempts: 1, Error: &spec.RowError{Kind: "notFound", Code: 404001, Name: "DeviceNotFound", Message: "gone"}}}
	return &memory{rows: [][]spec.Row{rows, moved}, Report: spec.Report{
		Schema: spec.ReportSchema,
		Run:    spec.Run{ID: "20261127T020000Z-3f2a9c", Plan: spec.PlanRef{Name: "lock", File: "plan.yaml"}, Hub: "contoso.azure-devices.net", Engine: "direct", Runner: "test", StartedAt: *moment(0), EndedAt: *moment(9), Status: spec.StatusFailed, ExitCode: 1},
		Summary: spec.Summary{
			Targets: 6, Attempts: 8, Outcomes: map[spec.Outcome]int{spec.OutcomeSucceeded: 2, spec.OutcomeRejected: 1, spec.OutcomeOffline: 1, spec.OutcomeNotReached: 1, spec.OutcomeFailed: 1},
			Causes:     []spec.Cause{{Job: "lock", Outcome: spec.OutcomeOffline, Kind: "offline", Code: 404103, Name: "DeviceNotOnline", Message: "a | b <c> @d", Count: 1, Devices: []string{"<img src=x>/`m`"}, Hint: "wait"}},
			MoreCauses: &spec.MoreCauses{Causes: 2, Targets: 3},
		},
		Jobs: []spec.JobReport{
			{Name: "lock", Type: spec.TypeDirectMethod, Target: "tags.a = 1", Status: spec.StatusFailed, Reason: "3 of 4 targets did not succeed", ScheduledAt: *moment(0), StartedAt: moment(0), EndedAt: moment(6), Targets: 4, Outcomes: map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeRejected: 1, spec.OutcomeOffline: 1, spec.OutcomeNotReached: 1}, Attempts: 6},
			{Name: "move", Type: spec.TypeUpdateTwin, Target: "tags.a = 1", Status: spec.StatusSucceeded, Reason: "1 failed tolerated", ScheduledAt: *moment(0), StartedAt: moment(0), EndedAt: moment(9), Targets: 2, Outcomes: map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeFailed: 1}, Attempts: 2},
		},
	}}
}

func rendering(t *testing.T, format string, d spec.Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := ReportFormat(format)(&b, d); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return b.String()
}

func TestReportFormats(t *testing.T) {
	for format, file := range map[string]string{"text": "report.txt", "markdown": "report.md", "junit": "report.xml", "csv": "report.csv", "ndjson": "report.ndjson"} {
		t.Run(format, func(t *testing.T) {
			have := rendering(t, format, nasty())
			golden := filepath.Join("testdata", file)
			if *update {
				if err := os.WriteFile(golden, []byte(have), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), have); diff != "" {
				t.Errorf("%s (-golden +have):\n%s", format, diff)
			}
			if strings.ContainsAny(have, "\x1b\u202e") {
				t.Errorf("%s hands a device's orders on", format)
			}
		})
	}
}

// Every format says what cannot be written.
func TestReportThatCannotBeWritten(t *testing.T) {
	for _, format := range ReportFormats() {
		for _, room := range []int{0, 50, 400} {
			if err := ReportFormat(format)(&stuck{room: room}, nasty()); !errors.Is(err, errFull) {
				t.Errorf("%s with room for %d bytes: %v, want the disk's error", format, room, err)
			}
		}
	}
}

var errFull = errors.New("disk full")

type stuck struct{ room int }

// Write takes as much as there is room for.
func (s *stuck) Write(p []byte) (int, error) {
	if len(p) > s.room {
		return 0, errFull
	}
	s.room -= len(p)
	return len(p), nil
}

// No cell of a CSV is a formula, and each line has all cells.
func TestCSVIsHarmless(t *testing.T) {
	all, err := csv.NewReader(strings.NewReader(rendering(t, "csv", nasty()))).ReadAll()
	if err != nil || len(all) != 7 {
		t.Fatalf("%d lines, %v; want a head and six rows", len(all), err)
	}
	for _, line := range all {
		for i, cell := range line {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("%s is %q: a spreadsheet runs it", all[0][i], cell)
			}
		}
	}
}

// place is where an element of JUnit may stand, what it may and must have: the schema
// that Jenkins publishes, as far as we write it.
type place struct {
	in        string
	must, may []string
}

func junitSchema() map[string]place {
	return map[string]place{
		"testsuites": {in: "", may: []string{"name", "time", "tests", "failures", "disabled", "errors"}},
		"testsuite":  {in: "testsuites", must: []string{"name", "tests"}, may: []string{"failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package"}},
		"testcase":   {in: "testsuite", must: []string{"name"}, may: []string{"assertions", "time", "classname", "status"}},
		"skipped":    {in: "testcase", may: []string{"type", "message"}},
		"failure":    {in: "testcase", may: []string{"type", "message"}},
		"error":      {in: "testcase", may: []string{"type", "message"}},
	}
}

func TestJUnitIsWhatJenkinsReads(t *testing.T) {
	many := nasty()
	many.Jobs[0].Targets, many.Jobs[0].Outcomes[spec.OutcomeSucceeded] = 6003, 6000
	many.Jobs[0].Waves = []spec.WaveReport{{Wave: "10%", Targets: 600, StartedAt: moment(0), EndedAt: moment(2), Outcomes: map[spec.Outcome]int{spec.OutcomeSucceeded: 600}}}
	for name, d := range map[string]*memory{"few": nasty(), "many": many} {
		t.Run(name, func(t *testing.T) {
			in := xml.NewDecoder(strings.NewReader(rendering(t, "junit", d)))
			var path []string
			counted := map[string]int{}
			for {
				token, err := in.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				switch e := token.(type) {
				case xml.StartElement:
					checkElement(t, e, path)
					path = append(path, e.Name.Local)
					counted[e.Name.Local]++
				case xml.EndElement:
					path = path[:len(path)-1]
				}
			}
			want := map[string]int{"testsuites": 1, "testsuite": 2, "testcase": 8, "failure": 2, "error": 2, "skipped": 1}
			if name == "many" {
				want["testcase"] = 8 // the one that went well is in the case of its wave
			}
			if diff := cmp.Diff(want, counted); diff != "" {
				t.Errorf("elements (-want +have):\n%s", diff)
			}
		})
	}
}

func checkElement(t *testing.T, e xml.StartElement, path []string) {
	t.Helper()
	rule, ok := junitSchema()[e.Name.Local]
	parent := ""
	if len(path) > 0 {
		parent = path[len(path)-1]
	}
	if !ok || rule.in != parent {
		t.Errorf("%s stands in %q", e.Name.Local, parent)
	}
	var have []string
	for _, a := range e.Attr {
		have = append(have, a.Name.Local)
		if !slices.Contains(append(rule.must, rule.may...), a.Name.Local) {
			t.Errorf("%s has %s", e.Name.Local, a.Name.Local)
		}
		if slices.Contains([]string{"tests", "failures", "errors", "skipped"}, a.Name.Local) {
			if _, err := fmt.Sscanf(a.Value, "%d", new(int)); err != nil {
				t.Errorf("%s=%q is no number", a.Name.Local, a.Value)
			}
		}
	}
	for _, must := range rule.must {
		if !slices.Contains(have, must) {
			t.Errorf("%s lacks %s", e.Name.Local, must)
		}
	}
}

// A comment on a forge has a limit.
func TestMarkdownReportIsBounded(t *testing.T) {
	d := nasty()
	for i := range 200 {
		d.Summary.Causes = append(d.Summary.Causes, spec.Cause{Job: "lock", Outcome: spec.OutcomeFailed, Message: strings.Repeat("long ", 100), Count: i + 1, Devices: []string{strings.Repeat("d", 128)}})
		d.rows[0] = append(d.rows[0], spec.Row{DeviceID: fmt.Sprint(strings.Repeat("x", 120), i), Outcome: spec.OutcomeFailed, Error: &spec.RowError{Kind: "x", Message: strings.Repeat("why ", 200)}})
	}
	text := rendering(t, "markdown", d)
	if n := len([]rune(text)); n > 60_000 || !strings.Contains(text, "</details>") {
		t.Errorf("%d characters, want at most 60,000 and a whole document", n)
	}
}

// The page holds what its policy allows, and nothing of a device ends a script.
func TestPageKeepsToItsPolicy(t *testing.T) {
	text := rendering(t, "html", nasty())
	for _, bad := range []string{"<img src=x>", " style=\"", "http://", "src=\"", "onclick"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if n := strings.Count(text, "</script>"); n != 2 {
		t.Errorf("%d scripts end, want the rows and the program", n)
	}
}
