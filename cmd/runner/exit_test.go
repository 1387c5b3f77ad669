package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"iothub-runner/internal/exit"
)

// A disk that is full is no fault of runner's.
func TestExitCodeOfAFullDisk(t *testing.T) {
	var stderr bytes.Buffer
	err := fmt.Errorf("schema: %w", &fs.PathError{Op: "write", Path: "/dev/stdout", Err: errors.New("no space left on device")})
	if code := exitCode(environment{stderr: &stderr}, err); code != exit.Missed {
		t.Errorf("exitCode(%v) = %d, want %d", err, code, exit.Missed)
	}
	if want := "runner: error: schema: write /dev/stdout: no space left on device\n"; stderr.String() != want {
		t.Errorf("stderr is %q, want %q", stderr.String(), want)
	}
}
