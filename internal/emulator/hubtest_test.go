package emulator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/common"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/hubtest"
)

func TestConformance(t *testing.T) {
	hubtest.Run(t, func(t *testing.T, devices []hubtest.Device) hubtest.Harness {
		t.Helper()
		return newConformance(t, devices)
	})
}

// TestConformanceWithSlowIndex has queries lag behind writes, as they do on the
// hub. Nothing else may.
func TestConformanceWithSlowIndex(t *testing.T) {
	hubtest.Run(t, func(t *testing.T, devices []hubtest.Device) hubtest.Harness {
		t.Helper()
		c := newConformance(t, devices)
		c.server.SetIndexLag(3 * time.Second)
		return c
	})
}

// conformance is an emulated hub in the hands of the suite. What the suite
// arranges goes through the hub's own registry where that has a way for it.
type conformance struct {
	t      *testing.T
	server *emulator.Server
	roots  *x509.CertPool
}

func newConformance(t *testing.T, devices []hubtest.Device) *conformance {
	t.Helper()
	server, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: fleetOf(t, devices)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &conformance{t: t, server: server, roots: x509.NewCertPool()}
	if !c.roots.AppendCertsFromPEM(server.CAPEM()) {
		t.Fatal("the emulator's authority is no certificate")
	}
	return c
}

func (c *conformance) Hub(as hubtest.Credentials) hubtest.Hub {
	c.t.Helper()
	client, err := hubclient.New(hubclient.Options{ConnectionString: c.credentials(as), RootCAs: c.roots, UserAgent: "hubtest"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

func (c *conformance) credentials(as hubtest.Credentials) string {
	switch as {
	case hubtest.Owner:
		return c.server.ConnectionString()
	case hubtest.Service:
		return c.policy("service")
	case hubtest.RegistryReader:
		return c.policy("registryRead")
	case hubtest.WrongKey:
		own, _, _ := strings.Cut(c.policy("service"), ";SharedAccessKey=")
		_, other, _ := strings.Cut(c.policy("registryRead"), ";SharedAccessKey=")
		return own + ";SharedAccessKey=" + other
	}
	c.t.Fatalf("no credentials %d", as)
	return ""
}

func (c *conformance) policy(name string) string {
	cs, ok := c.server.PolicyConnectionString(name)
	if !ok {
		c.t.Fatalf("the emulator has no policy %q", name)
	}
	return cs
}

func (c *conformance) SetOnline(at hub.Target, online bool) {
	c.t.Helper()
	if err := c.server.SetOnline(at.DeviceID, online); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conformance) SetEnabled(id string, enabled bool) {
	c.t.Helper()
	identity := map[string]any{}
	if err := json.Unmarshal(c.registry(http.MethodGet, id, nil), &identity); err != nil {
		c.t.Fatal(err)
	}
	identity["status"] = "disabled"
	if enabled {
		identity["status"] = "enabled"
	}
	body, err := json.Marshal(identity)
	if err != nil {
		c.t.Fatal(err)
	}
	c.registry(http.MethodPut, id, body)
}

func (c *conformance) Delete(id string) {
	c.t.Helper()
	c.registry(http.MethodDelete, id, nil)
}

func (c *conformance) Pass(d time.Duration) {
	if err := c.server.Advance(d); err != nil {
		c.t.Error(err)
	}
}

// registry makes one call to the identity registry.
func (c *conformance) registry(method, id string, body []byte) []byte {
	c.t.Helper()
	cs, err := common.ParseConnectionString(c.server.ConnectionString())
	if err != nil {
		c.t.Fatal(err)
	}
	token, err := common.NewSharedAccessSignature("localhost", cs["SharedAccessKeyName"], cs["SharedAccessKey"], c.server.Now().Add(time.Hour))
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method,
		"https://"+c.server.HostName()+"/devices/"+url.PathEscape(id)+"?api-version=2021-04-12", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", token.String())
	if method != http.MethodGet {
		req.Header.Set("If-Match", `"*"`)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode > 299 {
		c.t.Fatalf("%s /devices/%s: %s %s (%v)", method, id, res.Status, answer, err)
	}
	return answer
}

// fleetOf describes the suite's devices as a fleet file: JSON is YAML.
func fleetOf(t *testing.T, devices []hubtest.Device) *fleet.Fleet {
	t.Helper()
	if len(devices) == 0 {
		return nil
	}
	groups := []map[string]any{}
	byID := map[string]map[string]any{}
	for _, d := range devices {
		m := traitsOf(t, d)
		if d.ModuleID != "" {
			m["id"] = d.ModuleID
			modules, _ := byID[d.DeviceID]["modules"].([]map[string]any)
			byID[d.DeviceID]["modules"] = append(modules, m)
			continue
		}
		m["id"] = d.DeviceID
		m["follow"] = []map[string]any{{"never": true}}
		if d.Offline {
			m["shares"] = map[string]any{"offline": "100%"}
		}
		byID[d.DeviceID] = m
		groups = append(groups, m)
	}
	src, err := json.Marshal(map[string]any{"version": 1, "devices": groups})
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Parse("suite", src)
	if err != nil {
		t.Fatalf("%v in %s", err, src)
	}
	return f
}

// traitsOf gives what devices and modules have in common.
func traitsOf(t *testing.T, d hubtest.Device) map[string]any {
	t.Helper()
	m := map[string]any{}
	for name, section := range map[string]json.RawMessage{"tags": d.Tags, "desired": d.Desired, "reported": d.Reported} {
		if section != nil {
			m[name] = section
		}
	}
	methods := map[string]any{}
	for _, method := range d.Methods {
		methods[method.Name] = reactionOf(t, method)
	}
	if len(methods) > 0 {
		m["methods"] = methods
	}
	return m
}

func reactionOf(t *testing.T, m hubtest.Method) map[string]any {
	t.Helper()
	switch m.Does {
	case hubtest.Answers:
		return map[string]any{"status": m.Status, "payload": m.Payload}
	case hubtest.Echoes:
		return map[string]any{"status": m.Status, "payload": "${request}"}
	case hubtest.Hangs:
		return map[string]any{"does": "hangs"}
	case hubtest.Disconnects:
		return map[string]any{"does": "disconnects"}
	case hubtest.Garbles:
		return map[string]any{"does": "garbage"}
	}
	t.Fatalf("no behaviour %d", m.Does)
	return nil
}
