package state

// holderFile is where the holder of a lock names itself: a file of its own,
// because nobody else can read a locked file here.
func holderFile(lock string) string { return lock + ".holder" }
