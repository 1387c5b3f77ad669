package spec_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

var update = flag.Bool("update", false, "rewrite the generated files")

// generated compares what is generated with the file that is checked in.
func generated(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is out of date; run the tests of spec with -update (-file +generated):\n%s", file, diff)
	}
}

func TestPlanSchemaFile(t *testing.T) {
	generated(t, "plan.schema.json", string(spec.PlanSchemaJSON()))
}

func TestPlanReferenceFile(t *testing.T) {
	generated(t, filepath.Join("..", "docs", "plan.md"), spec.PlanReference())
}

// TestSchemaAgrees: the schema takes every good plan of the corpus. A bad plan
// whose finding is of the kind that a schema can see, it refuses.
func TestSchemaAgrees(t *testing.T) {
	schema := CompileSchema(t, spec.PlanSchemaJSON())
	visible := []spec.Rule{
		spec.RuleUnknownKey, spec.RuleRequired, spec.RuleJobType, spec.RuleTwinKey, spec.RuleEmptyPatch, spec.RuleType, spec.RuleDeviceID,
	}
	refused := 0
	for _, kind := range []string{"ok", "err"} {
		files, err := filepath.Glob(filepath.Join("..", "internal", "planfile", "testdata", kind, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, ok := asJSON(t, file)
			if !ok {
				continue
			}
			verdict := ValidateJSON(t, schema, text)
			diags := corpusFindings(t, file)
			seen := slices.ContainsFunc(diags, func(d spec.Diagnostic) bool {
				return d.File == filepath.Base(file) && slices.Contains(visible, d.Rule) && !strings.Contains(d.Source, "${var.")
			})
			switch {
			case kind == "ok" && verdict != nil:
				t.Errorf("%s: the schema refuses a good plan: %v", file, verdict)
			case kind == "err" && seen && verdict == nil:
				t.Errorf("%s: the schema takes what Parse refuses:\n%s", file, diags)
			}
			if verdict != nil {
				refused++
			}
		}
	}
	if refused < 60 {
		t.Errorf("the schema refuses %d plans of the corpus, want 60 or more", refused)
	}
}

func corpusFindings(t *testing.T, file string) spec.Diagnostics {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, diags := planfile.Parse(filepath.Base(file), src, planfile.Options{FS: os.DirFS(filepath.Dir(file))})
	return diags
}

// asJSON reads a plan as an editor's schema support does; false for what is no
// YAML or has keys that JSON cannot have.
func asJSON(t *testing.T, file string) ([]byte, bool) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if yaml.Unmarshal(src, &doc) != nil {
		return nil, false
	}
	text, err := json.Marshal(doc)
	return text, err == nil
}

// TestFieldTable: every example in the table is a value that Parse takes, and
// every field has what readers need.
func TestFieldTable(t *testing.T) {
	for _, f := range spec.Fields() {
		if f.Doc == "" || !strings.HasSuffix(f.Doc, ".") || f.Example == "" || f.Type == "" {
			t.Errorf("field %s lacks a type, a sentence or an example: %+v", f.Path, f)
		}
	}
}

func TestFieldExamples(t *testing.T) {
	schema := CompileSchema(t, spec.PlanSchemaJSON())
	method := "  - {name: move, type: directMethod, target: tags.a = 1, method: m%s}\n"
	twin := "  - {name: b, type: updateTwin, target: tags.a = 1, desired: {x: 1}%s}\n"
	for _, f := range spec.Fields() {
		parent, field := f.Parent(), f.Key()+": "+f.Example
		extra, rest := "", ""
		switch {
		case f.Path == "jobs[].desired" || f.Path == "jobs[].name" || f.Path == "jobs[].type" || f.Path == "jobs[].target" || f.Path == "jobs[].method":
			continue // in every plan here
		case parent == "jobs[]" && f.Path == "jobs[].ifLate":
			extra = ", at: 2026-12-01T02:00:00Z, " + field
		case f.Path == "jobs[].offline":
			extra = ", deadline: 1h, " + field
		case f.Path == "jobs[].payloadFile" || f.Path == "version" || f.Path == "name" || f.Path == "jobs":
			continue // a file, and keys that every plan has
		case parent == "jobs[]":
			extra = ", " + field
		case parent == "":
			rest = field + "\n"
		default:
			continue // shown as a part of its parent's example
		}
		job := strings.Replace(method, "%s", "", 1)
		if f.Path == "jobs[].needs" {
			job += strings.Replace(twin, "%s", extra, 1)
		} else if f.Only == spec.TypeUpdateTwin {
			job = strings.Replace(twin, "%s", extra, 1)
		} else {
			job = strings.Replace(method, "%s", extra, 1)
		}
		src := "version: 1\nname: p\n" + rest + "jobs:\n" + job
		if plan, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{}); plan == nil {
			t.Errorf("the example of %s:\n%s", f.Path, diags)
		}
		var doc any
		if err := yaml.Unmarshal([]byte(src), &doc); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := ValidateJSON(t, schema, text); err != nil {
			t.Errorf("the schema refuses the example of %s: %v", f.Path, err)
		}
	}
}

func TestExplain(t *testing.T) {
	for name, want := range map[string]string{
		"jobs.retry.backoff":     "jobs[].retry.backoff: duration, as in 10s, 15m, 1h30m or 2d\n\n  The wait before the second attempt is at most this long; it doubles each time.\n\n  default  1s\n  limits   1ms or more\n  example  backoff: 2s\n",
		"jobs[].retry.backoff":   "jobs[].retry.backoff: ",
		"retry.backoff":          "jobs[].retry.backoff: ",
		"maxBackoff":             "jobs[].retry.maxBackoff: ",
		"defaults.retry":         "jobs[].retry: mapping\n",
		"Target":                 "jobs[].target: mapping, or its query alone\n",
		"defaults":               "defaults: mapping\n",
		"vars.NAME.default":      "vars.NAME.default: ",
		"vars.default":           "vars.NAME.default: ",
		"needs":                  "jobs[].needs: list of: mapping, or its job alone\n",
		"":                       "A plan has these keys.\n  version ",
		"jobs.rollout.stopWhen.": "",
		"backofff":               "",
		"sku":                    "",
	} {
		got, err := spec.Explain(name)
		switch {
		case want == "" && err == nil:
			t.Errorf("Explain(%q) = %q, want an error", name, got)
		case want != "" && (err != nil || !strings.HasPrefix(got, want)):
			t.Errorf("Explain(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	if got, _ := spec.Explain("retry"); !strings.Contains(got, "\nIts keys:\n  attempts ") {
		t.Errorf("Explain(retry) lists no keys: %s", got)
	}
	if got, _ := spec.Explain("defaults"); !strings.Contains(got, "  rate ") || strings.Contains(got, "  method ") {
		t.Errorf("Explain(defaults) lists other keys than it may have: %s", got)
	}
	if _, err := spec.Explain("jobs.retry.bakcoff"); err == nil || !strings.Contains(err.Error(), `did you mean "jobs.retry.backoff"?`) {
		t.Errorf("Explain of a misspelled field: %v", err)
	}
}

func TestSchemasAreCopies(t *testing.T) {
	spec.ReportSchemaJSON()[0] = 'x'
	if !bytes.HasPrefix(spec.ReportSchemaJSON(), []byte("{")) {
		t.Error("ReportSchemaJSON hands out its own bytes")
	}
}
