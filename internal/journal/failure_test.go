package journal_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"iothub-runner/internal/journal"
)

var errDisk = errors.New("the disk is gone")

// ended checks that a Writer has ended with an error, for everybody.
func ended(t *testing.T, name string, w *journal.Writer, want error) {
	t.Helper()
	select {
	case <-w.Failed():
	default:
		t.Errorf("%s: Failed is open after an error", name)
	}
	p, err := w.Append(mark("late").Append(nil))
	if !errors.Is(err, want) || p != 0 {
		t.Errorf("%s: Append = %d, %v, want 0, %v", name, p, err, want)
	}
	for call, err := range map[string]error{"Err": w.Err(), "Close": w.Close(), "a second Close": w.Close()} {
		if !errors.Is(err, want) {
			t.Errorf("%s: %s = %v, want %v", name, call, err, want)
		}
	}
}

// TestWriteFails: the line is not acknowledged, those before it stay so.
func TestWriteFails(t *testing.T) {
	tests := []struct {
		name  string
		write func(p []byte) (int, error)
		want  error
	}{
		{"an error", func([]byte) (int, error) { return 0, errDisk }, errDisk},
		{"an error half way", func(p []byte) (int, error) { return len(p) / 2, errDisk }, errDisk},
		{"a short write without an error", func(p []byte) (int, error) { return len(p) / 2, nil }, io.ErrShortWrite},
	}
	for _, tt := range tests {
		for _, d := range everyDurability() {
			synctest.Test(t, func(t *testing.T) {
				file := &disk{}
				w := journal.NewWriter(file, 0, d)
				first, err := w.Append(mark("first").Append(nil))
				if err == nil {
					err = w.Commit(first)
				}
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				file.write = tt.write
				if err := commit(w, mark("second")); !errors.Is(err, tt.want) {
					t.Errorf("%s: Commit = %v, want %v", tt.name, err, tt.want)
				}
				if err := w.Flush(); !errors.Is(err, tt.want) {
					t.Errorf("%s: Flush = %v, want %v", tt.name, err, tt.want)
				}
				if err := w.Commit(first); err != nil {
					t.Errorf("%s: Commit of a line that was acknowledged = %v, want nil", tt.name, err)
				}
				ended(t, tt.name, w, tt.want)
				if !file.closed {
					t.Errorf("%s: Close left the file open", tt.name)
				}
			})
		}
	}
}

// TestSyncFailsInTheBackground: nothing is acknowledged once it has, not even
// a line that is written afterwards, and nobody waits for ever.
func TestSyncFailsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail, written := make(chan struct{}), make(chan struct{})
		file := &disk{sync: func() error { <-fail; return errDisk }}
		w := journal.NewWriter(file, 0, journal.Batch)
		if err := commit(w, mark("first")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // its sync is under way
		file.write = func(p []byte) (int, error) { <-written; return len(p), nil }
		big := journal.Mark{Detail: strings.Repeat("x", journal.MaxPending)}
		p, err := w.Append(mark("second").Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		second := pending(func() error { return w.Commit(p) })
		synctest.Wait()
		third := pending(func() error { return commit(w, big) })
		synctest.Wait()
		fourth := pending(func() error { return commit(w, big) }) // finds no room
		synctest.Wait()
		close(fail)
		synctest.Wait()
		for i, done := range []<-chan error{second, third, fourth} {
			if over, err := returned(done); !over || !errors.Is(err, errDisk) {
				t.Errorf("Commit %d has returned %v, %v once the sync failed, want true, %v", i+2, over, err, errDisk)
			}
		}
		close(written)
		synctest.Wait()
		if err := w.Commit(p); !errors.Is(err, errDisk) {
			t.Errorf("Commit after the write that was under way = %v, want %v", err, errDisk)
		}
		ended(t, "background", w, errDisk)
		if _, _, syncs := file.state(); syncs != 1 {
			t.Errorf("%d syncs, want no second one: it would claim success", syncs)
		}
	})
}

func TestSyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &disk{sync: func() error { return errDisk }}
		w := journal.NewWriter(file, 0, journal.Always)
		if err := commit(w, mark("a")); !errors.Is(err, errDisk) {
			t.Errorf("Commit = %v, want %v", err, errDisk)
		}
		ended(t, "always", w, errDisk)

		file = &disk{sync: func() error { return errDisk }}
		w = journal.NewWriter(file, 0, journal.Off)
		if err := commit(w, mark("a")); err != nil {
			t.Errorf("Commit = %v, want nil: nothing was synced", err)
		}
		if err := w.Close(); !errors.Is(err, errDisk) {
			t.Errorf("Close = %v, want %v", err, errDisk)
		}
		ended(t, "off", w, errDisk)
	})
}

// faulty is a real file that stops working.
type faulty struct {
	*os.File
	write, sync error
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.write != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, f.write
	}
	return f.File.Write(p)
}

func (f *faulty) Sync() error { return errors.Join(f.sync, f.File.Sync()) }

// TestReopenAfterFailure: a failing write, then a failing sync, and each time
// the journal goes on with what was acknowledged.
func TestReopenAfterFailure(t *testing.T) {
	path := journalFile(t, header().Append(nil))
	open := func() (*os.File, int64) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return f, info.Size()
	}
	acknowledged := []string{}
	for _, fault := range []faulty{{write: syscall.EIO}, {sync: syscall.EIO}, {write: syscall.ENOSPC}} {
		f, size := open()
		file := &faulty{File: f}
		w := journal.NewWriter(file, size, journal.Always)
		name := "before " + errors.Join(fault.write, fault.sync).Error()
		if err := commit(w, mark(name)); err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, name)
		file.write, file.sync = fault.write, fault.sync // the writing goroutine waits for lines
		if err := commit(w, mark("lost")); err == nil {
			t.Error("Commit on a broken disk = nil")
		}
		if err := w.Close(); err == nil {
			t.Error("Close on a broken disk = nil")
		}
		var got []string
		w, err := journal.Open(path, journal.Always, func(_ journal.Position, rec journal.Record) error {
			if m, ok := rec.(journal.Mark); ok && m.Detail != "lost" { // a line whose sync failed may be there
				got = append(got, m.Detail)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, ", ") != strings.Join(acknowledged, ", ") {
			t.Errorf("after %s the journal has %q, want %q", name, got, acknowledged)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDiskFull: the message says what to do.
func TestDiskFull(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "run.ndjson", Err: syscall.ENOSPC}
	const want = "write journal: no room is left for it; make room, then resume the run from its journal: write run.ndjson: no space left on device"
	file := &disk{write: func(p []byte) (int, error) { return len(p) / 3, full }}
	w := journal.NewWriter(file, 0, journal.Batch)
	if err := commit(w, mark("a")); err == nil || err.Error() != want {
		t.Errorf("Commit = %v, want %s", err, want)
	}
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close = %v, want ENOSPC", err)
	}
}

// TestLocked: a journal has one writer, within a process as between two.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.ndjson")
	w, err := journal.Create(path, header(), journal.Batch)
	if err != nil {
		t.Fatal(err)
	}
	none := func(journal.Position, journal.Record) error { return nil }
	if _, err = journal.Open(path, journal.Batch, none); !errors.Is(err, journal.ErrInUse) {
		t.Errorf("Open of a journal in use = %v, want ErrInUse", err)
	}
	_, err = journal.Create(path, header(), journal.Batch)
	if want := "create journal: lock " + path + ": another run has it open"; err == nil || err.Error() != want {
		t.Errorf("Create of a journal in use = %v, want %s", err, want)
	}
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	if w, err = journal.Open(path, journal.Batch, none); err != nil {
		t.Fatalf("Open of a journal that was closed: %v", err)
	}
	if _, err := journal.Open(path, journal.Batch, none); !errors.Is(err, journal.ErrInUse) {
		t.Errorf("Open of a journal that was opened = %v, want ErrInUse", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// A first line that could not be read again is not written.
func TestCreateRefusesALineTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.ndjson")
	h := header()
	h.Vars = map[string]string{"text": strings.Repeat("x", 4<<20)}
	if _, err := journal.Create(path, h, journal.Off); err == nil || !strings.Contains(err.Error(), "the longest may have 4194304") {
		t.Errorf("Create = %v, want the longest line named", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat = %v, want no file", err)
	}
}
