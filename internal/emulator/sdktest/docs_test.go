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

	"iothub-runner/internal/hubtest/foreign"
)

// page is docs/emulator-clients.md as its reader carries it out.
type page struct {
	text  string
	dir   string // stands for ~/.hub, and holds the programs
	node  string
	ready testHub
}

// openPage writes the programs of the page into a folder.
func openPage(t *testing.T, node string) *page {
	t.Helper()
	text, err := os.ReadFile("../../../docs/emulator-clients.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{text: string(text), dir: t.TempDir(), node: node}
	var names []string
	for _, m := range regexp.MustCompile("(?s)```js\n// (\\w+\\.js):.*?\n```").FindAllStringSubmatch(p.text, -1) {
		names = append(names, m[1])
		source := strings.TrimSuffix(strings.TrimPrefix(m[0], "```js\n"), "```")
		if err = os.WriteFile(filepath.Join(p.dir, m[1]), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(names, " "); got != "register.js device.js service.js" {
		t.Fatalf("the page has the programs %q", got)
	}
	return p
}

// startEmulator runs the command of the page, word by word.
func (p *page) startEmulator(t *testing.T) (*process, error) {
	t.Helper()
	command := regexp.MustCompile(`(?m)^runner emulator (.*)$`).FindStringSubmatch(p.text)
	if command == nil {
		t.Fatal("the page starts no emulator")
	}
	hub, err := launch(strings.Fields(strings.ReplaceAll(command[1], "~/.hub", p.dir))...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := hub.stop(); err != nil {
			t.Error(err)
		}
	})
	return hub, readJSON(filepath.Join(p.dir, "hub.json"), &p.ready)
}

// program is one of the page, as its reader starts it.
func (p *page) program(ctx context.Context, t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	packages, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, p.node, filepath.Join(p.dir, name))
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "NODE_PATH="+packages,
		"NODE_EXTRA_CA_CERTS="+filepath.Join(p.dir, "ca.pem"), "IOTHUB_CONNECTION_STRING="+p.ready.ServiceConnectionString)
	return cmd
}

// testDocuments does what the page says: start the emulator, register, come
// back on another day and register again, start the device, call it.
func testDocuments(t *testing.T, node string) {
	t.Helper()
	p := openPage(t, node)
	hub, err := p.startEmulator(t)
	if foreign.Excused(t, nodeSDKs, err) {
		return
	}
	ctx, stop := context.WithTimeout(t.Context(), foreign.Deadline)
	defer stop()
	device, err := p.program(ctx, t, "register.js").Output()
	if err != nil {
		t.Fatalf("register.js: %v", err)
	}
	if err = hub.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err = p.startEmulator(t); foreign.Excused(t, nodeSDKs, err) {
		return
	}
	if again, againErr := p.program(ctx, t, "register.js").Output(); againErr != nil || string(again) != string(device) {
		t.Errorf("register.js on another day: %v, want the same connection string", againErr)
	}
	running := p.program(ctx, t, "device.js", "DEVICE_CONNECTION_STRING="+strings.TrimSpace(string(device)))
	var said bytes.Buffer
	running.Stdout, running.Stderr = &said, &said
	if err = running.Start(); err != nil {
		t.Fatalf("device.js: %v", err)
	}
	out, err := p.program(ctx, t, "service.js").CombinedOutput()
	if killErr := running.Process.Kill(); killErr != nil {
		t.Errorf("stop device.js: %v", killErr)
	}
	_ = running.Wait() // it was killed
	const heard = "connected\ndesired {}\nlockDoor { lockTime: '10m' }\ndesired { building: 43, floor: 3 }\n"
	if said.String() != heard {
		t.Errorf("device.js wrote\n%s\nwant\n%s", &said, heard)
	}
	const want = `{"status":200,"payload":{"Response":"locked for 10m"}}` + "\nreported floor 3\n"
	if err != nil || string(out) != want {
		t.Errorf("service.js: %v, it wrote\n%s\nwant\n%s", err, out, want)
	}
}
