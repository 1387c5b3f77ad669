package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// counted is a hub that counts what it is asked.
type counted struct {
	target.Hub
	mu    sync.Mutex
	calls map[string]int
}

func (c *counted) count(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[call]++
}

func (c *counted) Query(ctx context.Context, q hub.Query) (hub.Page, error) {
	c.count("queries")
	return c.Hub.Query(ctx, q)
}

func (c *counted) Twin(ctx context.Context, t hub.Target) (hub.Twin, error) {
	c.count("twinReads")
	return c.Hub.Twin(ctx, t)
}

func (c *counted) PatchTwin(ctx context.Context, t hub.Target, p hub.Patch, ifMatch string) (hub.Twin, error) {
	c.count("twinUpdates")
	return c.Hub.PatchTwin(ctx, t, p, ifMatch)
}

func (c *counted) Invoke(ctx context.Context, t hub.Target, call hub.Call) (hub.Answer, error) {
	c.count("methodCalls")
	return c.Hub.Invoke(ctx, t, call)
}

// largeFleet is a hub of twenty times n doors, of which n are on floor 3 already.
func largeFleet(t *testing.T, n int) (*emulator.Server, *counted) {
	t.Helper()
	devices, err := fleet.Parse("fleet.yaml", fmt.Appendf(nil, `
version: 1
devices:
  - {idPattern: "first-%%05d", count: %d, tags: {site: A}, desired: {floor: 1}, methods: {lockDoor: {}}}
  - {idPattern: "second-%%05d", count: %d, tags: {site: A}, desired: {floor: 2}, methods: {lockDoor: {}}}
  - {idPattern: "third-%%05d", count: %d, tags: {site: A}, desired: {floor: 3}, methods: {lockDoor: {}}}
  - {idPattern: "other-%%05d", count: %d, tags: {site: B}, methods: {lockDoor: {}}}
`, 12*n, 7*n, n, n/2))
	if err != nil {
		t.Fatal(err)
	}
	server, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CAPEM())
	client, err := hubclient.New(hubclient.Options{ConnectionString: server.ConnectionString(), Connections: 40, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return server, &counted{Hub: client, calls: map[string]int{}}
}

func parsed(t *testing.T, text string) *spec.Plan {
	t.Helper()
	plan, found := planfile.Parse("plan.yaml", []byte(text), planfile.Options{})
	if plan == nil {
		t.Fatalf("Parse:\n%s", found)
	}
	return plan
}

const largePlan = `
version: 1
name: large
jobs:
  - {name: move, type: updateTwin, target: tags.site = 'A', desired: {floor: 3}, concurrency: 40}
  - {name: lock, type: directMethod, target: tags.site = 'A', method: lockDoor, concurrency: 40}
`

// A preview of a large fleet takes the pages of one listing and nothing else,
// and a run does exactly what it said.
func TestPreviewOfALargeFleet(t *testing.T) {
	t.Parallel()
	n := sized(100, 1000)
	server, h := largeFleet(t, n)
	plan := parsed(t, largePlan)
	o := preview.Options{Hubs: []target.NamedHub{{Name: "hub", Hub: h}}}
	var file bytes.Buffer
	pin, err := preview.NewPinWriter(&file, plan, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Pin = pin
	f, err := preview.Make(t.Context(), plan, o)
	if err != nil {
		t.Fatalf("Preview: %v", err)
	}
	if err = pin.Close(); err != nil {
		t.Fatal(err)
	}
	if s := f.Summary; s.Targets != 40*n || s.Changes != 19*n || s.Unchanged != n || s.Calls != 20*n {
		t.Errorf("summary %+v, want %d changes, %d unchanged and %d calls", s, 19*n, n, 20*n)
	}
	if groups := len(f.Jobs[0].Groups) + len(f.Jobs[1].Groups); groups != 4 {
		t.Errorf("%d groups, want 4", groups)
	}
	if most := 20*n/100 + 2; h.calls["queries"] > most || h.calls["twinReads"] > 0 {
		t.Errorf("the preview made %v, want %d queries at most and nothing else", h.calls, most)
	}
	for id, did := range server.EachExecuted {
		t.Fatalf("device %s did %+v in a preview", id, did)
	}

	h.calls = map[string]int{}
	pinned, err := preview.ReadPinned(&file)
	if err != nil {
		t.Fatal(err)
	}
	run, err := runner.Apply(t.Context(), plan, runner.Options{Hubs: o.Hubs, Journal: newJournal(t), Pinned: pinned})
	if err != nil || run.Status() != spec.StatusSucceeded {
		t.Fatalf("Apply: %v, %v", err, run.Status())
	}
	patches, methods := 0, 0
	for id, did := range server.EachExecuted {
		patches, methods = patches+did.Patches, methods+did.Methods
		if did.Methods != 1 || did.Patches > 1 {
			t.Errorf("device %s did %+v, want one method and one patch at most", id, did)
		}
	}
	if patches != f.Summary.Changes || methods != f.Summary.Calls {
		t.Errorf("%d patches and %d calls were executed, the preview said %d and %d", patches, methods, f.Summary.Changes, f.Summary.Calls)
	}
	if h.calls["twinUpdates"] != 19*n || h.calls["methodCalls"] != 20*n {
		t.Errorf("the run made %v", h.calls)
	}
}

func newJournal(t *testing.T) *journal.Writer {
	t.Helper()
	w, err := journal.Create(filepath.Join(t.TempDir(), "journal"), journal.Header{Run: "r", Plan: "large", StartedAt: time.Now()}, journal.Off)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// An index that is behind makes a preview old, never a run wrong: what the pin
// does not show as it is, is left alone.
func TestPreviewOfAStaleIndex(t *testing.T) {
	t.Parallel()
	server, h := largeFleet(t, 100)
	server.SetIndexLag(time.Hour)
	for i := range 50 {
		_, err := h.PatchTwin(t.Context(), hub.Target{DeviceID: fmt.Sprintf("first-%05d", i+1)}, hub.Patch{Desired: json.RawMessage(`{"floor":3}`)}, hub.AnyETag)
		if err != nil {
			t.Fatal(err)
		}
	}
	plan := parsed(t, largePlan)
	plan.Jobs = plan.Jobs[:1]
	o := preview.Options{Hubs: []target.NamedHub{{Name: "hub", Hub: h}}}
	var file bytes.Buffer
	pin, err := preview.NewPinWriter(&file, plan, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Pin = pin
	f, err := preview.Make(t.Context(), plan, o)
	if err != nil {
		t.Fatal(err)
	}
	if f.Summary.Changes != 1_900 {
		t.Errorf("by the index %d twins would change, want 1,900: it is behind", f.Summary.Changes)
	}
	if err = pin.Close(); err != nil {
		t.Fatal(err)
	}
	o.Pin, o.Direct = nil, true
	direct, err := preview.Make(t.Context(), plan, o)
	if err != nil {
		t.Fatal(err)
	}
	if direct.Summary.Changes != 1_850 || direct.Summary.Unchanged != 150 {
		t.Errorf("directly: %+v, want 1,850 changes", direct.Summary)
	}
	pinned, err := preview.ReadPinned(&file)
	if err != nil {
		t.Fatal(err)
	}
	server.ResetExecuted()
	run, err := runner.Apply(t.Context(), plan, runner.Options{Hubs: o.Hubs, Journal: newJournal(t), Pinned: pinned})
	if err != nil {
		t.Fatal(err)
	}
	rep := run.Report(0)
	if got := rep.Summary.Outcomes; got[spec.OutcomeSucceeded] != 1_850 || got[spec.OutcomeUnchanged] != 100 || got[spec.OutcomeSkipped] != 50 {
		t.Errorf("outcomes %v, want 50 skipped", got)
	}
}

// endless is a hub with any number of devices, no two of which are alike.
type endless struct {
	target.Hub
	devices int
}

func (e *endless) Query(_ context.Context, q hub.Query) (hub.Page, error) {
	from, _ := strconv.Atoi(q.Continuation)
	to := min(from+q.PageSize, e.devices)
	var body bytes.Buffer // one text a page, as a client has it
	p := hub.Page{Rows: make([]hub.Row, 0, to-from)}
	for i := from; i < to; i++ {
		fmt.Fprintf(&body, `device-%07d{"floor":%d,"serial":"%032d"}`, i, i, i)
	}
	text := body.String()
	for i := from; i < to; i++ {
		id, rest := text[:14], text[14:]
		end := len(fmt.Sprintf(`{"floor":%d,"serial":""}`, i)) + 32
		p.Rows = append(p.Rows, hub.Row{Target: hub.Target{DeviceID: id}, ETag: "e", Desired: json.RawMessage(rest[:end])})
		text = rest[end:]
	}
	if to < e.devices {
		p.Continuation = strconv.Itoa(to)
	}
	return p, nil
}

// Any number of devices that are all different take a few bytes each, and their
// preview is as short as any other. No test runs beside it: it measures memory.
func TestPreviewOfAMillion(t *testing.T) {
	n := sized(100_000, 1_000_000)
	plan := parsed(t, `
version: 1
name: million
jobs:
  - {name: move, type: updateTwin, target: {all: true}, desired: {floor: -1, serial: x}}
`)
	peak := uint64(0)
	o := preview.Options{
		Hubs: []target.NamedHub{{Name: "hub", Hub: &endless{devices: n}}},
		Looked: func(_ string, targets int) {
			if targets%(n/10) == 0 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		},
	}
	f, err := preview.Make(t.Context(), plan, o)
	if err != nil {
		t.Fatal(err)
	}
	if f.Summary.Changes != n {
		t.Errorf("%d changes, want %d", f.Summary.Changes, n)
	}
	counted := 0
	for _, g := range f.Jobs[0].Groups {
		counted += g.Count
	}
	if counted != n || len(f.Jobs[0].Groups) > 1_100 {
		t.Errorf("%d groups of %d devices in all, want %d in about a thousand at most", len(f.Jobs[0].Groups), counted, n)
	}
	if most := uint64(120 * n); peak > most {
		t.Errorf("%d MB in use, want 120 bytes a device at most", peak>>20)
	}
	for format, most := range map[string]int{"markdown": 59_999, "text": 40_000, "json": 2_000_000} {
		var text bytes.Buffer
		if err := render.PreviewFormat(format)(&text, f); err != nil {
			t.Fatal(err)
		}
		if size := utf8.RuneCount(text.Bytes()); size > most {
			t.Errorf("%s has %d characters, want %d at most", format, size, most)
		}
	}
}
