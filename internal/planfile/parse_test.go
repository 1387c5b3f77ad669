package planfile_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

var update = flag.Bool("update", false, "rewrite the expected outputs")

// TestCorpus reads every plan under testdata. NAME.out holds what Parse says:
// the findings of a bad plan, the findings and the filled-in plan of a good one.
func TestCorpus(t *testing.T) {
	for _, kind := range []string{"ok", "err"} {
		dir := filepath.Join("testdata", kind)
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("Glob(%q) = %v, %v", dir, files, err)
		}
		for _, file := range files {
			t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
				got, valid := outputOf(t, file)
				if valid != (kind == "ok") {
					t.Errorf("Parse(%q): valid = %t", file, valid)
				}
				want := strings.TrimSuffix(file, ".yaml") + ".out"
				if *update {
					if err := os.WriteFile(want, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				golden, err := os.ReadFile(want)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(golden), got); diff != "" {
					t.Errorf("Parse(%q) (-want +got):\n%s", file, diff)
				}
			})
		}
	}
}

func outputOf(t *testing.T, file string) (output string, valid bool) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	plan, diags := planfile.Parse(filepath.Base(file), src, planfile.Options{FS: os.DirFS(filepath.Dir(file))})
	if (plan == nil) != diags.HasErrors() {
		t.Errorf("Parse(%q): plan is nil: %t, HasErrors() = %t", file, plan == nil, diags.HasErrors())
	}
	if plan == nil {
		return diags.String(), false
	}
	plan.SHA256 = "(sum)"
	for i := range plan.Jobs {
		if w := plan.Jobs[i].Window; w != nil { // prints as an empty object
			w.Location = nil
		}
	}
	shown, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return diags.String() + string(shown) + "\n" + templatesOf(plan), true
}

func templatesOf(plan *spec.Plan) string {
	var b strings.Builder
	show := func(job, field string, t *spec.Template) {
		if t != nil {
			fmt.Fprintf(&b, "%s.%s reads %+v: %s\n", job, field, t.Reads(), t)
		}
	}
	for _, j := range plan.Jobs {
		if j.Method != nil {
			show(j.Name, "payload", j.Method.Template)
		}
		if j.Twin != nil {
			show(j.Name, "desired", j.Twin.DesiredTemplate)
			show(j.Name, "tags", j.Twin.TagsTemplate)
			if j.Confirm != nil {
				show(j.Name, "confirm", j.Confirm.Template)
			}
		}
	}
	return b.String()
}
