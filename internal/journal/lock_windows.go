package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the writer's lock. Locks are mandatory here, so it is on one
// byte far behind any journal's end, where it is in nobody's way.
func lockFile(f *os.File) error {
	place := windows.Overlapped{OffsetHigh: 1 << 30}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &place)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

// removeLocked closes the file and removes it. Whoever opens it in between
// keeps it from being removed.
func removeLocked(f *os.File) error {
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// syncDir does nothing: a directory cannot be synced here.
func syncDir(string) error { return nil }

// outOfRoom reports whether a write failed for want of room.
func outOfRoom(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
