package emulator

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// This file is the log beside the state file: what has changed since the state
// was written as a whole, one line a change, appended before the change is
// acknowledged. A line says all there is of its device, so that reading one
// twice, or one that the state file has already, does no harm.
//
// Logs are numbered, and none is written to by two processes or after an
// error. The head of the state file names the first log that it does not
// contain. So whatever instant a process ends at, these cases are all:
//
//   - within a line: the line was not acknowledged, and is dropped;
//   - while the state is written: the old file and all logs are there;
//   - after the new file took the old one's place: logs before the one that it
//     names are ignored, and removed.

// stateLog appends to the log. A nil log keeps nothing.
type stateLog struct {
	stateFile string
	log       *slog.Logger

	mu     sync.Mutex
	number int      // of the log that is, or will be, appended to; guarded by mu
	file   *os.File // nil until there is something to append; guarded by mu
	size   int64    // of all logs since the state was written; guarded by mu
	dirty  bool     // file has lines that may not be on the disk; guarded by mu
	broken bool     // a line was lost: only a new state file helps; guarded by mu
}

// logName is the file of a log. It has a suffix that state files have not.
func (l *stateLog) logName(number int) string {
	return l.stateFile + "." + strconv.Itoa(number) + ".log"
}

// note appends a line. It returns when the line would survive the end of this
// process; sync makes it survive the end of the machine's.
func (l *stateLog) note(line stateLine) {
	if l == nil {
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // values come back byte for byte
	if err := enc.Encode(line); err != nil {
		panic("emulator: a state line that does not encode: " + err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return
	}
	if err := l.appendLocked(b.Bytes()); err != nil {
		l.broken = true
		l.log.Error("the log of the state cannot be written; what changes now is kept with the next save", "error", err)
	}
}

func (l *stateLog) appendLocked(line []byte) error {
	if l.file == nil {
		f, err := os.OpenFile(l.logName(l.number), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		l.file = f
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	l.dirty = true
	return err
}

// sync brings what was noted to the disk.
func (l *stateLog) sync() error {
	l.mu.Lock()
	f := l.file
	dirty := l.dirty
	l.dirty = false
	l.mu.Unlock()
	if !dirty || f == nil {
		return nil
	}
	// Outside the lock: appending does not wait for the disk. The file may be
	// closed by turn meanwhile; then the new state has what it held.
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("bring the log of the state to the disk: %w", err)
	}
	return nil
}

// turn begins another log, and returns its number: the state that is written
// from now on has all that stands in the logs before.
func (l *stateLog) turn() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.file != nil {
		err = l.file.Close()
		l.file = nil
		l.number++
	}
	l.size, l.broken, l.dirty = 0, false, false
	return l.number, err
}

// due says whether it is time to write the whole state: a line was lost, or the
// logs are larger than the state itself.
func (l *stateLog) due(stateSize int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken || l.size > max(stateSize, minLogSize)
}

// minLogSize is how large the logs may grow beside a small state.
const minLogSize = 64 << 20

// logs returns the numbers of the logs that there are, in order.
func (l *stateLog) logs() ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(l.stateFile))
	if err != nil {
		return nil, fmt.Errorf("look for logs of the state: %w", err)
	}
	var found []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(l.stateFile)+".")
		digits, isLog := strings.CutSuffix(rest, ".log")
		if n, err := strconv.Atoi(digits); ok && isLog && err == nil && n > 0 && strconv.Itoa(n) == digits {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found, nil
}

// forget removes the logs before one that a state file names.
func (l *stateLog) forget(before int) error {
	all, err := l.logs()
	for _, n := range all {
		if n < before {
			err = errors.Join(err, os.Remove(l.logName(n)))
		}
	}
	return err
}

// replay reads the logs from a number on, and leaves l to begin the one after
// the last.
func (l *stateLog) replay(from int, take func(stateLine) error) error {
	all, err := l.logs()
	if err != nil {
		return err
	}
	l.number = max(from, 1)
	for _, n := range all {
		if n < from {
			continue
		}
		size, err := readLines(l.logName(n), take)
		if err != nil {
			return err
		}
		l.size += size
		l.number = n + 1
	}
	return nil
}

// readLines reads one log. Its last line may be torn: nobody was told that
// what it says was done. A line that cannot be read elsewhere is damage.
func readLines(file string, take func(stateLine) error) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, fmt.Errorf("read the log of the state: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	r := bufio.NewReaderSize(f, 1<<16)
	size := int64(0)
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, fmt.Errorf("read the log of the state: %w", err)
		}
		size += int64(len(text))
		var line stateLine
		if err = json.Unmarshal(text, &line); err == nil {
			err = take(line)
		}
		if err != nil {
			return size, fmt.Errorf("read the log of the state %q: line %d: %w", file, n, err)
		}
	}
}
