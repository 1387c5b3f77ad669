package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "iothub-runner/"

// boundary says which of our packages one of our packages may import, and why
// it may import no others. It holds for the packages below it too, unless
// those have a boundary of their own.
type boundary struct {
	pkg string
	may []string
	why string
}

// anything allows a package to import every other one.
const anything = "*"

func boundaries() []boundary {
	return []boundary{
		{"cmd/runner", []string{anything}, "it wires the parts together"},
		{"examples", nil, "an example is a program of its own, as a user would write it"},
		{"spec", []string{"internal/twinquery"}, "it describes two documents and performs no I/O"},
		{"internal/planfile", []string{"spec", "internal/twinquery", "internal/secrets"}, "it reads a plan and knows no hub"},
		{"internal/secrets", []string{"spec"}, "it looks at text"},
		{"runner", []string{"internal/clock", "spec", "internal/hub", "internal/journal", "internal/pace", "internal/cohort", "internal/decide", "internal/target", "internal/rollout", "internal/preview", "internal/schedule", "internal/mask", "internal/inputs", "internal/fold"}, "it knows a hub only as target.Hub"},
		{"internal/hub", nil, "it is words, and words need nobody"},
		{"internal/hubclient", []string{"internal/hub"}, "it satisfies target.Hub without knowing it"},
		{"internal/journal", nil, "it stores bytes; runner gives them their meaning"},
		{"internal/cohort", []string{"spec", "internal/hub", "internal/journal"}, "it knows where rows stand, not what made them"},
		{"internal/decide", []string{"spec", "internal/hub", "internal/pace"}, "it judges answers; somebody else does what it says"},
		{"internal/target", []string{"internal/clock", "spec", "internal/hub", "internal/pace", "internal/cohort", "internal/decide", "internal/rollout"}, "it reads hubs and sends nothing to devices"},
		{"internal/rollout", []string{"spec", "internal/cohort"}, "it orders a cohort and touches nothing"},
		{"internal/schedule", []string{"spec"}, "it computes times from a plan and touches nothing"},
		{"internal/mask", []string{"spec"}, "it hides secrets of whatever is shown"},
		{"internal/inputs", []string{"spec"}, "it compares plans and touches nothing"},
		{"internal/preview", []string{"internal/clock", "spec", "internal/hub", "internal/pace", "internal/cohort", "internal/decide", "internal/target", "internal/schedule", "internal/rollout", "internal/mask", "internal/inputs"}, "it sends nothing to a device and cannot touch a journal"},
		{"internal/pace", []string{"internal/clock", "internal/hub"}, "it knows what a hub takes, not what is sent to it"},
		{"internal/twinquery", nil, "a language does not depend on who reads it"},
		{"internal/emulator", []string{"internal/twinquery", "internal/emulator/fleet", "internal/emulator/access", "internal/emulator/clock", "internal/emulator/core", "internal/emulator/devices", "internal/emulator/jobs", "internal/emulator/refuse", "internal/emulator/store", "internal/emulator/twindoc", "internal/emulator/wire"}, "it is a second, independent reading of the hub's protocol"},
		{"internal/emulator/fleet", nil, "simulated devices know no hub"},
		{"internal/emulator/clock", nil, "time knows no hub"},
		{"internal/emulator/wire", nil, "a way of writing depends on nothing"},
		{"internal/emulator/refuse", []string{"internal/emulator/wire"}, "an error does not know what it is of"},
		{"internal/emulator/access", []string{"internal/emulator/refuse", "internal/emulator/wire"}, "keys are derived for whoever asks"},
		{"internal/emulator/twindoc", []string{"internal/emulator/refuse", "internal/emulator/wire"}, "a document does not know whose twin it is"},
		{"internal/emulator/store", []string{"internal/emulator/wire", "internal/twinquery", "internal/emulator/fleet", "internal/emulator/refuse", "internal/emulator/twindoc"}, "devices are kept without being spoken to"},
		{"internal/emulator/core", []string{"internal/twinquery", "internal/emulator/fleet", "internal/emulator/access", "internal/emulator/clock", "internal/emulator/refuse", "internal/emulator/store", "internal/emulator/twindoc", "internal/emulator/wire"}, "it does not know which face of the hub somebody looks at"},
		{"internal/emulator/devices", []string{"internal/emulator/fleet", "internal/emulator/access", "internal/emulator/core", "internal/emulator/refuse", "internal/emulator/store", "internal/emulator/twindoc", "internal/emulator/wire"}, "it speaks MQTT and nothing else"},
		{"internal/emulator/jobs", []string{"internal/twinquery", "internal/emulator/fleet", "internal/emulator/core", "internal/emulator/refuse", "internal/emulator/store", "internal/emulator/twindoc", "internal/emulator/wire", "internal/emulator/clock"}, "it runs jobs, whoever asked for them"},
		{"internal/faults", nil, "it is tests alone, and they are what may import everything"},
		{"internal/release", nil, "it packs the program from outside"},
		{"internal/bench", nil, "it measures the programs from outside"},
		{"internal/render", []string{"spec", "internal/preview", "internal/hub", "internal/fold"}, "it shows documents, whoever made them"},
		{"internal/telemetry", []string{"runner", "spec", "internal/hub", "internal/target", "internal/render"}, "it tells others of a run and cannot change it"},
		{"internal/terminal", []string{"internal/clock", "runner", "spec", "internal/render", "internal/pace", "internal/exit"}, "it shows a run and cannot change it"},
		{"internal/fold", []string{"spec"}, "it adds up rows, wherever they come from"},
		{"internal/results", []string{"spec", "runner", "internal/journal", "internal/fold"}, "it reads what a run left, whichever form that has"},
		{"internal/undo", []string{"spec", "internal/journal"}, "it reads what a run left and knows no hub"},
		{"internal/clock", nil, "time depends on nobody"},
		{"internal/exit", nil, "a code and a hint need nobody"},
		{"internal/output", []string{"spec", "internal/exit", "internal/render", "internal/terminal"}, "it writes files, whatever is in them"},
		{"internal/state", []string{"internal/clock", "spec", "runner", "internal/exit", "internal/output", "internal/journal", "internal/inputs", "internal/preview"}, "it finds journals; runner reads them"},
		{"internal/hubtest", []string{"internal/hub"}, "it is handed the hub and the client under test"},
	}
}

// boundaryOf returns the boundary with the longest path that holds pkg.
func boundaryOf(pkg string) (boundary, bool) {
	var best boundary
	found := false
	for _, b := range boundaries() {
		if within(pkg, b.pkg) && len(b.pkg) > len(best.pkg) {
			best, found = b, true
		}
	}
	return best, found
}

func within(pkg, parent string) bool {
	return pkg == parent || strings.HasPrefix(pkg, parent+"/")
}

// check returns what is wrong with pkg importing imported, or "".
func check(pkg, imported string) string {
	from, ok := boundaryOf(pkg)
	if !ok {
		return fmt.Sprintf("package %s has no boundary: add one that says what it may import, and why", pkg)
	}
	to, ok := boundaryOf(imported)
	if !ok || to.pkg == from.pkg || slices.Contains(from.may, anything) || slices.Contains(from.may, to.pkg) {
		return ""
	}
	return fmt.Sprintf("package %s imports %s, but %s; it may import %q of ours", pkg, imported, from.why, from.may)
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list returns our packages without their tests, and all that they depend on.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test=false", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []listed
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("go list answered with what is not JSON: %v", err)
		}
		all = append(all, p)
	}
}

// TestTimeZonesAreInside: a machine or an image without a database of time zones
// still knows those of a plan.
func TestTimeZonesAreInside(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath == module+"cmd/runner" {
			if !slices.Contains(p.Deps, "time/tzdata") {
				t.Error("the program does not hold the time zones (time/tzdata)")
			}
			return
		}
	}
	t.Error("go list does not know the program")
}

func TestImports(t *testing.T) {
	ours := 0
	for _, p := range list(t) {
		pkg, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		ours++
		if _, ok := boundaryOf(pkg); !ok {
			t.Error(check(pkg, ""))
			continue
		}
		for _, path := range p.Imports {
			imported, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			if wrong := check(pkg, imported); wrong != "" {
				t.Error(wrong)
			}
		}
	}
	if ours < 4 {
		t.Errorf("go list found %d packages of ours, want those of spec, runner, hub and hubclient at least", ours)
	}
}

// TestNoTestCodeInBinary looks at everything that our packages link, other
// people's included: package testing registers flags and weighs the binary down.
func TestNoTestCodeInBinary(t *testing.T) {
	all := list(t)
	for _, p := range all {
		pkg, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok || within(pkg, "internal/hubtest") || within(pkg, "examples") {
			continue
		}
		for _, dep := range p.Deps {
			if within(dep, "testing") || within(dep, module+"internal/hubtest") {
				t.Errorf("package %s links %s, which is for tests; it comes with %q", pkg, dep, importersOf(all, dep))
			}
		}
	}
}

// importersOf returns who imports pkg: where to look for the culprit.
func importersOf(all []listed, pkg string) []string {
	var importers []string
	for _, p := range all {
		if slices.Contains(p.Imports, pkg) {
			importers = append(importers, p.ImportPath)
		}
	}
	return importers
}

// TestBoundaries proves that the check itself can tell right from wrong.
func TestBoundaries(t *testing.T) {
	tests := []struct {
		pkg, imported string
		allowed       bool
	}{
		{"cmd/runner", "internal/emulator", true},
		{"spec", "internal/twinquery", true},
		{"spec", "internal/hub", false},
		{"runner", "internal/hub", true},
		{"runner", "internal/pace", true},
		{"runner", "internal/hubclient", false},
		{"internal/pace", "runner", false},
		{"internal/cohort", "internal/pace", false},
		{"internal/target", "internal/journal", false},
		{"internal/preview", "internal/journal", false},
		{"internal/preview", "runner", false},
		{"internal/decide", "internal/target", false},
		{"runner", "internal/emulator", false},
		{"internal/hubclient", "internal/hub", true},
		{"internal/hubclient", "internal/emulator", false},
		{"internal/emulator", "internal/emulator/fleet", true},
		{"internal/emulator/sdktest", "internal/emulator", true},
		{"internal/emulator/devices", "internal/emulator/jobs", false},
		{"internal/emulator/core", "internal/emulator/devices", false},
		{"internal/emulator/fleet", "internal/twinquery", false},
		{"internal/emulator", "internal/hub", false},
		{"internal/render", "runner", false},
		{"internal/hubtest", "internal/hub", true},
		{"internal/unheardof", "internal/hub", false},
		{"internal/hubber", "internal/hub", false},
		{"internal/emulator", "spec", false},
	}
	for _, tt := range tests {
		if wrong := check(tt.pkg, tt.imported); (wrong == "") != tt.allowed {
			t.Errorf("check(%q, %q) = %q, want allowed %t", tt.pkg, tt.imported, wrong, tt.allowed)
		}
	}
}
