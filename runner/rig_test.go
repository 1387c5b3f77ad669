package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// disk is a journal file in memory that breaks after so many bytes, and that
// knows at any time which intents are written.
type disk struct {
	mu      sync.Mutex
	data    []byte
	limit   int // of bytes; 0 is none
	parsed  int
	intents map[string]int // per job and target
	stall   time.Duration  // what every write takes
}

var errDiskFull = errors.New("no space left on device")

func newDisk() *disk { return &disk{intents: map[string]int{}} }

// Write appends as much of p as there is room for.
func (d *disk) Write(p []byte) (int, error) {
	time.Sleep(d.stall)
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(p)
	if d.limit > 0 {
		n = max(0, min(n, d.limit-len(d.data)))
	}
	d.data = append(d.data, p[:n]...)
	d.parseLocked()
	if n < len(p) {
		return n, errDiskFull
	}
	return n, nil
}

func (d *disk) parseLocked() {
	for {
		end := bytes.IndexByte(d.data[d.parsed:], '\n')
		if end < 0 {
			return
		}
		line := d.data[d.parsed : d.parsed+end]
		d.parsed += end + 1
		if !bytes.HasPrefix(line, []byte(`{"t":"intent"`)) {
			continue
		}
		rec, err := journal.Decode(line)
		if i, ok := rec.(journal.Intent); err == nil && ok {
			d.intents[intentKey(i.Job, hub.Target{DeviceID: i.Target.Device, ModuleID: i.Target.Module})]++
		}
	}
}

// ReadAt reads what was written.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.NewReader(d.data).ReadAt(p, off)
}

// Sync does nothing: memory is as durable as it gets.
func (d *disk) Sync() error { return nil }

// Close does nothing.
func (d *disk) Close() error { return nil }

func intentKey(job string, t hub.Target) string { return job + " " + t.String() }

func (d *disk) begun(job string, t hub.Target) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.intents[intentKey(job, t)]
}

func (d *disk) records(tb testing.TB) []journal.Record {
	tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []journal.Record
	_, err := journal.Replay(bytes.NewReader(d.data), func(_ journal.Position, r journal.Record) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		tb.Errorf("Replay of the journal: %v", err)
	}
	return all
}

// recorder is an observer that remembers.
type recorder struct {
	mu     sync.Mutex
	events []string
	ended  map[string]spec.JobReport
	run    *runner.Run
}

// RunStarted notes the run.
func (r *recorder) RunStarted(run *runner.Run) {
	r.note("run started")
	r.run = run
}

// JobStarted notes the job.
func (r *recorder) JobStarted(name string) { r.note(name + " started") }

// WaveStarted notes the wave.
func (r *recorder) WaveStarted(job string, w runner.WaveStart) {
	r.note(fmt.Sprintf("%s wave %d of %d, %d targets", job, w.Wave, w.Waves, w.Targets))
}

// JobEnded notes the job and keeps its report.
func (r *recorder) JobEnded(job spec.JobReport) {
	r.note(job.Name + " ended")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[job.Name] = job
}

func (r *recorder) note(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

// rig is all that a run needs, and a check of what no run may break.
type rig struct {
	testing.TB
	hub      *fakeHub
	disk     *disk
	observer *recorder
	options  runner.Options
	plan     *spec.Plan
	size     spec.Hub
	text     []byte       // of the last report
	recorded *spec.Inputs // by new journals; nil for none, as earlier versions
	picks    int          // runs that picked outcomes to do again

	mu         sync.Mutex
	violations []string
}

func newRig(tb testing.TB, ids ...string) *rig {
	tb.Helper()
	targets := make([]hub.Target, len(ids))
	for i, id := range ids {
		targets[i] = device(id)
	}
	return &rig{
		TB: tb, hub: newFakeHub(targets...), disk: newDisk(),
		observer: &recorder{ended: map[string]spec.JobReport{}},
	}
}

// device reads an id as people write it: "device" or "device/module".
func device(id string) hub.Target {
	device, module, _ := strings.Cut(id, "/")
	return hub.Target{DeviceID: device, ModuleID: module}
}

func devices(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("device-%06d", i)
	}
	return ids
}

// result is a run that has ended, and its report read back.
type result struct {
	run    *runner.Run
	report spec.Report
	err    error
}

// apply runs the jobs and checks what holds for every run.
func (g *rig) apply(ctx context.Context, jobs ...spec.Job) result {
	g.Helper()
	g.plan = &spec.Plan{File: "plan.yaml", SHA256: strings.Repeat("ab", 32), Version: 1, Name: "test", Hub: g.size, Jobs: jobs}
	g.hub.arrived = g.witness
	g.options.Hubs = g.hubs()
	g.options.Observer = g.observer
	if len(g.options.Only) > 0 {
		g.picks++
	}
	w := g.journal()
	g.options.Journal = w
	defer func() {
		if err := w.Close(); err != nil && g.disk.limit == 0 {
			g.Errorf("Close of the journal: %v", err)
		}
	}()
	run, err := runner.Apply(ctx, g.plan, g.options)
	res := result{run: run, err: err}
	if err == nil {
		res.report = g.readReport(run)
		checkRun(g, res)
	}
	return res
}

// hubs are those of the run: one, unless the test has given others.
func (g *rig) hubs() []target.NamedHub {
	if len(g.options.Hubs) > 0 {
		return g.options.Hubs
	}
	return []target.NamedHub{{Name: "test.example", Hub: g.hub}}
}

// journal opens the rig's journal: a new one, or where an earlier run ended.
func (g *rig) journal() *journal.Writer {
	g.Helper()
	if len(g.disk.data) > 0 {
		g.options.Past = runner.NewPast()
		end, err := journal.Replay(bytes.NewReader(g.disk.data), g.options.Past.Visit)
		if err != nil {
			g.Fatalf("Replay: %v", err)
		}
		g.disk.data = g.disk.data[:end]
		g.disk.parsed = len(g.disk.data)
		return journal.NewWriter(g.disk, int64(end), journal.Off)
	}
	w := journal.NewWriter(g.disk, 0, journal.Off)
	header := journal.Header{
		Run: "run-1", Plan: g.plan.Name, File: g.plan.File, SHA256: g.plan.SHA256,
		Hubs: []string{"test.example"}, Runner: "test", StartedAt: time.Now(),
	}
	if in := g.recorded; in != nil {
		header.Jobs, header.Vars, header.Files, header.Pinned = in.Jobs, in.Vars, in.Files, in.Pinned
	}
	at, err := w.Append(header.Append(nil))
	if err == nil {
		err = w.Commit(at)
	}
	if err != nil {
		g.Fatalf("begin the journal: %v", err)
	}
	g.options.RunID = "run-1"
	return w
}

// witness sees a call arrive that is about to have an effect: by then its
// intent must be written.
func (g *rig) witness(c call) {
	begun := 0
	for _, job := range g.plan.Jobs {
		same := c.op == opPatch && job.Twin != nil || job.Method != nil && job.Method.Name == c.name
		if same {
			begun += g.disk.begun(job.Name, c.target)
		}
	}
	if begun < c.nth {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.violations = append(g.violations,
			fmt.Sprintf("%s %s of %s: call %d with %d intents in the journal", c.op, c.name, c.target, c.nth, begun))
	}
}

func (g *rig) readReport(run *runner.Run) spec.Report {
	g.Helper()
	var text bytes.Buffer
	if err := run.WriteReport(&text, 7); err != nil {
		g.Fatalf("WriteReport: %v", err)
	}
	g.text = text.Bytes()
	return decodeReport(g, g.text)
}

// schema is compiled once: there are hundreds of runs.
var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(spec.ReportSchemaJSON()))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("report.schema.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("report.schema.json")
})

func checkSchema(tb testing.TB, text []byte) {
	tb.Helper()
	s, err := schema()
	if err != nil {
		tb.Fatalf("schema of reports: %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatalf("report does not decode: %v", err)
	}
	if err := s.Validate(doc); err != nil {
		tb.Errorf("report is not what its schema says: %v", err)
	}
}

func decodeReport(tb testing.TB, text []byte) spec.Report {
	tb.Helper()
	var rep spec.Report
	checkSchema(tb, text)
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&rep); err != nil {
		tb.Fatalf("report does not decode: %v\n%s", err, text[:min(len(text), 4000)])
	}
	return rep
}

func (r result) job(tb testing.TB, name string) spec.JobReport {
	tb.Helper()
	for _, j := range r.report.Jobs {
		if j.Name == name {
			return j
		}
	}
	tb.Fatalf("no job %q in the report; Apply: %v", name, r.err)
	return spec.JobReport{}
}

// row returns the row of the target "device" or "device/module" in a job.
func (r result) row(tb testing.TB, job, id string) spec.Row {
	tb.Helper()
	want := device(id)
	for _, row := range r.job(tb, job).Devices {
		if row.DeviceID == want.DeviceID && row.ModuleID == want.ModuleID {
			return row
		}
	}
	tb.Fatalf("no row for %q in job %q", id, job)
	return spec.Row{}
}

// method returns a job that calls a method of its own name on every device.
// Its waits are zero unless the hub asks for one, so that times are exact.
func method(name string, change ...func(*spec.Job)) spec.Job {
	job := spec.Job{
		Name: name, Type: spec.TypeDirectMethod, Target: everything(), Concurrency: 8,
		Retry: spec.Retry{Attempts: 3}, Offline: spec.OfflineFail,
		Method: &spec.Method{
			Name: name, Payload: json.RawMessage(`{"lockTime":"10m"}`), ResponseTimeout: 30 * time.Second,
			Success: spec.StatusSet{{From: 200, To: 299}},
		},
	}
	for _, c := range change {
		c(&job)
	}
	return job
}

// update returns a job that updates every twin.
func update(name, desired, tags string, change ...func(*spec.Job)) spec.Job {
	job := spec.Job{
		Name: name, Type: spec.TypeUpdateTwin, Target: everything(), Concurrency: 8,
		Retry: spec.Retry{Attempts: 3}, Offline: spec.OfflineFail, Twin: &spec.TwinUpdate{},
	}
	if desired != "" {
		job.Twin.Desired = json.RawMessage(desired)
	}
	if tags != "" {
		job.Twin.Tags = json.RawMessage(tags)
	}
	for _, c := range change {
		c(&job)
	}
	return job
}

func everything() spec.Target {
	return spec.Target{Text: "all", Source: spec.SourceDevices, All: true}
}

// named aims a job at devices that the plan lists.
func named(ids ...string) func(*spec.Job) {
	return func(j *spec.Job) {
		j.Target = spec.Target{Text: strings.Join(ids, ", "), Source: spec.SourceDevices}
		j.Target.Devices = deviceIDs(ids)
	}
}

func deviceIDs(ids []string) spec.DeviceList { return spec.ListDevices(idList(ids)...) }

func idList(ids []string) []spec.DeviceID {
	list := make([]spec.DeviceID, len(ids))
	for i, id := range ids {
		t := device(id)
		list[i] = spec.DeviceID{Device: t.DeviceID, Module: t.ModuleID}
	}
	return list
}

// serial lets a job do one thing after the other.
func serial(j *spec.Job) { j.Concurrency = 1 }

func attempts(n int) func(*spec.Job) { return func(j *spec.Job) { j.Retry.Attempts = n } }

func deadline(d time.Duration) func(*spec.Job) { return func(j *spec.Job) { j.Deadline = d } }

func delay(d time.Duration) func(*spec.Job) { return func(j *spec.Job) { j.Delay = d } }

func idempotent(j *spec.Job) { j.Method.Idempotent = true }

func whenOffline(p spec.OfflinePolicy) func(*spec.Job) { return func(j *spec.Job) { j.Offline = p } }

// memory reads a journal from a file of its own, for runs too large for one in
// memory.
func fileJournal(tb testing.TB, path string) *journal.Writer {
	tb.Helper()
	w, err := journal.Create(path, journal.Header{Run: "run-1", Plan: "test", StartedAt: time.Now()}, journal.Off)
	if err != nil {
		tb.Fatalf("Create(%s): %v", path, err)
	}
	tb.Cleanup(func() { _ = os.Remove(path) })
	return w
}

// fail makes the first calls of an operation on a target go wrong, one by one.
func (g *rig) fail(op operation, id string, faults ...fault) {
	for i, f := range faults {
		g.hub.on(op, id, i+1, f)
	}
}

// refused is a call that has no effect.
func refused(err *hub.Error) fault { return fault{err: err} }

// acted is a call that has its effect and looks as if it had none.
func acted(err *hub.Error) fault { return fault{err: err, acts: true} }
