package sdktest_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
)

// hubName is the hub's name for clients that take no port. The domain is
// reserved for tests: a request that is not redirected goes nowhere.
const hubName = "doors.azure-devices.test"

// doors is the fleet that the clients meet.
const doors = `
version: 1
seed: 7
devices:
  - idPattern: door-%03d
    count: 25
    tags: {building: 43, floor: 1}
    desired: {locked: true}
    methods: &methods
      echo: {payload: "${request}"}
      lockDoor: {payload: {door: "${id}"}}
      refuse: {status: 409, payload: open}
      hang: {does: hangs}
      garble: {does: garbage}
  - id: hall
    modules: [camera]
    methods: *methods
  - id: shaky
    methods: *methods
  - id: gone
    shares: {offline: 100%}
faults:
  - {fault: unavailable, operations: [method], devices: [shaky], calls: 1-2}
`

// loopback lets the kernel pick the port.
const loopback = "127.0.0.1:0"

// testHub is an emulated hub on real sockets.
type testHub struct {
	*emulator.Server

	caFile string
}

// hubOptions are those of a hub on ports that the kernel picks.
func hubOptions(t *testing.T, name, fleetFile string) emulator.Options {
	t.Helper()
	devices, err := fleet.Parse("fleet.yaml", []byte(fleetFile))
	if err != nil {
		t.Fatalf("fleet.Parse: %v", err)
	}
	return emulator.Options{HostName: name, HTTPSAddr: loopback, MQTTAddr: loopback, AdminAddr: loopback, Fleet: devices}
}

func startHub(t *testing.T, opts emulator.Options) *testHub {
	t.Helper()
	s, err := emulator.Start(opts)
	if err != nil {
		t.Fatalf("emulator.Start: %v", err)
	}
	return adopt(t, s)
}

// adopt closes the hub when the test ends, and puts its authority into a file.
func adopt(t *testing.T, s *emulator.Server) *testHub {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	h := &testHub{Server: s, caFile: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(h.caFile, s.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// withoutPort is a connection string for clients that take no port.
func withoutPort(cs string) string {
	fields := strings.Split(cs, ";")
	for i, f := range fields {
		if name, ok := strings.CutPrefix(f, "HostName="); ok {
			host, _, _ := strings.Cut(name, ":")
			fields[i] = "HostName=" + host
		}
	}
	return strings.Join(fields, ";")
}

// environment is all that a program in another process needs to know of a hub
// of that name.
func (h *testHub) environment(t *testing.T, name string) []string {
	t.Helper()
	policies := map[string]string{}
	for _, policy := range []string{"iothubowner", "service", "device", "registryRead", "registryReadWrite"} {
		cs, ok := h.PolicyConnectionString(policy)
		if !ok {
			t.Fatalf("the hub has no policy %q", policy)
		}
		policies[policy] = withoutPort(cs)
	}
	text, err := json.Marshal(policies)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"NODE_EXTRA_CA_CERTS=" + h.caFile,
		"HUB_HOST=" + name,
		"HUB_HTTPS_PORT=" + port(t, h.HTTPSAddr()),
		"HUB_MQTT_PORT=" + port(t, h.MQTTAddr()),
		"HUB_CONNECTION_STRING=" + policies["iothubowner"],
		"HUB_POLICIES=" + string(text),
		"HUB_ADMIN_PORT=" + port(t, h.AdminAddr()),
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(fmt.Errorf("address %q: %w", addr, err))
	}
	return p
}
