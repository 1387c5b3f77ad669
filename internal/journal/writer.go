package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Durability says what a crash of the machine may cost. A kill of the process
// costs nothing that was acknowledged, whichever is chosen.
type Durability int

const (
	// Batch syncs the file at most [SyncInterval] after a line was acknowledged,
	// so a crash of the machine can lose the lines of that time and of the sync
	// under way.
	Batch Durability = iota
	// Always acknowledges a line only once it is synced. Lines that wait
	// together share one sync.
	Always
	// Off leaves syncing to the operating system, until Close.
	Off
)

// SyncInterval bounds what Batch can lose.
const SyncInterval = 100 * time.Millisecond

// maxPending bounds the lines that are appended and not yet written: more
// would only mean that the disk is slower than the hub.
const maxPending = 1 << 20

// File is what a Writer needs of a file; an [os.File] is one. Tests have others.
type File interface {
	io.Writer
	io.ReaderAt
	Sync() error
	Close() error
}

// Position is a place in the order of a journal's lines.
type Position int64

// Writer appends lines. It is safe for concurrent use: one goroutine writes,
// and whatever is appended while it does goes out together next.
//
// The first write or sync that does not work ends the Writer: every later call
// returns that error. What the file holds then is found out by opening it
// again, not by guessing.
type Writer struct {
	file       File
	durability Durability

	mu      sync.Mutex
	work    sync.Cond // there are lines to write, or the end has come
	room    sync.Cond // lines were acknowledged, or an error has come
	pending []byte
	end     Position // end of the journal, pending lines included
	acked   Position
	closing bool
	err     error

	failed chan struct{} // closed with err
	done   sync.WaitGroup

	spare []byte // the buffer that is not pending; owned by the writing goroutine
}

// Create makes a new journal that begins with h. The file must not exist.
func Create(path string, h Header, d Durability) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	w := NewWriter(f, 0, d)
	at, err := w.Append(h.Append(nil))
	if err == nil {
		err = w.Commit(at)
	}
	if err == nil && d != Off {
		err = errors.Join(f.Sync(), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create journal: %w", err), w.Close())
	}
	return w, nil
}

// NewWriter appends to file, which holds end bytes.
func NewWriter(file File, end int64, d Durability) *Writer {
	w := &Writer{file: file, durability: d, end: Position(end), acked: Position(end), failed: make(chan struct{})}
	w.work.L, w.room.L = &w.mu, &w.mu
	w.done.Go(w.write)
	return w
}

// Append takes over a line, which must be one that this package made, and
// returns where it begins. The line is written soon; Commit waits for it.
func (w *Writer) Append(line []byte) (Position, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.pending) > 0 && len(w.pending)+len(line) > maxPending {
		w.room.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.closing {
		return 0, os.ErrClosed
	}
	at := w.end
	if len(w.pending) == 0 {
		w.work.Signal()
	}
	w.pending = append(w.pending, line...)
	w.end += Position(len(line))
	return at, nil
}

// Commit returns once the line that begins at p is acknowledged.
func (w *Writer) Commit(p Position) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.acked <= p {
		w.room.Wait()
	}
	if w.acked > p {
		return nil
	}
	return w.err
}

// Flush returns once every line appended so far is acknowledged.
func (w *Writer) Flush() error {
	w.mu.Lock()
	end := w.end
	w.mu.Unlock()
	if end == 0 {
		return nil
	}
	return w.Commit(end - 1)
}

// Failed is closed when the Writer has ended with an error; Err tells which.
func (w *Writer) Failed() <-chan struct{} { return w.failed }

// Err returns the error that ended the Writer, if one did.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// ReadAt reads what was acknowledged.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.file.ReadAt(p, off) }

// Close writes and syncs what is pending and closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closing = true
	w.work.Signal()
	w.mu.Unlock()
	w.done.Wait()
	err := w.Err()
	if err == nil {
		err = w.file.Sync()
	}
	return errors.Join(err, w.file.Close())
}

// write is the one goroutine that writes the file. It ends when the Writer is
// closed and nothing is pending, or with the first error.
func (w *Writer) write() {
	syncer := newSyncer(w)
	defer syncer.stop()
	for {
		lines, end, ok := w.take()
		if !ok {
			return
		}
		err := w.writeOut(lines)
		if err == nil && w.durability == Batch {
			syncer.dirty()
		}
		w.acknowledge(end, err)
		if err != nil {
			return
		}
	}
}

// take waits for lines and swaps the buffers.
func (w *Writer) take() (lines []byte, end Position, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) == 0 && !w.closing && w.err == nil {
		w.work.Wait()
	}
	if len(w.pending) == 0 || w.err != nil {
		return nil, 0, false
	}
	lines = w.pending
	w.pending, w.spare = w.spare[:0], lines
	return lines, w.end, true
}

func (w *Writer) writeOut(lines []byte) error {
	if n, err := w.file.Write(lines); err != nil {
		return fmt.Errorf("write journal: %w", err)
	} else if n < len(lines) {
		return fmt.Errorf("write journal: %w", io.ErrShortWrite)
	}
	if w.durability != Always {
		return nil
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	return nil
}

func (w *Writer) acknowledge(end Position, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failLocked(err)
	} else {
		w.acked = end
	}
	w.room.Broadcast()
}

func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(err)
}

// failLocked ends the Writer. After a sync that did not work, nobody knows what
// the disk holds, and a second one would claim success all the same.
func (w *Writer) failLocked(err error) {
	if w.err != nil {
		return
	}
	w.err = err
	close(w.failed)
	w.work.Signal()
	w.room.Broadcast()
}

// syncer syncs a journal in the background, so that writes go on meanwhile.
type syncer struct {
	w    *Writer
	wake chan struct{} // one pending request is enough for any number of lines
	quit chan struct{}
	done sync.WaitGroup
}

func newSyncer(w *Writer) *syncer {
	s := &syncer{w: w, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	if w.durability == Batch {
		s.done.Go(s.loop)
	}
	return s
}

func (s *syncer) dirty() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *syncer) stop() {
	close(s.quit)
	s.done.Wait()
}

func (s *syncer) loop() {
	timer := time.NewTimer(SyncInterval)
	defer timer.Stop()
	for s.wait(s.wake) {
		if err := s.w.file.Sync(); err != nil {
			s.w.fail(fmt.Errorf("sync journal: %w", err))
			return
		}
		// At most so often; lines written meanwhile share the next one.
		timer.Reset(SyncInterval)
		select {
		case <-timer.C:
		case <-s.quit:
			return
		}
	}
}

// wait returns true when there is something to sync, false at the end: Close
// itself syncs what is left then.
func (s *syncer) wait(wake <-chan struct{}) bool {
	select {
	case <-wake:
		return true
	case <-s.quit:
		return false
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
