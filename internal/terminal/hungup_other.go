//go:build !unix

package terminal

import (
	"errors"
	"os"
	"time"
)

// HungUp cannot know it here: only the write at the end tells whether anybody
// reads the output.
func HungUp(*os.File, time.Duration) (bool, error) { return false, errors.ErrUnsupported }
