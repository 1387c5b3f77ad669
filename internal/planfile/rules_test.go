package planfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// docRule is one section of docs/rules.md.
type docRule struct {
	id, text  string
	bad, good example
}

type example struct{ kind, text string }

var (
	exprSection = regexp.MustCompile(`(?m)^## (\S+)$`)
	exprExample = regexp.MustCompile("(?s)(Bad|Good):\n\n```yaml (\\w+)\n(.*?)\n```")
)

func docRules(t *testing.T) []docRule {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rules []docRule
	heads := exprSection.FindAllSubmatchIndex(page, -1)
	for i, h := range heads {
		end := len(page)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		r := docRule{id: string(page[h[2]:h[3]]), text: string(page[h[1]:end])}
		for _, m := range exprExample.FindAllStringSubmatch(r.text, -1) {
			if m[1] == "Bad" {
				r.bad = example{m[2], m[3]}
			} else {
				r.good = example{m[2], m[3]}
			}
		}
		rules = append(rules, r)
	}
	return rules
}

// plan makes a plan of an example.
func (e example) plan(t *testing.T) string {
	t.Helper()
	indent := func(n int) string { return strings.ReplaceAll(e.text, "\n", "\n"+strings.Repeat(" ", n)) }
	switch e.kind {
	case "plan":
		return e.text + "\n"
	case "jobs":
		return "version: 1\nname: p\njobs:\n  " + indent(2) + "\n"
	case "method":
		return "version: 1\nname: p\njobs:\n  - name: a\n    type: directMethod\n    target: tags.a = 1\n    method: m\n    " + indent(4) + "\n"
	case "twin":
		return "version: 1\nname: p\njobs:\n  - name: a\n    type: updateTwin\n    target: tags.a = 1\n    desired: {a: 1}\n    " + indent(4) + "\n"
	}
	t.Fatalf("example of kind %q", e.kind)
	return ""
}

// TestRulesPage executes docs/rules.md: it has the rules of the table in their
// order, a bad example has its finding, and a good one has none but warnings
// of fields that are not carried out yet.
func TestRulesPage(t *testing.T) {
	without := []spec.Rule{ // an example would be megabytes, or unprintable
		spec.RuleFileSize, spec.RuleEncoding, spec.RuleHidden, spec.RuleNesting, spec.RuleTooMany, spec.RuleQueryLength, spec.RulePayloadSize, spec.RuleTwinSize,
	}
	sections := docRules(t)
	for i, r := range spec.Rules() {
		if i >= len(sections) || sections[i].id != string(r.ID) {
			t.Fatalf("docs/rules.md: section %d is not %q", i, r.ID)
		}
		s := sections[i]
		word := map[spec.Severity]string{spec.SeverityError: "Error", spec.SeverityWarning: "Warning"}[r.Severity]
		if want := fmt.Sprintf("\n\n%s. %s\n", word, r.Doc); !strings.HasPrefix(s.text, want) {
			t.Errorf("%s: the section does not start with %q", r.ID, want)
		}
		if slices.Contains(without, r.ID) {
			continue
		}
		checkExamples(t, r.ID, s)
	}
	if len(sections) != len(spec.Rules()) {
		t.Errorf("docs/rules.md has %d sections for %d rules", len(sections), len(spec.Rules()))
	}
}

func checkExamples(t *testing.T, rule spec.Rule, s docRule) {
	t.Helper()
	if s.bad.text == "" || s.good.text == "" {
		t.Errorf("%s: no bad or no good example", rule)
		return
	}
	opts := planfile.Options{FS: os.DirFS(filepath.Join("testdata", "err"))}
	if _, diags := planfile.Parse("bad.yaml", []byte(s.bad.plan(t)), opts); !hasRule(diags, string(rule)) {
		t.Errorf("%s: the bad example has no such finding:\n%s%s", rule, s.bad.plan(t), diags)
	}
	plan, diags := planfile.Parse("good.yaml", []byte(s.good.plan(t)), opts)
	if plan == nil || len(diags) > 0 {
		t.Errorf("%s: the good example has findings:\n%s", rule, diags)
	}
}

// TestRulesAreCovered: every rule has a plan in the corpus, or a hostile file,
// that shows its finding.
func TestRulesAreCovered(t *testing.T) {
	seen := map[spec.Rule]bool{
		spec.RuleFileSize:    true, // TestHostileFiles
		spec.RulePayloadSize: true, // TestPayloadSize
	}
	for _, kind := range []string{"ok", "err"} {
		files, err := filepath.Glob(filepath.Join("testdata", kind, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, diags := planfile.Parse(filepath.Base(file), src, planfile.Options{FS: os.DirFS(filepath.Dir(file))})
			for _, d := range diags {
				seen[d.Rule] = true
			}
		}
	}
	for _, r := range spec.Rules() {
		if !seen[r.ID] {
			t.Errorf("no plan of the corpus shows %s", r.ID)
		}
	}
}
