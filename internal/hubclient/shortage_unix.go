//go:build unix

package hubclient

import (
	"errors"
	"syscall"
)

// isShortage tells whether a connection could not be opened for want of
// something on this machine: files, ports, or memory for sockets. The hub has
// no part in it, and it passes.
func isShortage(err error) bool {
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN} {
		if errors.Is(err, short) {
			return true
		}
	}
	return false
}
