//go:build sdk

// Package sdktest runs Microsoft's own Node clients, unmodified, against the
// emulator. It needs node and npm, so it has a build tag of its own:
//
//	make sdk
package sdktest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
)

// TestNodeClients runs the suite against a hub on ports that the system picks.
func TestNodeClients(t *testing.T) {
	if _, err := os.Stat("node_modules"); err != nil {
		t.Fatalf("the clients are not installed; run npm ci in this folder, or make sdk: %v", err)
	}
	hub, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", TLSDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closed := hub.Close(); closed != nil {
			t.Errorf("close the hub: %v", closed)
		}
	})
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	// One file after the other: the suite counts devices, and a hub runs one
	// job at a time.
	cmd := exec.CommandContext(ctx, "node", "--test", "--test-concurrency=1", "suite/")
	cmd.Env = append(os.Environ(),
		"NODE_EXTRA_CA_CERTS="+hub.CAFile(),
		"HUB_SERVICE_CONNECTION_STRING="+strings.Replace(hub.ConnectionString(), hub.HostName(), "localhost", 1),
		"HUB_HTTPS_PORT="+port(hub.HTTPSAddr()),
		"HUB_DEVICE_HOST=localhost:"+port(hub.MQTTAddr()),
	)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the suite: %v", err)
	}
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}
