//go:build unix

package hubclient

import (
	"errors"
	"io"
	"syscall"
)

// readsNow says that a file can be read without waiting here.
const readsNow = true

// readFile reads what a socket holds. The runtime has its sockets in
// non-blocking mode, so the call returns at once.
func readFile(file syscall.RawConn, p []byte) (n int, err error) {
	var failed error
	err = file.Read(func(fd uintptr) bool {
		for {
			n, failed = syscall.Read(int(fd), p)
			if !errors.Is(failed, syscall.EINTR) {
				return true
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case errors.Is(failed, syscall.EAGAIN):
		return 0, nothingYet()
	case failed != nil:
		return 0, failed
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}
