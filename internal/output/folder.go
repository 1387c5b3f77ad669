package output

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Folder is the folder of a plan, for the files that the plan names. A link in
// it may not lead out of it: a plan from a fork, previewed where credentials
// lie around, could show them.
type Folder string

var errLeadsOut = errors.New("a link leads out of the plan's folder")

// Open opens a file of the folder.
func (f Folder) Open(name string) (fs.File, error) {
	file, err := os.OpenInRoot(string(f), name)
	if err != nil {
		return nil, f.explain(name, err)
	}
	return file, nil
}

// Stat looks at a file without opening it: a pipe would wait for a writer.
func (f Folder) Stat(name string) (fs.FileInfo, error) {
	root, err := os.OpenRoot(string(f))
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // nothing was written
	info, err := root.Stat(name)
	if err != nil {
		return nil, f.explain(name, err)
	}
	return info, nil
}

// explain says why a file that is there may not be read: the system's own words
// for it are those of a programmer.
func (f Folder) explain(name string, err error) error {
	if _, there := os.Stat(filepath.Join(string(f), filepath.FromSlash(name))); there == nil && !errors.Is(err, fs.ErrPermission) {
		return &fs.PathError{Op: "open", Path: name, Err: errLeadsOut}
	}
	return err
}
