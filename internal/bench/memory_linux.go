package main

import (
	"os"
	"syscall"
)

// peakMemory returns how many bytes a finished process held at most.
func peakMemory(s *os.ProcessState) int64 {
	if r, ok := s.SysUsage().(*syscall.Rusage); ok {
		return r.Maxrss << 10
	}
	return 0
}
