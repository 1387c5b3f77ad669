package faults_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// The roles of devices: which job acts on them. Each job has its own, so that
// what a device did is the work of one job.
const (
	roleOnce      = "once"      // a method that may not be repeated
	roleAgain     = "again"     // a method that may
	roleTwin      = "twin"      // a patch
	roleBystander = "bystander" // nothing
)

// wantedFloor is what the twin job wants; no device starts with it but those
// that are to be found as wanted.
const wantedFloor = 9000

// world is a fleet, its hub and what goes wrong there.
type world struct {
	each      int    // devices of each role
	group     string // more keys of the groups, in flow style: `shares: {offline: 2%}`
	method    string // how methods go, in flow style, besides their payload
	faults    string // the list of faults, in flow style
	indexLag  string
	tier      string
	follow    string // how reported properties follow; those of a twin that is as wanted do already
	behaviour map[string]string
}

// fleetText is the fleet file of a world. A tenth of the devices of the twin
// job is as wanted from the start.
func (w world) fleetText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nseed: 20261123\nindexLag: %s\ndevices:\n", orElse(w.indexLag, "0s"))
	group := func(prefix, role string, count int, floor, more string) {
		fmt.Fprintf(&b, "  - idPattern: %s-%%06d\n    count: %d\n    tags: {role: %s%s}\n    desired: {floor: %s}\n", prefix, count, role, more, floor)
		if role == roleOnce || role == roleAgain {
			fmt.Fprintf(&b, "    methods: {lockDoor: {payload: {door: \"${id}\"}%s}}\n", w.method)
		}
		if w.group != "" {
			fmt.Fprintf(&b, "    %s\n", w.group)
		}
		if w.follow != "" {
			fmt.Fprintf(&b, "    reported: {floor: %s}\n    follow: %s\n", floor, w.follow)
		}
	}
	same := w.each / 10
	group("same", roleTwin, same, fmt.Sprint(wantedFloor), ", moved: true")
	group(roleTwin, roleTwin, w.each-same, `"${number}"`, "")
	group(roleOnce, roleOnce, w.each, `"${number}"`, "")
	group(roleAgain, roleAgain, w.each, `"${number}"`, "")
	group(roleBystander, roleBystander, 20, `"${number}"`, "")
	if w.faults != "" {
		fmt.Fprintf(&b, "faults: [%s]\n", w.faults)
	}
	return b.String()
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (w world) start(tb testing.TB) *emulator.Server {
	tb.Helper()
	devices, err := fleet.Parse("fleet.yaml", []byte(w.fleetText()))
	if err != nil {
		tb.Fatal(err)
	}
	hub, err := emulator.Start(emulator.Options{
		HTTPSAddr: "127.0.0.1:0", Fleet: devices, Tier: w.tier, Behaviour: w.behaviour,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = hub.Close() })
	return hub
}

// planText is the plan of all tests: one job for each role. What is given
// stands in each job, in the lines of the plan's defaults.
func planText(defaults string) string {
	return fmt.Sprintf(`version: 1
name: faults
defaults: {%s}
jobs:
  - {name: once, type: directMethod, target: tags.role = 'once', method: lockDoor, payload: {lockTime: 10m}, responseTimeout: 5s}
  - {name: again, type: directMethod, target: tags.role = 'again', method: lockDoor, payload: {lockTime: 10m}, responseTimeout: 5s, idempotent: true}
  - {name: twin, type: updateTwin, target: tags.role = 'twin', desired: {floor: %d}, tags: {moved: true}}
`, defaults, wantedFloor)
}

// confirmed has the twin job of a plan wait for its devices to report the change.
func confirmed(plan, within string) string {
	return strings.Replace(plan, "tags: {moved: true}}", "tags: {moved: true}, confirm: {within: "+within+"}}", 1)
}

func parsePlan(tb testing.TB, text string) *spec.Plan {
	tb.Helper()
	plan, diags := planfile.Parse("plan.yaml", []byte(text), planfile.Options{})
	if plan == nil {
		tb.Fatalf("plan: %v\n%s", diags, text)
	}
	return plan
}

func newClient(tb testing.TB, hub *emulator.Server, plan *spec.Plan) *hubclient.Client {
	tb.Helper()
	return connect(tb, hub, hub.ConnectionString(), plan)
}

// connect is newClient for a connection string that leads to the hub some other way.
func connect(tb testing.TB, hub *emulator.Server, connection string, plan *spec.Plan) *hubclient.Client {
	tb.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(hub.CAPEM())
	connections := 0
	for i := range plan.Jobs {
		connections += plan.Jobs[i].Concurrency + 1
	}
	client, err := hubclient.New(hubclient.Options{
		ConnectionString: connection, RootCAs: roots, Connections: connections,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// run is a plan on its way through one journal.
type run struct {
	hub     *emulator.Server
	plan    *spec.Plan
	client  *hubclient.Client
	journal string
	watcher runner.Observer
	change  func(*runner.Options) // nil for none
}

func newRun(tb testing.TB, hub *emulator.Server, plan string) *run {
	tb.Helper()
	p := parsePlan(tb, plan)
	return &run{hub: hub, plan: p, client: newClient(tb, hub, p), journal: filepath.Join(tb.TempDir(), "journal.ndjson")}
}

// apply carries the plan out in a new journal and returns the report, as it was
// written and read again.
func (r *run) apply(ctx context.Context, tb testing.TB) (spec.Report, *runner.Run) {
	tb.Helper()
	w, err := journal.Create(r.journal, journal.Header{
		Run: "run", Plan: r.plan.Name, File: r.plan.File, SHA256: r.plan.SHA256,
		Hubs: []string{r.client.HostName()}, StartedAt: time.Now(),
	}, journal.Batch)
	if err != nil {
		tb.Fatal(err)
	}
	return r.carryOut(ctx, tb, w, nil)
}

// resume goes on with the run's journal.
func (r *run) resume(ctx context.Context, tb testing.TB) (spec.Report, *runner.Run) {
	tb.Helper()
	past := runner.NewPast()
	w, err := journal.Open(r.journal, journal.Batch, past.Visit)
	if err != nil {
		tb.Fatal(err)
	}
	if err = past.Check(r.plan, []string{r.client.HostName()}, nil); err != nil {
		tb.Fatal(err)
	}
	return r.carryOut(ctx, tb, w, past)
}

func (r *run) carryOut(ctx context.Context, tb testing.TB, w *journal.Writer, past *runner.Past) (spec.Report, *runner.Run) {
	tb.Helper()
	o := runner.Options{
		Hubs:    []target.NamedHub{{Name: r.client.HostName(), Hub: r.client}},
		Journal: w, RunID: "run", Past: past, Observer: r.watcher,
	}
	if r.change != nil {
		r.change(&o)
	}
	done, err := runner.Apply(ctx, r.plan, o)
	if err != nil {
		tb.Fatalf("Apply: %v", err)
	}
	var text bytes.Buffer
	if err = done.WriteReport(&text, 0); err != nil {
		tb.Fatal(err)
	}
	if err = w.Close(); err != nil {
		tb.Fatal(err)
	}
	var rep spec.Report
	if err = json.Unmarshal(text.Bytes(), &rep); err != nil {
		tb.Fatal(err)
	}
	return rep, done
}
