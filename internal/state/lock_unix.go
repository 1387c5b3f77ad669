//go:build unix

package state

// holderFile is where the holder of a lock names itself: the lock file itself,
// because locks bind only those who ask for them here.
func holderFile(lock string) string { return lock }
