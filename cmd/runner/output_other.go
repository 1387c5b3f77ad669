//go:build !unix

package main

import (
	"errors"
	"os"
	"time"
)

// hungUp cannot know it here: only the write at the end tells whether anybody
// reads the output.
func hungUp(*os.File, time.Duration) (bool, error) { return false, errors.ErrUnsupported }
