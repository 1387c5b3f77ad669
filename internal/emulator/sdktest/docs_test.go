package sdktest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runDocs runs the three programs of docs/emulator-clients.md as they stand
// there, as their reader would: register, start the device, call it.
func runDocs(t *testing.T, node string, h *testHub) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/emulator-clients.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var names []string
	for _, m := range regexp.MustCompile("(?s)```js\n// (\\w+\\.js):.*?\n```").FindAllStringSubmatch(string(page), -1) {
		names = append(names, m[1])
		source := strings.TrimSuffix(strings.TrimPrefix(m[0], "```js\n"), "```")
		if err = os.WriteFile(filepath.Join(dir, m[1]), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(names, " "); got != "register.js device.js service.js" {
		t.Fatalf("the page has the programs %q", got)
	}
	packages, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), nodeDeadline)
	defer stop()
	program := func(name string, env ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, node, filepath.Join(dir, name))
		cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "NODE_PATH="+packages, "NODE_EXTRA_CA_CERTS="+h.CAFile, "IOTHUB_CONNECTION_STRING="+h.ServiceConnectionString)
		return cmd
	}
	device, err := program("register.js").Output()
	if err != nil {
		t.Fatalf("register.js: %v", err)
	}
	running := program("device.js", "DEVICE_CONNECTION_STRING="+strings.TrimSpace(string(device)))
	var said bytes.Buffer
	running.Stdout, running.Stderr = &said, &said
	if err = running.Start(); err != nil {
		t.Fatalf("device.js: %v", err)
	}
	out, err := program("service.js").CombinedOutput()
	if killErr := running.Process.Kill(); killErr != nil {
		t.Errorf("stop device.js: %v", killErr)
	}
	_ = running.Wait() // it was killed
	const want = `{"status":200,"payload":{"Response":"locked for 10m"}}` + "\nreported floor 3\n"
	if err != nil || string(out) != want {
		t.Errorf("service.js: %v, it wrote\n%s\nwant\n%s\nthe device wrote\n%s", err, out, want, &said)
	}
}
