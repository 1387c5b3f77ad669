package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// journalName is the name of a run's journal: the run's id, which begins with
// when it started, so that names sort as their runs do.
const journalName = `^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}\.ndjson(\.zst)?$`

// Prune removes old journals from dir and returns their paths. It keeps the
// newest keep runs, and of those only what was written to in the last maxAge;
// 0 means no bound. It never removes a journal that somebody has open, and no
// file that is not named as the journal of a run.
//
// A journal that cannot be removed does not keep the others from it.
func Prune(dir string, keep int, maxAge time.Duration, now time.Time) (removed []string, err error) {
	paths, err := Runs(dir)
	if err != nil {
		return nil, fmt.Errorf("prune journals: %w", err)
	}
	var errs []error
	for i, path := range paths {
		gone, err := pruneOne(path, func(info fs.FileInfo) bool {
			return keep > 0 && i >= keep || maxAge > 0 && now.Sub(info.ModTime()) > maxAge
		})
		if gone {
			removed = append(removed, path)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("prune journals: %w", err)
	}
	return removed, nil
}

// Runs returns the paths of the journals of runs in dir, newest first.
func Runs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	name := regexp.MustCompile(journalName)
	var paths []string
	for _, e := range slices.Backward(entries) { // ReadDir sorts by name
		if e.Type().IsRegular() && name.MatchString(e.Name()) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// Finished tells whether the run of a journal has come to its end, so that
// nothing of it is left to do: its last line says so. A run that was stopped or
// interrupted has not.
func Finished(path string) (bool, error) {
	if strings.HasSuffix(path, compressedEnding) {
		return true, nil
	}
	f, err := os.Open(path) //nolint:gosec // a journal of ours
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	tail := make([]byte, min(info.Size(), longestMark))
	if _, err = f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return false, err
	}
	tail, whole := bytes.CutSuffix(tail, []byte{'\n'})
	rec, err := Decode(tail[bytes.LastIndexByte(tail, '\n')+1:])
	m, ok := rec.(Mark)
	return whole && err == nil && ok && m.Job == "" && m.Event == EventEnded && m.Detail == FinishedDetail, nil
}

// longestMark is more than the last line of a finished run takes.
const longestMark = 1 << 10

// pruneOne removes a journal if it is old and nobody has it open. It holds the
// lock while it does, so that nobody can begin to use what is about to go.
func pruneOne(path string, old func(fs.FileInfo) bool) (removed bool, err error) {
	info, err := os.Lstat(path)
	if err == nil && !old(info) {
		return false, nil
	}
	var f *os.File
	if err == nil {
		f, err = openLocked(path, 0)
	}
	switch {
	case errors.Is(err, ErrInUse), errors.Is(err, errReplaced), errors.Is(err, fs.ErrNotExist):
		return false, nil // in use, or another Prune was faster
	case err != nil:
		return false, err
	}
	// It may have been resumed and closed since we looked.
	if info, err = f.Stat(); err != nil || !old(info) {
		return false, errors.Join(err, f.Close())
	}
	err = removeLocked(f)
	return err == nil, err
}
