package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/exit"
	"iothub-runner/internal/hubtest/swagger"
)

const contractFleet = `version: 1
devices:
  - idPattern: door-%d
    count: 120
    tags: {kind: door}
    follow: 0s
    modules: [lock]
    methods: {lockDoor: {}, refuse: {status: 409, payload: [no, null, {"a": 1.5}]}}
`

// contractPlan has every kind of request that the two engines make: payloads of
// each kind, every section of a twin, modules, ids and conditions.
const contractPlan = `version: 1
name: contract
jobs:
  - {name: lock, type: directMethod, target: tags.kind = 'door', method: lockDoor, payload: {lockTime: 10m, list: [1, null, "x"]}, responseTimeout: 20s, connectTimeout: 5s}
  - {name: text, type: directMethod, target: {devices: [door-1, door-2]}, method: lockDoor, payload: "text"}
  - {name: nothing, type: directMethod, target: {devices: [door-3]}, method: refuse, success: {status: [409]}}
  - {name: module, type: directMethod, target: {devices: [door-4/lock]}, method: lockDoor, payload: 42}
  - {name: twin, type: updateTwin, target: tags.kind = 'door', tags: {floor: 3, gone: null, deep: {er: [1]}}, desired: {interval: 30}, confirm: {within: 1m}}
  - {name: module-twin, type: updateTwin, target: {devices: [door-5/lock]}, desired: {zoom: 2.5}}
`

const contractJobs = `version: 1
name: jobs
defaults: {engine: hubJobs}
jobs:
  - {name: lock, type: directMethod, target: tags.kind = 'door', method: lockDoor, payload: {lockTime: 10m}, responseTimeout: 20s}
  - {name: twin, type: updateTwin, target: {devices: [door-1, door-2]}, tags: {floor: 4}, desired: {interval: 60}}
  - {name: late, type: updateTwin, target: {devices: [door-3]}, delay: 2h, tags: {floor: 5}}
`

// TestRequestsMatchTheSwagger holds every request that runner makes, and every
// answer it gets, to Microsoft's own description of the service.
func TestRequestsMatchTheSwagger(t *testing.T) {
	devices, err := fleet.Parse("fleet.yaml", []byte(contractFleet))
	if err != nil {
		t.Fatal(err)
	}
	hub, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	judge := newJudge(t, hub)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plan, jobs := file("plan.yaml", contractPlan), file("jobs.yaml", contractJobs)
	journal := filepath.Join(dir, "jobs.ndjson")
	judge.run(t, "preview", plan)
	judge.run(t, "apply", plan)
	judge.run(t, "apply", "--detach", "--journal", journal, jobs)
	listed := judge.run(t, "jobs", "list", "--status", "scheduled")
	late := regexp.MustCompile(`(?m)^\S+-late-\S+`).FindString(listed)
	judge.run(t, "jobs", "show", "--devices", late)
	judge.run(t, "jobs", "cancel", late)
	judge.runs(t, exit.Missed, "apply", "--resume", journal, jobs) // what was cancelled is not done

	want := []string{
		"GET /jobs/v2/query", "GET /jobs/v2/{id}", "GET /twins/{id}", "GET /twins/{id}/modules/{mid}",
		"PATCH /twins/{id}", "PATCH /twins/{id}/modules/{mid}", "POST /devices/query", "POST /jobs/v2/{id}/cancel",
		"POST /twins/{deviceId}/methods", "POST /twins/{deviceId}/modules/{moduleId}/methods", "PUT /jobs/v2/{id}",
	}
	if got := slices.Sorted(maps.Keys(judge.seen)); !slices.Equal(got, want) {
		t.Errorf("operations\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	t.Logf("%d exchanges", judge.count)
}

// judge stands between runner and a hub, and checks what it passes on.
type judge struct {
	connection, ca string

	mu    sync.Mutex
	seen  map[string]bool // guarded by mu
	count int             // guarded by mu
}

func newJudge(t *testing.T, hub *emulator.Server) *judge {
	t.Helper()
	description, err := swagger.Load()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(hub.CAPEM())
	onward := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64}
	t.Cleanup(onward.CloseIdleConnections)
	j := &judge{seen: map[string]bool{}}
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: hub.HostName()})
			r.Out.Header.Del("Accept-Encoding") // so that the answer is judged as text
		},
		Transport: description.Transport(onward, func(x swagger.Exchange, v swagger.Verdict, err error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.seen[v.Operation] = true
			j.count++
			if err == nil {
				err = v.Err()
			}
			if err != nil {
				t.Errorf("%s %s %s: %v", x.Method, x.URL.Path, x.Body, err)
			}
		}),
	})
	t.Cleanup(proxy.Close)
	j.connection = strings.Replace(hub.ConnectionString(), hub.HostName(), proxy.Listener.Addr().String(), 1)
	j.ca = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	if err := os.WriteFile(j.ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return j
}

// run runs a command against the hub, and returns what it said on stdout.
func (j *judge) run(t *testing.T, args ...string) string {
	t.Helper()
	return j.runs(t, exit.OK, args...)
}

func (j *judge) runs(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, errs := runHere(t, j.connection, append(args, "--ca-file", j.ca)...)
	if code != want {
		t.Fatalf("runner %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, errs)
	}
	return out
}
