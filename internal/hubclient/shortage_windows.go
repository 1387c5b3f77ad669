package hubclient

import (
	"errors"
	"syscall"
)

// What Winsock says when it is short of sockets, ports or memory for them.
const (
	wsaTooManyFiles        syscall.Errno = 10024
	wsaAddressNotAvailable syscall.Errno = 10049
	wsaNoBuffers           syscall.Errno = 10055
)

// isShortage tells whether a connection could not be opened for want of
// something on this machine. The hub has no part in it, and it passes.
func isShortage(err error) bool {
	return errors.Is(err, wsaTooManyFiles) || errors.Is(err, wsaAddressNotAvailable) || errors.Is(err, wsaNoBuffers)
}
