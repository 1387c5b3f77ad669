package journal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Ending is how a run ended, as the journal's last lines have it.
type Ending struct {
	Status   string         `json:"status"`
	Targets  int            `json:"targets"`
	Outcomes map[string]int `json:"outcomes"`
}

// Mark returns the line that tells of it. It stands before the last one.
func (e Ending) Mark(at time.Time) (Mark, error) {
	text, err := json.Marshal(e)
	return Mark{Event: EventSummary, At: at, Detail: string(text)}, err
}

// RunFile is the journal of a run in its folder.
type RunFile struct {
	Path     string
	Run      string // the run's id, which is its name
	Size     int64
	Modified time.Time
}

// Compressed tells whether nothing of its run was left to do.
func (f *RunFile) Compressed() bool { return strings.HasSuffix(f.Path, compressedEnding) }

// Find returns the journals of runs below a folder, the newest run first.
func Find(root string) ([]RunFile, error) {
	name := regexp.MustCompile(journalName)
	var all []RunFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !name.MatchString(d.Name()) {
			return nil //nolint:nilerr // a folder that cannot be read has no journals for us
		}
		if info, err := d.Info(); err == nil {
			run, _, _ := strings.Cut(d.Name(), ".")
			all = append(all, RunFile{Path: path, Run: run, Size: info.Size(), Modified: info.ModTime()})
		}
		return nil
	})
	const second = len("20261127T020000Z")
	slices.SortStableFunc(all, func(a, b RunFile) int {
		return cmp.Or(cmp.Compare(b.Run[:second], a.Run[:second]), b.Modified.Compare(a.Modified))
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

// Look reads how a run began and, as far as that is so, how it ended.
func (f *RunFile) Look() (h Header, e *Ending, finished bool, err error) {
	in, err := OpenRead(f.Path)
	if err != nil {
		return h, nil, false, err
	}
	defer in.Close() //nolint:errcheck // only read
	if h, err = ReadHeader(in); err != nil {
		return h, nil, false, err
	}
	lines, err := lastLines(in)
	if err != nil {
		return h, nil, false, err
	}
	for _, line := range lines {
		rec, decodeErr := Decode(line)
		m, ok := rec.(Mark)
		if decodeErr != nil || !ok || m.Job != "" {
			e, finished = nil, false // the run went on after it
			continue
		}
		switch m.Event {
		case EventSummary:
			e = &Ending{}
			if json.Unmarshal([]byte(m.Detail), e) != nil {
				e = nil
			}
		case EventEnded:
			finished = m.Detail == FinishedDetail
		case EventStarted, EventListed, EventWave, EventPassed, EventResumed:
			e, finished = nil, false
		}
	}
	return h, e, finished, nil
}

// lastLines returns the whole lines at the end of a journal.
func lastLines(f *os.File) ([][]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tail := make([]byte, min(info.Size(), 4*longestMark))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	lines := bytes.Split(tail, []byte{'\n'})
	return lines[:len(lines)-1], nil
}

// InUse tells whether a run writes a journal just now.
func (f *RunFile) InUse() bool {
	if f.Compressed() {
		return false
	}
	held, err := openLocked(f.Path, 0)
	if err != nil {
		return errors.Is(err, ErrInUse)
	}
	_ = held.Close() // it was only looked at
	return false
}

// Shrink removes journals until those that are left take no more than limit bytes: of
// runs that had nothing left to do first, and the oldest first. The newest run stays.
func Shrink(all []RunFile, limit int64) (removed []RunFile, err error) {
	total := int64(0)
	for i := range all {
		total += all[i].Size
	}
	var errs []error
	for _, compressed := range []bool{true, false} {
		for i := len(all) - 1; i > 0 && total > limit; i-- {
			f := &all[i]
			if f.Compressed() != compressed {
				continue
			}
			gone, err := pruneOne(f.Path, func(fs.FileInfo) bool { return true })
			errs = append(errs, err)
			if gone {
				total -= f.Size
				removed = append(removed, *f)
			}
		}
	}
	return removed, errors.Join(errs...)
}

// Remove removes a journal that nobody has open.
func (f *RunFile) Remove() (bool, error) {
	return pruneOne(f.Path, func(fs.FileInfo) bool { return true })
}
