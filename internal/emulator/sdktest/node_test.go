package sdktest_test

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

// absence is what this machine lacks to run clients. It is no fault of ours.
type absence string

// Error says what is missing.
func (a absence) Error() string { return string(a) }

// TestNode runs every program under node/ against a hub of its own, on ports
// that the kernel picks.
func TestNode(t *testing.T) {
	t.Parallel()
	node, err := prepareNode(t.Context())
	if excused(t, nodeSDKs, err) {
		return
	}
	for _, program := range programs(t, "node") {
		t.Run(programName(program), func(t *testing.T) {
			t.Parallel()
			h := startHub(t, anyPorts(hubName), doors)
			runNode(t, node, append(h.environment(t), "NODE_OPTIONS=--require=./node/redirect.cjs"), program)
		})
	}
}

// TestNodeOnStandardPorts runs the same, what a new user writes first, and the
// programs of the documents, with nothing between the SDKs and a hub on 443 and
// 8883.
func TestNodeOnStandardPorts(t *testing.T) {
	node, err := prepareNode(t.Context())
	if excused(t, nodeSDKs, err) || excused(t, nodeSDKs+" on the standard ports", standardPortsFree(t.Context())) {
		return
	}
	for _, program := range append(programs(t, "node"), programs(t, filepath.Join("node", "ports"))...) {
		t.Run(programName(program), func(t *testing.T) {
			if h, err := tryHub(t, standardPorts(), doors); !excused(t, nodeSDKs, err) {
				runNode(t, node, h.environment(t), program)
			}
		})
	}
	t.Run("documents", func(t *testing.T) { testDocuments(t, node) })
}

func programName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".test.cjs")
}

// The clients that an absence keeps from being tested.
const (
	nodeSDKs  = "Microsoft's Node SDKs"
	goClients = "the Go clients"
)

// excused says whether a test cannot run for a reason that is not ours. It
// says so in a line, and ends the test for every other error.
func excused(t *testing.T, who string, err error) bool {
	t.Helper()
	if why, ok := errors.AsType[absence](err); ok && os.Getenv("RUNNER_SDKTEST") != "require" {
		line := "sdktest: " + t.Name() + ": " + who + " were NOT tested: " + why.Error()
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

// note says a line on stderr and adds it to the file that RUNNER_SDKTEST_NOTES
// names: go test shows what a package says only when the package fails.
func note(line string) error {
	fmt.Fprintln(os.Stderr, line)
	file := os.Getenv("RUNNER_SDKTEST_NOTES")
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

// programs lists what there is to run. It reads every file, so that go test
// knows what a result that it keeps depends on.
func programs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.cjs"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".test.cjs") {
			list = append(list, file)
		}
	}
	if len(list) == 0 {
		t.Fatalf("there are no programs %s/*.test.cjs", dir)
	}
	return list
}

// prepareNode returns the program to run and sees to it that the packages are
// there. What cannot be helped is an absence.
func prepareNode(ctx context.Context) (string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return "", absence("there is no node on the PATH")
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask node for its version: %w", err)
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, _ := strconv.Atoi(major); n < oldestNode {
		return "", absence(fmt.Sprintf("node is %s, want %d or newer", version, oldestNode))
	}
	return node, installPackages(ctx)
}

// installPackages fetches what package-lock.json pins, unless it is there.
func installPackages(ctx context.Context) error {
	lock := flock.New("package-lock.json") // two runs of the tests take turns
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("wait for the other run's npm: %w", err)
	}
	defer lock.Unlock()

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
		return absence("there is no npm on the PATH to fetch them")
	}
	out, err := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund").CombinedOutput()
	if code := unreachable(out); err != nil && code != "" {
		return absence("npm cannot fetch them: " + code)
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

// nodeDeadline bounds a program that hangs.
const nodeDeadline = 2 * time.Minute

// runNode runs one program and fails unless every test in it ran and passed.
func runNode(t *testing.T, node string, env []string, program string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), nodeDeadline)
	defer stop()
	cmd := exec.CommandContext(ctx, node, "--test-reporter=tap", program)
	env = append(env, deviceCertificate(t)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "NODE_EXTRA_CA_CERTS=" + value(env, "HUB_CA_FILE")}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("run %s: %v", program, err)
	} else if ok {
		t.Fatalf("%s: %v\n%s", program, exit, tapFailures(out.String()))
	}
	counts := map[string]int{}
	for _, m := range tapCount.FindAllStringSubmatch(out.String(), -1) {
		counts[m[1]], _ = strconv.Atoi(m[2])
	}
	ran := counts["tests"]
	if ran == 0 || counts["pass"] != ran || counts["skipped"]+counts["todo"]+counts["cancelled"] != 0 {
		t.Fatalf("%s: counts %v, want every test to run and to pass\n%s", program, counts, &out)
	}
	t.Logf("%d tests", ran)
}

// value looks a variable up.
func value(env []string, name string) string {
	for _, setting := range env {
		if v, ok := strings.CutPrefix(setting, name+"="); ok {
			return v
		}
	}
	return ""
}

var tapCount = regexp.MustCompile(`(?m)^# (tests|pass|fail|cancelled|skipped|todo) (\d+)$`)

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
