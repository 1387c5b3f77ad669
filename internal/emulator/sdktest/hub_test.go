package sdktest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/foreign"
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

// place is where a hub listens, and under which name.
type place struct{ name, https, mqtt string }

// anyPorts lets the kernel pick them.
func anyPorts(name string) place { return place{name, "127.0.0.1:0", "127.0.0.1:0"} }

// standardPorts are those of every hub, which clients do not ask about.
func standardPorts() place { return place{"localhost", "127.0.0.1:443", "127.0.0.1:8883"} }

// standardPortsFree is nil when they can be had. It is asked once, so that one
// line tells of it; that somebody takes them later is for tryHub to find.
func standardPortsFree(ctx context.Context) error {
	at := standardPorts()
	for _, addr := range []string{at.https, at.mqtt} {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EADDRINUSE) {
			return foreign.AbsenceError(err.Error())
		}
		if err != nil {
			return err
		}
		if err := ln.Close(); err != nil {
			return err
		}
	}
	return nil
}

// testHub is the emulator as a program of its own, and what it said of itself
// when it was ready.
type testHub struct {
	HostName                string `json:"hostName"`
	HTTPSAddr               string `json:"httpsAddr"`
	MQTTAddr                string `json:"mqttAddr"`
	AdminAddr               string `json:"adminAddr"`
	CAFile                  string `json:"caFile"`
	ServiceConnectionString string `json:"serviceConnectionString"`

	name     string            // without port
	policies map[string]string // connection strings
}

// startHub runs the emulator until the test ends. It fails the test unless the
// program then ends well, and has kept its keys to itself.
func startHub(t *testing.T, at place, fleetFile string) *testHub {
	t.Helper()
	h, err := tryHub(t, at, fleetFile)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// tryHub is startHub for a place that may not be free: the error is an absence
// then.
func tryHub(t *testing.T, at place, fleetFile string) (*testHub, error) {
	t.Helper()
	dir := t.TempDir()
	fleet, keys, ready := filepath.Join(dir, "fleet.yaml"), filepath.Join(dir, "tls"), filepath.Join(dir, "ready.json")
	if err := os.WriteFile(fleet, []byte(fleetFile), 0o600); err != nil {
		return nil, err
	}
	p, err := launch("-v", "--hostname", at.name, "--https", at.https, "--mqtt", at.mqtt, "--admin", "127.0.0.1:0",
		"--tls-dir", keys, "--ready-file", ready, "--fleet", fleet)
	if err != nil {
		return nil, err
	}
	h := &testHub{name: at.name}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		for policy, cs := range h.policies {
			if _, key, _ := strings.Cut(cs, "SharedAccessKey="); strings.Contains(p.text(), key) {
				t.Errorf("the emulator told the key of %s", policy)
			}
		}
		if t.Failed() {
			t.Logf("the emulator said\n%s", tail(p.text()))
		}
	})
	if err := readJSON(ready, h); err != nil {
		return nil, err
	}
	return h, h.readPolicies(filepath.Join(keys, "keys.json"))
}

// tail is what a message of failure can hold of a long text.
func tail(text string) string {
	const most = 8 << 10
	if len(text) <= most {
		return text
	}
	return "..." + text[len(text)-most:]
}

func readJSON(file string, into any) error {
	src, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(src, into)
}

// readPolicies takes the keys from where docs/emulator.md says that they stand.
func (h *testHub) readPolicies(file string) error {
	var kept struct {
		Policies map[string][2]string `json:"policies"`
	}
	if err := readJSON(file, &kept); err != nil {
		return err
	}
	h.policies = map[string]string{}
	for name, keys := range kept.Policies {
		h.policies[name] = "HostName=" + h.HostName + ";SharedAccessKeyName=" + name + ";SharedAccessKey=" + keys[0]
	}
	if h.policies["iothubowner"] != h.ServiceConnectionString {
		return fmt.Errorf("%s and the ready file have different keys", file)
	}
	return nil
}

// caPEM is the authority to trust.
func (h *testHub) caPEM(t *testing.T) []byte {
	t.Helper()
	pem, err := os.ReadFile(h.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

// executed is what a device really did.
type executed struct{ Methods, Patches, Messages int }

// executed asks the control endpoint.
func (h *testHub) executed(t *testing.T, id string) executed {
	t.Helper()
	var e executed
	if err := json.Unmarshal(h.control(t, "/v1/executed/"+id), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// control reads from the control endpoint.
func (h *testHub) control(t *testing.T, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.AdminAddr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %s, %v", path, res.Status, body, err)
	}
	return body
}

// environment is all that a program in another process needs to know of the
// hub. Connection strings are for clients that take no port.
func (h *testHub) environment(t *testing.T) []string {
	t.Helper()
	portless := map[string]string{}
	for name, cs := range h.policies {
		portless[name] = strings.Replace(cs, h.HostName, h.name, 1)
	}
	policies, err := json.Marshal(portless)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"HUB_CA_FILE=" + h.CAFile,
		"HUB_HOST=" + h.name,
		"HUB_HTTPS_PORT=" + port(t, h.HTTPSAddr),
		"HUB_MQTT_PORT=" + port(t, h.MQTTAddr),
		"HUB_CONNECTION_STRING=" + portless["iothubowner"],
		"HUB_POLICIES=" + string(policies),
		"HUB_ADMIN_PORT=" + port(t, h.AdminAddr),
	}
}

// deviceCertificate is a certificate that a device made for itself, and its
// key, as variables of a program's environment.
func deviceCertificate(t *testing.T) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"DEVICE_CERTIFICATE=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		"DEVICE_KEY=" + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatalf("address %q: %v", addr, err)
	}
	return p
}
