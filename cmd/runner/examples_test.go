package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// examplePlans are the plans among the examples, with how each ends on the
// fleet that it names and what the devices come to. The tutorial, which takes
// its time, has a script of its own.
func examplePlans() map[string]struct {
	code     int
	outcomes map[spec.Outcome]int
} {
	type ending = struct {
		code     int
		outcomes map[spec.Outcome]int
	}
	return map[string]ending{
		"firmware.yaml":         {exit.Missed, map[spec.Outcome]int{spec.OutcomeSucceeded: 348, spec.OutcomeRejected: 8, spec.OutcomeOffline: 4}},
		"night-window.yaml":     {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 388, spec.OutcomeRejected: 8, spec.OutcomeOffline: 4}},
		"rings.yaml":            {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 4854, spec.OutcomeUnconfirmed: 148}},
		"values.yaml":           {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 4}},
		"module-tags.yaml":      {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 133}},
		"nightly.yaml":          {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 132}},
		"tutorial.yaml":         {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 2}},
		"wait-for-devices.yaml": {exit.OK, map[spec.Outcome]int{spec.OutcomeSucceeded: 3}},
	}
}

// TestExamples applies every plan among the examples with the command that
// stands in it.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) != len(examplePlans()) {
		t.Fatalf("%d plans in examples (%v), want the %d of examplePlans", len(files), err, len(examplePlans()))
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, known := examplePlans()[name]
			if !known {
				t.Fatalf("no ending is known for %s", name)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			plan, findings := planfile.Parse(name, text, planfile.Options{FS: os.DirFS("../../examples")})
			if len(findings) > 0 || plan.Description == "" {
				t.Fatalf("Parse(%s) = %q, %v; want a description and no findings", name, plan.Description, findings)
			}
			if name == "tutorial.yaml" {
				return // applied by the script tutorial
			}
			args := strings.Fields(exampleCommand(t, string(text)))
			for i, arg := range args {
				args[i] = strings.ReplaceAll(arg, "examples/", "../../examples/")
			}
			code, stdout, stderr := program(t, args...)
			if code != want.code {
				t.Errorf("exit code %d, want %d\n%s", code, want.code, stderr)
			}
			if err := checkReport([]byte(stdout)); err != nil {
				t.Fatal(err)
			}
			var rep spec.Report
			if err := json.Unmarshal([]byte(stdout), &rep); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(rep.Summary.Outcomes) != fmt.Sprint(want.outcomes) {
				t.Errorf("outcomes %v, want %v", rep.Summary.Outcomes, want.outcomes)
			}
		})
	}
}

// program applies a plan in a process of its own: the time of a rehearsal is that of
// its process.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	runner := filepath.Join(dir, "runner")
	if err = os.Symlink(self, runner); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), runner, append([]string{"apply"}, args...)...)
	cmd.Env = []string{"HOME=" + dir}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// exampleCommand returns the arguments of the apply command in a plan's comment.
func exampleCommand(t *testing.T, text string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^#   runner apply (.*)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no comment with a command: #   runner apply ...")
	}
	return m[1]
}

// TestPlanFromPipe reads a plan from a pipe by name, as shells make one for
// <(command): it can be read once.
func TestPlanFromPipe(t *testing.T) {
	t.Parallel()
	plan, err := os.ReadFile("../../examples/module-tags.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err = makeFIFO(pipe); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	writing.Go(func() { _ = os.WriteFile(pipe, plan, 0o600) })
	code, _, stderr := apply(t, "--emulator=../../examples/fleets/sensors.yaml", pipe)
	if code != exit.OK {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	writing.Wait()
}

// TestNightlyScript runs the script for cron as cron does, on a good night and
// on a bad one.
func TestNightlyScript(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runner := filepath.Join(dir, "runner")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err = os.Symlink(self, runner); err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	reports := filepath.Join(dir, "reports")
	night := func(plan string) (code int, said string) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(examples, "cron", "nightly.sh"),
			filepath.Join(examples, plan), "--emulator="+filepath.Join(examples, "fleets", "sensors.yaml"))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "RUNNER=" + runner, "REPORTS=" + reports}
		out, runErr := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(runErr)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, said := night("nightly.yaml"); code != 0 || said != "" {
		t.Errorf("a good night ends with %d and says %q, want 0 and nothing", code, said)
	}
	code, said := night("firmware.yaml")
	if code != exit.Missed || !strings.Contains(said, "runner: error: job install: 12 of 360") || !strings.Contains(said, "some devices did not do it") {
		t.Errorf("a bad night ends with %d and says %q, want 1 and why", code, said)
	}
	entries, err := os.ReadDir(reports)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d reports, want 2 (%v)", len(entries), err)
	}
	for i := range 40 {
		for _, plan := range []string{"nightly", "nightly-2", "zz"} { // another plan's sort before, among and after
			name := fmt.Sprintf("%s-202001%02dT020000Z-7.json", plan, i)
			if err = os.WriteFile(filepath.Join(reports, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	night("nightly.yaml")
	kept := map[string]int{}
	entries, err = os.ReadDir(reports)
	for _, e := range entries {
		plan, _, _ := strings.Cut(e.Name(), "-20")
		kept[plan]++
	}
	newest := slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), "nightly-20") && !strings.HasPrefix(e.Name(), "nightly-2020")
	})
	want := map[string]int{"nightly": 30, "nightly-2": 40, "zz": 40, "firmware": 1}
	if err != nil || !newest || !maps.Equal(kept, want) {
		t.Errorf("reports kept: %v, want %v with the newest (%v)", kept, want, err)
	}
}
