package journal

import "os"

// Bounds that tests go up to and over.
const (
	MaxLine    = maxLine
	MaxPending = maxPending
	RowWindow  = rowWindow
)

// Claim locks a file that is open already.
func Claim(f *os.File) error { return claim(f) }

// ErrReplaced is what Claim says of a file that is no longer the one of its name.
func ErrReplaced() error { return errReplaced }
