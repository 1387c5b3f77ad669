package main

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// pendingFile is written beside the file that it will replace, so that readers
// find either the old file or the whole new one, also after a crash.
type pendingFile struct {
	*os.File

	place    string
	replaced bool
}

// newPendingFile starts a file that will appear at place. The file that is
// there now keeps its permissions; a new one gets perm, less the umask.
func newPendingFile(place string, perm os.FileMode) (*pendingFile, error) {
	was, err := os.Stat(place)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dir, base := filepath.Split(place)
	// The same directory, because a rename does not cross file systems.
	name := filepath.Join(dir, "."+base+"."+strconv.FormatUint(rand.Uint64(), 36)) //nolint:gosec // O_EXCL refuses a name that somebody guessed
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)             //nolint:gosec // the user names its place
	if err != nil {
		return nil, err
	}
	p := &pendingFile{File: f, place: place}
	if was != nil {
		if err := f.Chmod(was.Mode().Perm()); err != nil {
			return nil, errors.Join(err, p.discard())
		}
	}
	return p, nil
}

// replace closes the file and puts it in its place. The sync comes first: some
// file systems would otherwise leave an empty file after a crash.
func (p *pendingFile) replace() error {
	if err := errors.Join(p.Sync(), p.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.Name(), p.place); err != nil {
		return err
	}
	p.replaced = true
	return nil
}

// discard removes the file, unless it has replaced the other one.
func (p *pendingFile) discard() error {
	if p.replaced {
		return nil
	}
	_ = p.Close() // it may be closed already; on Windows an open file cannot be removed
	return os.Remove(p.Name())
}

// replaceFile writes a whole file in the place of another.
func replaceFile(place string, text []byte, perm os.FileMode) error {
	p, err := newPendingFile(place, perm)
	if err != nil {
		return err
	}
	_, err = p.Write(text)
	if err == nil {
		err = p.replace()
	}
	return errors.Join(err, p.discard())
}
