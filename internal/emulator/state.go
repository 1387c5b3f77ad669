package emulator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/jobs"
	"iothub-runner/internal/emulator/store"
)

// This file keeps a hub across restarts: one JSON object a line, first a head,
// then the devices that differ from the fleet file, messages that wait for
// devices, the jobs. The file is replaced as a whole, at the end and when the
// log beside it, of what has changed since, has grown large.

const (
	stateSchema = "runner/emulator-state/v1"
	// stateSync is how much the end of the machine can lose. The end of the
	// process loses nothing that was acknowledged.
	stateSync = time.Second
)

type stateHead struct {
	Schema      string `json:"schema"`
	ClockOffset int64  `json:"clockOffset"` // emulated minus real time
	Born        int64  `json:"born"`        // when the fleet's own twins were made
	Log         int    `json:"log"`         // the first log with what this file lacks
}

// stateLine is any other line, here or in the log.
type stateLine struct {
	Device *store.Kept    `json:"device,omitempty"`
	Mail   *devices.Kept  `json:"mail,omitempty"`
	Job    *jobs.Kept     `json:"job,omitempty"`
	Step   *jobs.KeptStep `json:"step,omitempty"`  // of a job
	Clock  *int64         `json:"clock,omitempty"` // its offset
}

// saveState writes the whole state, and begins another log.
func (s *Server) saveState() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	file := s.opts.StateFile
	number, err := s.stateLog.turn()
	if err != nil {
		// The old log's lines are in what is written now.
		s.Log.Warn("the log of the state did not close", "error", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*"+unfinished)
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	w := &countingWriter{to: bufio.NewWriterSize(tmp, 1<<16)}
	err = errors.Join(s.writeState(w, number), w.to.Flush(), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save the state in %q: %w", file, err), os.Remove(tmp.Name()))
	}
	s.stateSize.Store(w.size)
	// The logs go when the new file is sure to stay.
	if err := syncDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("save the state in %q: %w", file, err)
	}
	return s.stateLog.forget(number)
}

// unfinished ends the name of a state file that is being written.
const unfinished = ".tmp"

// countingWriter counts what it writes.
type countingWriter struct {
	to   *bufio.Writer
	size int64
}

// Write implements io.Writer.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.size += int64(n)
	return n, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Server) writeState(w io.Writer, number int) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // values come back byte for byte
	if err := enc.Encode(stateHead{Schema: stateSchema, ClockOffset: s.Clock.Offset.Load(), Born: s.Store.Born.UnixNano(), Log: number}); err != nil {
		return err
	}
	for n := range s.Store.Slots() {
		d, ok := s.Store.Keep(n)
		if !ok {
			continue
		}
		if err := enc.Encode(stateLine{Device: d}); err != nil {
			return err
		}
	}
	for _, m := range s.front.Mail.Keep() {
		if err := enc.Encode(stateLine{Mail: m}); err != nil {
			return err
		}
	}
	for _, j := range s.schedules.Since(0) {
		if err := enc.Encode(stateLine{Job: j.Keep()}); err != nil {
			return err
		}
	}
	return nil
}

// loadState reads the file, if there is one, and its logs into a hub that
// nobody uses yet. From then on the hub keeps what changes.
func (s *Server) loadState() error {
	if err := s.lockState(); err != nil {
		return err
	}
	l := &stateLog{stateFile: s.opts.StateFile, log: s.Log}
	kept := jobs.KeptJobs{}
	head, err := s.readState(&kept)
	if err == nil {
		err = l.replay(head.Log, func(line stateLine) error { return s.restore(line, &kept) })
	}
	if err == nil {
		err = errors.Join(l.forget(head.Log), s.removeUnfinished())
	}
	if err != nil {
		return err
	}
	s.front.Mail.KeepOnly(func(id string) bool {
		device, module, _ := strings.Cut(id, "/")
		_, refusal := s.Store.Look(device, module)
		return refusal == nil
	})
	s.stateLog = l
	s.schedules.NoteJob = func(j *jobs.Kept) { l.note(stateLine{Job: j}) }
	s.schedules.NoteStep = func(p *jobs.KeptStep) { l.note(stateLine{Step: p}) }
	s.front.Mail.Changed = func(m *devices.Kept) { l.note(stateLine{Mail: m}) }
	s.Store.Changed = func(d *store.Kept) { l.note(stateLine{Device: d}) }
	s.Clock.Moved = func(offset int64) { l.note(stateLine{Clock: &offset}) }
	if err := s.schedules.RestoreJobs(&kept); err != nil { // which may go on at once
		return fmt.Errorf("read the state in %q: %w", s.opts.StateFile, err)
	}
	return nil
}

// lockState makes sure that no other process uses the state file: each would
// take the other's logs away. The kernel unlocks it when this process ends.
func (s *Server) lockState() error {
	file := s.opts.StateFile
	s.stateLock = flock.New(file+".lock", flock.SetPermissions(0o600))
	locked, err := s.stateLock.TryLock()
	if err != nil {
		return fmt.Errorf("lock the state in %q: %w", file, err)
	}
	if !locked {
		return fmt.Errorf("the state in %q is used by another emulator that runs: stop it, or name another file", file)
	}
	return nil
}

func (s *Server) readState(kept *jobs.KeptJobs) (stateHead, error) {
	var head stateHead
	f, err := os.Open(s.opts.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		// The fleet's twins were made when the first process started, not when
		// this one did.
		return head, s.firstState()
	}
	if err != nil {
		return head, fmt.Errorf("read the state: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if info, err := f.Stat(); err == nil {
		s.stateSize.Store(info.Size())
	}
	dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<16))
	if err := dec.Decode(&head); err != nil || head.Schema != stateSchema {
		return head, fmt.Errorf("read the state in %q: want a file of schema %s", s.opts.StateFile, stateSchema)
	}
	s.Clock.Offset.Store(head.ClockOffset)
	s.Store.Bear(time.Unix(0, head.Born))
	for n := 2; ; n++ {
		var line stateLine
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return head, nil
		}
		if err == nil {
			err = s.restore(line, kept)
		}
		if err != nil {
			return head, fmt.Errorf("read the state in %q: entry %d: %w", s.opts.StateFile, n, err)
		}
	}
}

// firstState writes a state file that says when this hub began.
func (s *Server) firstState() error {
	src, err := json.Marshal(stateHead{Schema: stateSchema, Born: s.Store.Born.UnixNano()})
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	return access.WriteSecret(s.opts.StateFile, append(src, '\n'))
}

// removeUnfinished removes what a process left that ended while it wrote the
// state.
func (s *Server) removeUnfinished() error {
	dir, base := filepath.Dir(s.opts.StateFile), filepath.Base(s.opts.StateFile)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), base+".") && strings.HasSuffix(e.Name(), unfinished) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// restore takes a line in. It may speak of what is there already: lines of a
// log do, and a device that was deleted and registered anew while the state was
// written may stand in that twice.
func (s *Server) restore(line stateLine, kept *jobs.KeptJobs) error {
	switch {
	case line.Device != nil:
		if line.Device.Deleted {
			s.front.Mail.Forget(line.Device.ID)
		}
		return s.Store.Restore(line.Device, s.Clock.Now())
	case line.Mail != nil:
		return s.front.Mail.Restore(line.Mail)
	case line.Job != nil:
		kept.Take(line.Job)
		return nil
	case line.Step != nil:
		return kept.Step(line.Step)
	case line.Clock != nil:
		s.Clock.Offset.Store(*line.Clock)
		return nil
	}
	return errors.New("want a device, a message, a job or the clock")
}

// keepSaving brings what changes to the disk, and saves the whole state when
// the log has grown large, until the hub closes.
func (s *Server) keepSaving() {
	ticker := time.NewTicker(stateSync)
	defer ticker.Stop()
	for {
		select {
		case <-s.Life.Done():
			return
		case <-ticker.C:
		}
		s.Store.NoteCounts()
		err := s.stateLog.sync()
		if s.stateLog.due(s.stateSize.Load()) {
			err = errors.Join(err, s.saveState())
		}
		if err != nil {
			// The next save, or the one at the end, may do better.
			s.Log.Error("the state was not saved", "error", err)
		}
	}
}
