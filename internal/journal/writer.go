package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Durability says what a crash of the machine may cost. A kill of the process
// costs nothing that was acknowledged, whichever is chosen.
type Durability int

const (
	// Batch syncs in the background. A sync begins at most [SyncInterval] after
	// a line was acknowledged, or when the one under way ends if that is later.
	// A crash of the machine loses at most what was acknowledged after the
	// beginning of the last sync that ended.
	Batch Durability = iota
	// Always acknowledges a line only once it is synced. Lines that wait
	// together share one sync.
	Always
	// Off leaves syncing to the operating system, until Close.
	Off
)

// SyncInterval is the time between the beginnings of two syncs of Batch.
const SyncInterval = 100 * time.Millisecond

// maxPending bounds the lines that are appended and not yet taken to be
// written: more would only mean that the disk is slower than the hub.
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
	room    sync.Cond // lines were taken, or the end has come
	acks    sync.Cond // lines were acknowledged, or an error has come
	pending []byte
	end     Position // end of the journal, pending lines included
	acked   Position
	closing bool
	err     error

	failed chan struct{} // closed with err
	done   sync.WaitGroup
	close  func() error

	spare []byte // the buffer that is not pending; owned by the writing goroutine
}

// NewWriter appends to file, which holds end bytes and from now on belongs to
// the Writer.
func NewWriter(file File, end int64, d Durability) *Writer {
	w := &Writer{file: file, durability: d, end: Position(end), acked: Position(end), failed: make(chan struct{})}
	w.work.L, w.room.L, w.acks.L = &w.mu, &w.mu, &w.mu
	w.close = sync.OnceValue(w.finish)
	w.done.Go(w.write)
	return w
}

// Append appends a line, which must be one that this package made, and returns
// where it begins. It keeps no part of line. The line is written soon; Commit
// waits for it. Append itself waits while the disk is far behind.
func (w *Writer) Append(line []byte) (Position, error) {
	if err := checkLine(line); err != nil {
		return 0, fmt.Errorf("append to journal: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && !w.closing && len(w.pending) > 0 && len(w.pending)+len(line) > maxPending {
		w.room.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.closing {
		return 0, fmt.Errorf("append to journal: %w", os.ErrClosed)
	}
	at := w.end
	if len(w.pending) == 0 {
		w.work.Signal()
	}
	w.pending = append(w.pending, line...)
	w.end += Position(len(line))
	return at, nil
}

// checkLine refuses what would make the journal unreadable.
func checkLine(line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("a line of %d bytes, the longest may have %d", len(line), maxLine)
	}
	if i := bytes.IndexByte(line, '\n'); i < 0 || i != len(line)-1 {
		return fmt.Errorf("%w: %.80q has no newline at its end or one before it", errLine, line)
	}
	return nil
}

// Commit returns once the line that begins at p, which Append returned, is
// acknowledged.
func (w *Writer) Commit(p Position) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.acked <= p {
		w.acks.Wait()
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

// Close writes and syncs what is pending and closes the file. It returns the
// error that ended the Writer, if one did. A second Close does the same as the
// first.
func (w *Writer) Close() error { return w.close() }

func (w *Writer) finish() error {
	w.mu.Lock()
	w.closing = true
	w.work.Signal()
	w.room.Broadcast()
	w.mu.Unlock()
	w.done.Wait()
	err := w.Err()
	if err == nil {
		if err = w.file.Sync(); err != nil {
			err = fmt.Errorf("sync journal: %w", withAdvice(err))
			w.fail(err)
		}
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
	for len(w.pending) == 0 && !w.closing {
		w.work.Wait()
	}
	if len(w.pending) == 0 || w.err != nil {
		return nil, 0, false
	}
	lines = w.pending
	w.pending, w.spare = w.spare[:0], lines
	w.room.Broadcast()
	return lines, w.end, true
}

func (w *Writer) writeOut(lines []byte) error {
	if n, err := w.file.Write(lines); err != nil {
		return fmt.Errorf("write journal: %w", withAdvice(err))
	} else if n < len(lines) {
		return fmt.Errorf("write journal: %w", io.ErrShortWrite)
	}
	if w.durability != Always {
		return nil
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", withAdvice(err))
	}
	return nil
}

// withAdvice adds what to do about an error, where something can be done.
func withAdvice(err error) error {
	if !outOfRoom(err) {
		return err
	}
	return fmt.Errorf("no room is left for it; make room, then resume the run from its journal: %w", err)
}

// acknowledge tells who waits. After an error nothing is acknowledged any more,
// even if it was written: a sync in the background that did not work may have
// thrown away what it should have kept.
func (w *Writer) acknowledge(end Position, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
	case err != nil:
		w.failLocked(err)
	default:
		w.acked = end
		w.acks.Broadcast()
	}
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
	w.room.Broadcast()
	w.acks.Broadcast()
}
