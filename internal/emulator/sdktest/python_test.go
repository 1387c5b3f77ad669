package sdktest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/foreign"
)

const pythonLibraries = "the libraries under Microsoft's Python SDKs"

// pythonImports fails where the programs cannot run, and says why in its last
// line. The generation matters: the SDKs use the first one of paho-mqtt.
const pythonImports = `
import msrest, requests, paho.mqtt
if not paho.mqtt.__version__.startswith("1."):
    raise ImportError("paho-mqtt is " + paho.mqtt.__version__ + ", want 1.6")
`

// TestPython runs every program under python/ against a hub of its own, on
// ports that the kernel picks.
func TestPython(t *testing.T) {
	t.Parallel()
	python, err := findPython(t.Context())
	if foreign.Excused(t, pythonLibraries, err) {
		return
	}
	for _, program := range pythonPrograms(t) {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			runPython(t, python, startHub(t, anyPorts("localhost"), doors), program)
		})
	}
}

// TestPythonOnStandardPorts runs the same on 443 and 8883.
func TestPythonOnStandardPorts(t *testing.T) {
	python, err := findPython(t.Context())
	if foreign.Excused(t, pythonLibraries, err) || foreign.Excused(t, pythonLibraries+" on the standard ports", standardPortsFree(t.Context())) {
		return
	}
	for _, program := range pythonPrograms(t) {
		t.Run(program, func(t *testing.T) {
			if h, err := tryHub(t, standardPorts(), doors); !foreign.Excused(t, pythonLibraries, err) {
				runPython(t, python, h, program)
			}
		})
	}
}

// findPython returns an interpreter that can import what the programs need:
// the one on the PATH, or the system's, which has the distribution's packages.
func findPython(ctx context.Context) (string, error) {
	why := foreign.AbsenceError("there is no python3")
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		python, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, python, "-c", pythonImports).CombinedOutput()
		if err == nil {
			return python, nil
		}
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			return "", err
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		why = foreign.AbsenceError(python + ": " + lines[len(lines)-1] + "; make python-libs installs Debian's packages")
	}
	return "", why
}

// pythonPrograms lists the modules with tests. It reads every file, so that go
// test knows what a result that it keeps depends on.
func pythonPrograms(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("python/*.py")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if name := strings.TrimSuffix(filepath.Base(file), ".py"); strings.HasPrefix(name, "test_") {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		t.Fatal("there are no programs python/test_*.py")
	}
	return list
}

const pythonDeadline = 2 * time.Minute

// runPython runs one program and fails unless it had tests and all passed. Its
// environment is bare: no proxy, and no authorities but the hub's.
func runPython(t *testing.T, python string, h *testHub, program string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), pythonDeadline)
	defer stop()
	cmd := exec.CommandContext(ctx, python, "-B", "-W", "ignore::DeprecationWarning", "-m", "unittest", program)
	cmd.Dir = "python"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "REQUESTS_CA_BUNDLE=" + h.CAFile}, h.environment(t)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, &out)
	}
	ran := pythonRan.FindStringSubmatch(out.String())
	if ran == nil || ran[1] == "0" || !strings.HasSuffix(out.String(), "\nOK\n") {
		t.Fatalf("%s: want every test to run and to pass\n%s", program, &out)
	}
	n, _ := strconv.Atoi(ran[1])
	t.Logf("%d tests", n)
}

var pythonRan = regexp.MustCompile(`(?m)^Ran (\d+) tests? in `)
