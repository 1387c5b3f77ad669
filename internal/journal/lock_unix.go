//go:build !windows

package journal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile takes the writer's lock, which belongs to the open file: closing it
// gives the lock back, and so does the kernel when the process ends, however it
// does. A file that was opened twice locks itself out, also within one process.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrInUse
		default:
			return fmt.Errorf("the file system does not lock files, so keep the journal on another: %w", err)
		}
	}
}

// removeLocked removes the file while the lock is held, then closes it.
func removeLocked(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}

// syncDir makes the names in a directory survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// outOfRoom reports whether a write failed for want of room.
func outOfRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
