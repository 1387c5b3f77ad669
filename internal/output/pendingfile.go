package output

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// A File is written beside the file that it will replace, so that readers
// find either the old file or the whole new one, also after a crash. A file that
// cannot be replaced, because it is mounted by itself as containers do, or
// because nothing may be made beside it, is written over at the end instead.
type File struct {
	*os.File

	place    string
	replaced bool
}

// Private is the mode of what we write unless something else is asked for:
// reports and previews hold values of variables and what devices answered.
const Private os.FileMode = 0o600

// Create starts a file that will appear at place with a mode, whatever
// the one that is there now has.
func Create(place string, mode os.FileMode) (*File, error) {
	was, err := os.Stat(place)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dir, base := filepath.Split(place)
	// The same directory, because a rename does not cross file systems.
	f, err := createHidden(dir, base, mode)
	if err != nil && was != nil && writable(place) {
		f, err = createHidden(os.TempDir(), base, mode)
	}
	if err != nil {
		return nil, err
	}
	p := &File{File: f, place: place}
	if err := f.Chmod(mode); err != nil { // the umask may have taken some of it
		return nil, errors.Join(err, p.Discard())
	}
	return p, nil
}

// createHidden makes a file of a name that nothing else has.
func createHidden(dir, base string, mode os.FileMode) (*os.File, error) {
	name := filepath.Join(dir, "."+base+"."+strconv.FormatUint(rand.Uint64(), 36)) //nolint:gosec // O_EXCL refuses a name that somebody guessed
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)                //nolint:gosec // the user names its place
}

func writable(place string) bool {
	f, err := os.OpenFile(place, os.O_WRONLY, 0) //nolint:gosec // the user names it
	return err == nil && f.Close() == nil
}

// Replace closes the file and puts it in its place. The sync comes first: some
// file systems would otherwise leave an empty file after a crash.
func (p *File) Replace() error {
	if err := p.Sync(); err != nil {
		return errors.Join(err, p.Close())
	}
	err := p.move()
	if err == nil {
		p.replaced = true
		return nil
	}
	if info, statErr := os.Stat(p.place); statErr != nil || !info.Mode().IsRegular() {
		return err
	}
	return p.writeOver()
}

// move renames the file. Windows renames no open file.
func (p *File) move() error {
	if err := p.Close(); err != nil {
		return err
	}
	return os.Rename(p.Name(), p.place)
}

// writeOver copies the file over the one in its place, which keeps its mode.
func (p *File) writeOver() error {
	from, err := os.Open(p.Name())
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	to, err := os.OpenFile(p.place, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Sync(), to.Close())
}

// Discard removes the file, unless it has replaced the other one.
func (p *File) Discard() error {
	if p.replaced {
		return nil
	}
	_ = p.Close() // it may be closed already; on Windows an open file cannot be removed
	return os.Remove(p.Name())
}

// WriteFile writes a whole file in the place of another.
func WriteFile(place string, text []byte, mode os.FileMode) error {
	p, err := Create(place, mode)
	if err != nil {
		return err
	}
	_, err = p.Write(text)
	if err == nil {
		err = p.Replace()
	}
	return errors.Join(err, p.Discard())
}
