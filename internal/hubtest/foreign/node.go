// Package foreign runs programs in other languages that test ours, and says what a
// machine lacks for them.
package foreign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// oldestNode has the test runner that the programs are written for.
const oldestNode = 20

// AbsenceError is what this machine lacks to run clients. It is no fault of ours.
type AbsenceError string

// Error says what is missing.
func (a AbsenceError) Error() string { return string(a) }

// Excused says whether a test cannot run for a reason that is not ours. It
// says so in a line, and ends the test for every other error.
func Excused(t *testing.T, who string, err error) bool {
	t.Helper()
	if why, ok := errors.AsType[AbsenceError](err); ok && os.Getenv("RUNNER_TEST_FOREIGN") != "require" {
		line := t.Name() + ": " + who + " were NOT tested: " + why.Error()
		t.Log(line)
		if noteErr := note(line); noteErr != nil {
			t.Error(noteErr)
		}
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// note says a line on stderr and adds it to the file that RUNNER_TEST_NOTES
// names: go test shows what a package says only when the package fails.
func note(line string) error {
	fmt.Fprintln(os.Stderr, line)
	file := os.Getenv("RUNNER_TEST_NOTES")
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// Node returns the program to run and sees to it that the packages are
// there. What cannot be helped is an absence.
func Node(ctx context.Context) (string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return "", AbsenceError("there is no node on the PATH")
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask node for its version: %w", err)
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, _ := strconv.Atoi(major); n < oldestNode {
		return "", AbsenceError(fmt.Sprintf("node is %s, want %d or newer", version, oldestNode))
	}
	return node, installPackages(ctx)
}

// installPackages fetches what package-lock.json pins, unless it is there.
func installPackages(ctx context.Context) error {
	lock := flock.New("package-lock.json") // two runs of the tests take turns
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("wait for the other run's npm: %w", err)
	}
	defer lock.Unlock() //nolint:errcheck // the kernel unlocks it at the latest when we end

	pinned, err := os.ReadFile("package-lock.json")
	if err != nil {
		return fmt.Errorf("read the lock file: %w", err)
	}
	sum := sha256.Sum256(pinned)
	want, stamp := hex.EncodeToString(sum[:]), filepath.Join("node_modules", ".installed")
	if have, readErr := os.ReadFile(stamp); readErr == nil && string(have) == want {
		return nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return AbsenceError("there is no npm on the PATH to fetch them")
	}
	out, err := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund").CombinedOutput()
	if code := unreachable(out); err != nil && code != "" {
		return AbsenceError("npm cannot fetch them: " + code)
	}
	if err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.WriteFile(stamp, []byte(want), 0o600); err != nil {
		return fmt.Errorf("note what is installed: %w", err)
	}
	return nil
}

// unreachable returns npm's code for a registry that cannot be reached, which
// is the network's fault; every other failure is ours.
func unreachable(out []byte) string {
	for _, code := range []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED"} {
		if bytes.Contains(out, []byte("code "+code)) {
			return code
		}
	}
	return ""
}

// Deadline bounds a program that hangs.
const Deadline = 2 * time.Minute

// RunNode runs one program and fails unless every test in it ran and passed.
func RunNode(t *testing.T, node string, env []string, program string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), Deadline)
	defer stop()
	cmd := exec.CommandContext(ctx, node, "--test-reporter=tap", program)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("run %s: %v", program, err)
	} else if ok {
		t.Fatalf("%s: %v\n%s", program, exit, tapFailures(out.String()))
	}
	counts := map[string]int{}
	tapCount := regexp.MustCompile(`(?m)^# (tests|pass|fail|cancelled|skipped|todo) (\d+)$`)
	for _, m := range tapCount.FindAllStringSubmatch(out.String(), -1) {
		counts[m[1]], _ = strconv.Atoi(m[2])
	}
	ran := counts["tests"]
	if ran == 0 || counts["pass"] != ran || counts["skipped"]+counts["todo"]+counts["cancelled"] != 0 {
		t.Fatalf("%s: counts %v, want every test to run and to pass\n%s", program, counts, &out)
	}
	t.Logf("%d tests", ran)
}

// tapFailures leaves out what passed.
func tapFailures(out string) string {
	var kept []string
	passing := false
	for line := range strings.Lines(out) {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "ok "):
			passing = true
			continue
		case passing && (trimmed == "---" || trimmed == "..." || strings.HasPrefix(trimmed, "duration_ms:") || strings.HasPrefix(trimmed, "type:")):
			continue
		}
		passing = false
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}
