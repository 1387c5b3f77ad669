package journal

import (
	"io/fs"
	"os"
)

// Bounds that tests go up to and over.
const (
	MaxLine    = maxLine
	MaxPending = maxPending
	RowWindow  = rowWindow
)

// Claim locks a file that is open already.
func Claim(f *os.File) error { return claim(f) }

// PruneOne removes a journal that old calls old.
func PruneOne(path string, old func(fs.FileInfo) bool) (bool, error) { return pruneOne(path, old) }

// ErrReplaced is what Claim says of a file that is no longer the one of its name.
func ErrReplaced() error { return errReplaced }
