package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Errors of Create and Open. Nothing was changed when one of them is returned.
var (
	// ErrEmpty means that a journal holds no whole line, so that nothing was begun.
	ErrEmpty = errors.New("the journal is empty")
	// ErrNotJournal means that a file is not a journal, or has lost its first line.
	ErrNotJournal = errors.New("this is not a journal of runner")
	// ErrInUse means that somebody has the journal open. The lock goes with the
	// process that holds it, however that ends.
	ErrInUse = errors.New("another run has it open")
)

var (
	errNotFile  = errors.New("a journal is kept in a regular file only")
	errReplaced = errors.New("the file was replaced meanwhile")
)

// Create makes a new journal that begins with h. The file must not exist, or
// be what a run leaves that dies before it begins: see [ErrEmpty].
//
// When it returns, the first line and the file's name survive a crash of the
// machine, whatever d is.
func Create(path string, h Header, d Durability) (*Writer, error) {
	line := h.Append(nil)
	if err := checkLine(line); err != nil { // or nobody could open it again
		return nil, fmt.Errorf("create journal: %w", err)
	}
	f, err := openLocked(path, os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	err = wipe(f)
	if err == nil {
		_, err = f.Write(line)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = f.Close() // the first error is the one that counts
		return nil, fmt.Errorf("create journal: %w", err)
	}
	return NewWriter(f, int64(len(line)), d), nil
}

// wipe empties a file in which nothing was begun.
func wipe(f *os.File) error {
	empty, err := unbegun(f)
	if err == nil && !empty {
		err = &fs.PathError{Op: "create", Path: f.Name(), Err: fs.ErrExist}
	}
	if err != nil {
		return err
	}
	return f.Truncate(0)
}

// Open reads a journal that a run left behind, hands its records to visit, cuts
// off a torn tail and returns a Writer that goes on where it ends. What visit
// was shown survives a crash of the machine by then. A journal without a whole
// line is [ErrEmpty] and left as it is.
func Open(path string, d Durability, visit func(at Position, rec Record) error) (*Writer, error) {
	f, err := openLocked(path, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	end, err := Replay(f, visit)
	if err == nil && end == 0 {
		err = whyEmpty(f)
	}
	if err == nil {
		err = settle(f, end)
	}
	if err != nil {
		_ = f.Close() // the first error is the one that counts
		return nil, fmt.Errorf("open journal %q: %w", path, err)
	}
	return NewWriter(f, int64(end), d), nil
}

// Read hands the records of a journal to visit, and changes nothing: it may be one that
// a run is writing. What is no journal is [ErrNotJournal], and one without a whole line
// [ErrEmpty].
func Read(f *os.File, visit func(at Position, rec Record) error) error {
	end, err := Replay(f, visit)
	if err == nil && end == 0 {
		err = whyEmpty(f)
	}
	return err
}

// settle cuts off what follows end. The sync is for what an earlier process
// wrote and never synced as much as for the cut: the new run builds on it.
func settle(f *os.File, end Position) error {
	info, err := f.Stat()
	if err == nil && info.Size() != int64(end) {
		err = f.Truncate(int64(end))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.Name()))
	}
	return err
}

func whyEmpty(f *os.File) error {
	empty, err := unbegun(f)
	if err == nil && !empty {
		err = ErrNotJournal
	}
	if err == nil {
		err = ErrEmpty
	}
	return err
}

// unbegun reports whether f holds no more than a crash within Create leaves:
// nothing, a part of the first line, zeros in place of it. Any other file is
// somebody's, and neither emptied nor taken for a run that did nothing.
func unbegun(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() > maxLine {
		return false, nil
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil {
		return false, err
	}
	text = bytes.TrimRight(text, "\x00")
	n := min(len(text), len(runPrefix))
	return string(text[:n]) == runPrefix[:n] && bytes.IndexByte(text, '\n') < 0, nil
}

// openLocked opens a file for appending and locks it against other writers.
func openLocked(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := claim(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// claim locks f and makes sure that it is still the file of that name: Prune
// may have removed it between our opening and our locking it.
func claim(f *os.File) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if !mine.Mode().IsRegular() {
		return errNotFile
	}
	if err = lockFile(f); err != nil {
		return err
	}
	named, err := os.Stat(f.Name())
	if err == nil && !os.SameFile(mine, named) {
		err = errReplaced
	}
	return err
}
