package journal_test

import (
	"bytes"
	"io"
	"sync"
	"time"

	"iothub-runner/internal/journal"
)

// disk is a File in memory that remembers what was synced, and when.
type disk struct {
	write func(p []byte) (int, error) // before the bytes are there; nil takes them all
	sync  func() error                // nil is done at once

	mu     sync.Mutex // guards what follows
	text   []byte
	writes int
	syncs  []moment
	synced int // bytes that survive a crash of the machine
	closed bool
}

// moment is a sync: when it began and what the file held then.
type moment struct {
	at   time.Time
	held int
}

func (d *disk) Write(p []byte) (int, error) {
	n, err := len(p), error(nil)
	if d.write != nil {
		n, err = d.write(p)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.text = append(d.text, p[:n]...)
	d.writes++
	return n, err
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= int64(len(d.text)) {
		return 0, io.EOF
	}
	n := copy(p, d.text[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	held := len(d.text)
	d.syncs = append(d.syncs, moment{time.Now(), held})
	d.mu.Unlock()
	if d.sync != nil {
		if err := d.sync(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = held
	return nil
}

func (d *disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// state returns what the disk holds: all of it, and what survives the machine.
func (d *disk) state() (text []byte, synced, syncs int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.text), d.synced, len(d.syncs)
}

// syncedAfter returns when each sync began, counted from start.
func (d *disk) syncedAfter(start time.Time) []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]time.Duration, len(d.syncs))
	for i, s := range d.syncs {
		all[i] = s.at.Sub(start)
	}
	return all
}

// commit appends a line and waits until it is acknowledged.
func commit(w *journal.Writer, rec journal.Record) error {
	p, err := w.Append(rec.Append(nil))
	if err == nil {
		err = w.Commit(p)
	}
	return err
}

// pending runs f beside the test. Its result is there when f has returned.
func pending(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }() // ends with the Writer at the latest; a bubble notices if not
	return done
}

// returned reports whether f has returned, and with what.
func returned(done <-chan error) (bool, error) {
	select {
	case err := <-done:
		return true, err
	default:
		return false, nil
	}
}
