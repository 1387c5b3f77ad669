package planfile_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// FuzzParse: whatever the bytes, Parse returns, with a plan or an error, and
// every position is inside the text.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(src) < 10_000 {
			f.Add(src)
		}
	}
	for _, text := range []string{"a: [", "a: 'b", "\t", "a: *b", "? a", "- - - a", "a: |\n  b\n c", "\u0085a: \u2028 b", "%YAML 1.1\n---\na"} {
		f.Add([]byte(text))
	}
	folder := fstest.MapFS{"payload.json": {Data: []byte(`{"a": 1}`)}}
	f.Fuzz(func(t *testing.T, src []byte) {
		plan, diags := planfile.Parse("plan.yaml", src, planfile.Options{FS: folder})
		if (plan == nil) != diags.HasErrors() {
			t.Errorf("plan is nil: %t, HasErrors() = %t", plan == nil, diags.HasErrors())
		}
		for _, d := range diags {
			checkPosition(t, string(src), d)
		}
		if out := diags.String(); !utf8.ValidString(out) || strings.ContainsFunc(out, isControl) {
			t.Errorf("findings are not fit for a terminal: %q", out)
		}
	})
}

func isControl(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7F }

var yamlBreak = regexp.MustCompile("\r\n|[\n\r\u0085\u2028\u2029]")

func checkPosition(t *testing.T, src string, d spec.Diagnostic) {
	t.Helper()
	lines := yamlBreak.Split(strings.TrimPrefix(src, "\uFEFF"), -1)
	if d.Pos.Line < 1 || d.Pos.Line > len(lines) {
		t.Fatalf("line %d of %d: %v", d.Pos.Line, len(lines), d)
	}
	width := utf8.RuneCountInString(lines[d.Pos.Line-1])
	if d.Pos.Column < 1 || d.Pos.Column > width+1 || d.EndColumn > width+1 {
		t.Errorf("columns %d to %d of %d: %v", d.Pos.Column, d.EndColumn, width, d)
	}
	if d.Rule == "" || d.Summary == "" || d.Severity == "" {
		t.Errorf("finding without rule, severity or summary: %+v", d)
	}
}
