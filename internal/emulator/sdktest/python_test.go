package sdktest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

const pythonSDKs = "Microsoft's Python SDKs"

// TestPython runs every program under python/ against a hub of its own, on
// ports that the kernel picks.
func TestPython(t *testing.T) {
	t.Parallel()
	python, err := findPython()
	if foreign.Excused(t, pythonSDKs, err) {
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
	python, err := findPython()
	if foreign.Excused(t, pythonSDKs, err) || foreign.Excused(t, pythonSDKs+" on the standard ports", standardPortsFree(t.Context())) {
		return
	}
	for _, program := range pythonPrograms(t) {
		t.Run(program, func(t *testing.T) {
			if h, err := tryHub(t, standardPorts(), doors); !foreign.Excused(t, pythonSDKs, err) {
				runPython(t, python, h, program)
			}
		})
	}
}

// findPython returns the interpreter that has the packages.
func findPython() (string, error) {
	made, err := installed("python", "requirements.txt")
	return filepath.Join(made, "bin", "python"), err
}

// installed returns the folder below .tools that the make target of a language filled
// with the packages of a list. It keeps the list it was made from beside them.
func installed(language, list string) (made string, err error) {
	want, err := os.ReadFile(filepath.Join(language, list))
	if err != nil {
		return "", err
	}
	if made, err = filepath.Abs(filepath.FromSlash("../../../.tools/" + language)); err != nil {
		return "", err
	}
	has, err := os.ReadFile(filepath.Join(made, list))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(has, want) {
		return "", foreign.AbsenceError(fmt.Sprintf("the packages of %s/%s are not installed; make %s-sdks does that", language, list, language))
	}
	return made, err
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

// tutorialFile names a file with the text of "Schedule and broadcast jobs
// (Python)", whose programs then run as they stand there.
const tutorialFile = "RUNNER_TEST_TUTORIAL"

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
	cmd.Env = append(cmd.Env, deviceCertificate(t)...)
	if text := os.Getenv(tutorialFile); text != "" {
		cmd.Env = append(cmd.Env, "HUB_TUTORIAL="+text)
	}
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
