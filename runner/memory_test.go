package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// crowd is a hub of any number of devices that holds none of them.
type crowd struct {
	target.JobHub
	size    int
	invoked atomic.Int64
	patched atomic.Int64
	refuses func(hub.Target) error
	every   func(n int64) // called with the number of each call
}

// Query makes a page of rows that share one buffer, as a client does.
func (c *crowd) Query(_ context.Context, q hub.Query) (hub.Page, error) {
	at, _ := strconv.Atoi(q.Continuation)
	n := min(q.PageSize, c.size-at)
	p := hub.Page{Rows: make([]hub.Row, n)}
	text := []byte{}
	for i := range n {
		text = fmt.Appendf(text, `device-%07d{"floor":%d,"note":"something to fill the page with"}`, at+i, (at+i)%3)
	}
	rest := string(text)
	for i := range n {
		p.Rows[i].DeviceID, rest = rest[:14], rest[14:]
		end := bytes.IndexByte([]byte(rest), '}') + 1
		p.Rows[i].Desired, p.Rows[i].ETag, rest = []byte(rest[:end]), "etag-1", rest[end:]
	}
	if at+n < c.size {
		p.Continuation = strconv.Itoa(at + n)
	}
	return p, nil
}

// Twin answers that it is as wanted.
func (c *crowd) Twin(context.Context, hub.Target) (hub.Twin, error) {
	return hub.Twin{ETag: "etag-1", Version: 1, Desired: []byte(`{"floor":0}`)}, nil
}

// PatchTwin accepts everything.
func (c *crowd) PatchTwin(context.Context, hub.Target, hub.Patch, string) (hub.Twin, error) {
	c.patched.Add(1)
	return hub.Twin{ETag: "etag-2", Version: 2}, nil
}

// Invoke answers as the tutorial's device does.
func (c *crowd) Invoke(_ context.Context, t hub.Target, _ hub.Call) (hub.Answer, error) {
	n := c.invoked.Add(1)
	if c.every != nil {
		c.every(n)
	}
	if c.refuses != nil {
		if err := c.refuses(t); err != nil {
			return hub.Answer{}, err
		}
	}
	return hub.Answer{Status: 200, Payload: []byte(`{"Response":"lockDoor called successfully"}`)}, nil
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// rowCounter counts the rows of a report without keeping it.
type rowCounter struct {
	rows int
	tail []byte // of what was written so far: a row may begin across two writes
}

// Write counts what begins in p.
func (c *rowCounter) Write(p []byte) (int, error) {
	const begin = `{"deviceId":"`
	text := append(c.tail, p...)
	c.rows += bytes.Count(text, []byte(begin))
	c.tail = bytes.Clone(text[max(0, len(text)-len(begin)+1):])
	return len(p), nil
}

func TestFleetTakesFewBytesADevice(t *testing.T) {
	const size = 100_000
	w := fileJournal(t, filepath.Join(t.TempDir(), "journal"))
	defer w.Close()
	before := liveHeap()
	var most atomic.Int64
	c := &crowd{size: size}
	c.every = func(n int64) {
		if n%25_000 == 0 {
			// What others allocate while it is measured is not held: the least of some
			// readings has the least of that.
			held := min(liveHeap(), liveHeap(), liveHeap())
			most.Store(max(most.Load(), held-before))
		}
	}
	plan := &spec.Plan{Name: "test", Jobs: []spec.Job{
		method("m", func(j *spec.Job) { j.Concurrency = 32 }),
		update("u", `{"floor":0}`, "", func(j *spec.Job) { j.Concurrency = 32 }),
	}}
	run, err := runner.Apply(context.Background(), plan, runner.Options{
		Hubs: []target.NamedHub{{Name: "crowd", Hub: c}}, Journal: w,
	})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	after := liveHeap() - before
	t.Logf("%d bytes a device and job at most, %d at the end", most.Load()/(2*size), after/(2*size))
	// One cohort a job, and what is the same for any fleet: two pages, 64 workers.
	if peak := most.Load(); peak > 2*size*45+4<<20 {
		t.Errorf("%d bytes alive during the run, %d a device and job; want about 40", peak, peak/(2*size))
	}
	rep := run.Report(0)
	wantOutcomes(t, rep.Jobs[0], spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: size})
	unchanged := (size + 2) / 3
	wantOutcomes(t, rep.Jobs[1], spec.StatusSucceeded, map[spec.Outcome]int{
		spec.OutcomeUnchanged: unchanged, spec.OutcomeSucceeded: size - unchanged,
	})
	if c.invoked.Load() != size || c.patched.Load() != int64(size-unchanged) {
		t.Errorf("%d methods and %d patches, want %d and %d", c.invoked.Load(), c.patched.Load(), size, size-unchanged)
	}
	var lines rowCounter
	if err := run.WriteReport(&lines, 0); err != nil || lines.rows != 2*size {
		t.Errorf("WriteReport: %d rows, %v, want %d", lines.rows, err, 2*size)
	}
}

// A device that is tried again later is a few bytes, whatever it waits for: neither
// the page that brought it nor what was tried so far.
func TestWaitingDevicesTakeFewBytes(t *testing.T) {
	for _, policy := range []spec.OfflinePolicy{spec.OfflineWait, spec.OfflineFail} {
		t.Run(string(policy), func(t *testing.T) { waitingTakesFewBytes(t, policy) })
	}
}

func waitingTakesFewBytes(t *testing.T, policy spec.OfflinePolicy) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const size, waiting = 10_000, 5_000
		const fixed = 1 << 20 // buffers that do not grow with the fleet
		w := fileJournal(t, filepath.Join(t.TempDir(), "journal"))
		defer w.Close()
		c := &crowd{size: size, refuses: func(x hub.Target) error {
			if x.DeviceID[13]%2 == 0 {
				return hinted(offline(), 4*time.Minute)
			}
			return nil
		}}
		plan := &spec.Plan{Name: "test", Jobs: []spec.Job{
			method("m", whenOffline(policy), attempts(50), deadline(11*time.Minute)),
		}}
		before := liveHeap()
		var held atomic.Int64
		timer := time.AfterFunc(10*time.Minute, func() { held.Store(liveHeap() - before) })
		defer timer.Stop()
		run, err := runner.Apply(context.Background(), plan, runner.Options{
			Hubs: []target.NamedHub{{Name: "crowd", Hub: c}}, Journal: w,
		})
		if err != nil {
			t.Fatalf("Apply: %v", err)
		}
		wantOutcomes(t, run.Report(0).Jobs[0], spec.StatusFailed, map[spec.Outcome]int{
			spec.OutcomeOffline: waiting, spec.OutcomeSucceeded: size - waiting,
		})
		each := (held.Load() - fixed - size*45) / waiting
		t.Logf("%d bytes for each of %d devices that are waited for", each, waiting)
		if each > 100 {
			t.Errorf("%d bytes for each of %d devices that are waited for, want at most 100", each, waiting)
		}
	})
}
