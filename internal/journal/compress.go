package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// compressedEnding follows the name of a journal that was compressed: nothing of its run
// is left to do, and it takes a tenth of the room.
const compressedEnding = ".zst"

// Compress puts a compressed journal in the place of one that nobody has open.
func Compress(path string) error {
	from, err := openLocked(path, 0)
	if errors.Is(err, ErrInUse) {
		return nil // whoever has it open does it at the end
	}
	if err != nil {
		return err
	}
	to, err := os.OpenFile(path+compressedEnding, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		err = zip(from, to)
	}
	if err != nil {
		_ = os.Remove(path + compressedEnding) // the journal itself is still there
		return errors.Join(fmt.Errorf("compress journal: %w", err), from.Close())
	}
	if info, statErr := from.Stat(); statErr == nil {
		_ = os.Chtimes(path+compressedEnding, info.ModTime(), info.ModTime()) // its age is that of the run
	}
	return removeLocked(from)
}

func zip(from, to *os.File) error {
	out, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return errors.Join(err, to.Close())
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close(), to.Sync(), to.Close())
}

// Lookup returns the path of a journal that may have been compressed since.
func Lookup(path string) (string, error) {
	_, err := os.Stat(path)
	if err != nil {
		if _, zipped := os.Stat(path + compressedEnding); zipped == nil {
			return path + compressedEnding, nil
		}
	}
	return path, err
}

// Restore puts a journal that was compressed back to where it was, to go on with its
// run, and returns its path. One that was not compressed stays as it is.
func Restore(path string) (string, error) {
	plain, compressed := path, path
	if n := len(path) - len(compressedEnding); n > 0 && path[n:] == compressedEnding {
		plain = path[:n]
	} else if _, err := os.Stat(path + compressedEnding); err != nil {
		return path, nil // it was not compressed
	} else {
		compressed = path + compressedEnding
	}
	from, err := OpenRead(compressed)
	if err != nil {
		return plain, err
	}
	defer from.Close() //nolint:errcheck // only read
	to, err := os.OpenFile(plain+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return plain, err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err == nil {
		err = os.Rename(plain+".part", plain)
	}
	if err != nil {
		return plain, err
	}
	return plain, os.Remove(compressed)
}

// OpenRead opens a file to read from any place. What is compressed is unpacked into a
// temporary one, which goes when it is closed.
func OpenRead(path string) (*os.File, error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	magic := make([]byte, 4)
	if n, _ := f.ReadAt(magic, 0); n < len(magic) || !bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return f, nil
	}
	defer f.Close() //nolint:errcheck // only read
	return Spool(func(to io.Writer) error {
		in, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(to, in)
		return err
	})
}

// Spool returns a temporary file of what write writes. It goes when it is closed; where
// a system cannot do that, it stays in the folder for such files.
func Spool(write func(io.Writer) error) (*os.File, error) {
	kept, err := os.CreateTemp("", "runner-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(kept.Name())
	if err = write(kept); err == nil {
		_, err = kept.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	return kept, nil
}
