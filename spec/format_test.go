package spec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// findings returns what is found in a bad plan of the corpus.
func findings(t *testing.T, name string) spec.Diagnostics {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("..", "internal", "planfile", "testdata", "err", name))
	if err != nil {
		t.Fatal(err)
	}
	_, diags := planfile.Parse("plans/"+name, src, planfile.Options{})
	if !diags.HasErrors() {
		t.Fatalf("%s has no findings", name)
	}
	return diags
}

func written(t *testing.T, ds spec.Diagnostics, f spec.Format) string {
	t.Helper()
	var b bytes.Buffer
	if err := ds.Write(&b, f, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSARIF holds what we write against the schema that OASIS publishes with
// the standard (sarif-schema-2.1.0.json, unchanged).
func TestSARIF(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "sarif-schema-2.1.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	schema := CompileSchema(t, text)
	for name, ds := range map[string]spec.Diagnostics{
		"none": nil, "many": findings(t, "many.yaml"), "spaces": {{File: `a b\ü#.yaml`, Pos: spec.Pos{Line: 1, Column: 1}, Rule: "retry", Severity: "error", Summary: "x"}},
	} {
		out := written(t, ds, spec.FormatSARIF)
		if err := ValidateJSON(t, schema, []byte(out)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := strings.Replace(written(t, findings(t, "many.yaml"), spec.FormatSARIF), `"startLine": `, `"startLine": -`, 1)
	if err := ValidateJSON(t, schema, []byte(broken)); err == nil {
		t.Error("the schema takes a line before the first")
	}
}

func TestSARIFResults(t *testing.T) {
	ds := findings(t, "many.yaml")
	var log struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID spec.Rule } }
			}
			Results []struct {
				RuleID    spec.Rule
				RuleIndex int
			}
		}
	}
	if err := json.Unmarshal([]byte(written(t, ds, spec.FormatSARIF)), &log); err != nil {
		t.Fatal(err)
	}
	if got := len(log.Runs[0].Results); got != len(ds) {
		t.Errorf("%d results of %d findings", got, len(ds))
	}
	for i, r := range log.Runs[0].Results {
		if r.RuleID != ds[i].Rule || log.Runs[0].Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("result %d has rule %q, index %d", i, r.RuleID, r.RuleIndex)
		}
	}
}

func TestJSON(t *testing.T) {
	ds := findings(t, "offline-wait.yaml")
	want := `{
  "errors": 1,
  "warnings": 0,
  "findings": [
    {
      "file": "plans/offline-wait.yaml",
      "line": 8,
      "column": 5,
      "endColumn": 12,
      "rule": "offline-wait",
      "severity": "error",
      "summary": "offline: wait without a deadline could wait for ever",
      "hint": "add deadline: 1h, or however long the job may take"
    }
  ]
}
`
	if diff := cmp.Diff(want, written(t, ds, spec.FormatJSON)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	if got := written(t, nil, spec.FormatJSON); !strings.Contains(got, `"findings": []`) {
		t.Errorf("no findings are %s", got)
	}
}

func TestGitHub(t *testing.T) {
	ds := spec.Diagnostics{{
		File: "a,b:c.yaml", Pos: spec.Pos{Line: 3, Column: 5}, EndColumn: 9, Rule: "waves", Severity: spec.SeverityError,
		Summary: "100% is\r\nwrong", Hint: "write: 5%",
	}}
	want := "::error file=a%2Cb%3Ac.yaml,line=3,col=5,endColumn=9,title=waves::100%25 is%0D%0Awrong%0Ahint: write: 5%25\n"
	if got := written(t, ds, spec.FormatGitHub); got != want {
		t.Errorf("GitHub = %q, want %q", got, want)
	}
}

// A forge shows a finding beside the file only if the path is the one that the
// repository has.
func TestFormatsNameFilesAsForgesDo(t *testing.T) {
	for given, want := range map[string]string{
		"./plan.yaml": "plan.yaml", "plans/../plan.yaml": "plan.yaml", "plans//a.yaml": "plans/a.yaml", "-": "-", "/plans/a.yaml": "/plans/a.yaml",
	} {
		ds := spec.Diagnostics{{File: given, Pos: spec.Pos{Line: 1, Column: 1}, Rule: "retry", Severity: spec.SeverityError, Summary: "x"}}
		if got := written(t, ds, spec.FormatGitHub); !strings.HasPrefix(got, "::error file="+want+",") {
			t.Errorf("GitHub of %q = %q, want file=%s", given, got, want)
		}
		if got := written(t, ds, spec.FormatSARIF); !strings.Contains(got, `"uri": "`+want+`"`) {
			t.Errorf("SARIF of %q has no uri %q", given, want)
		}
	}
}

// TestGitHubLimits: GitHub takes ten annotations of a kind from a step.
func TestGitHubLimits(t *testing.T) {
	var ds spec.Diagnostics
	for i := range 30 {
		d := spec.Diagnostic{File: "p.yaml", Pos: spec.Pos{Line: i + 1, Column: 1}, Rule: "retry", Severity: spec.SeverityError, Summary: fmt.Sprintf("finding %d", i)}
		if i%2 == 1 {
			d.Severity = spec.SeverityWarning
		}
		ds = append(ds, d)
	}
	out := written(t, ds, spec.FormatGitHub)
	if e, w := strings.Count(out, "::error "), strings.Count(out, "::warning "); e != 10 || w != 10 {
		t.Errorf("%d errors and %d warnings are annotated, want 10 and 10", e, w)
	}
	for i := range 30 {
		if !strings.Contains(out, fmt.Sprintf("finding %d\n", i)) {
			t.Errorf("finding %d is lost", i)
		}
	}
	if !strings.Contains(out, "10 more") {
		t.Errorf("nothing says how many there are beyond the annotations:\n%s", out)
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := (spec.Diagnostics{}).Write(&bytes.Buffer{}, "xml", ""); err == nil {
		t.Error(`Write in "xml" succeeds`)
	}
}

// TestFormatsHideSecrets: a secret is masked whatever the format.
func TestFormatsHideSecrets(t *testing.T) {
	for _, f := range spec.Formats() {
		for _, name := range []string{"secret-connection-string.yaml", "secret-as-key.yaml", "secret-in-target.yaml"} {
			if out := written(t, findings(t, name), f); strings.Contains(out, "bm90IG") {
				t.Errorf("%s of %s shows the key:\n%s", f, name, out)
			}
		}
	}
}
