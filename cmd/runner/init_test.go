package main

import (
	"regexp"
	"strings"
	"testing"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// What stands in the first plan as a comment can be taken in as it is.
func TestFirstPlanWithoutComments(t *testing.T) {
	commented := regexp.MustCompile(`(?m)^(\s*)# ( *[a-zA-Z]+:( .*)?)$`)
	text := commented.ReplaceAllString(firstPlan, "$1$2")
	plan, found := planfile.Parse("plan.yaml", []byte(text), planfile.Options{})
	if len(found) > 0 {
		t.Fatalf("the first plan with all that it suggests:\n%s\n%s", found, text)
	}
	lock := plan.Jobs[1]
	if plan.Hub.SKU != "S1" || plan.Jobs[0].Twin.Tags == nil || lock.Offline != spec.OfflineWait || lock.Rate != 40 || len(lock.Target.Exclude) != 1 {
		t.Errorf("not every comment was taken in: %+v", plan)
	}
}

// The keys of the first plan are explained, and so are all others.
func TestExplainEveryField(t *testing.T) {
	for _, f := range spec.Fields() {
		text, err := explain(f.Path)
		if err != nil || !strings.Contains(text, f.Doc) {
			t.Errorf("explain(%q) = %q, %v, want what the field is", f.Path, text, err)
		}
	}
	for _, r := range spec.Rules() {
		if text, err := explain(string(r.ID)); err != nil || text == "" {
			t.Errorf("explain(%q) = %q, %v, want what the rule is", r.ID, text, err)
		}
	}
}
