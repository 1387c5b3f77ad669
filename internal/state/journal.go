// Package state keeps the runs of a user: their journals and locks, by hub and
// plan.
package state

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/exit"
	"iothub-runner/internal/inputs"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/preview"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// Request says which journal a run asks for.
type Request struct {
	Place

	Journal    string // path of a new one; empty for one in the place
	Resume     string // the run to go on with: its journal, id or report, or "last"; empty for none
	OrStart    bool   // start a new run if the last one has finished
	Only       []string
	Durability string
	Runner     string // the version of the program
}

// Record is the journal of a run and where it is kept.
type Record struct {
	Writer *journal.Writer
	ID     string
	began  time.Time // of the run
	runner string    // the version of the program
	Path   string
	Shown  string          // path to tell the user; empty if the journal is not kept
	prune  string          // folder to remove old journals from; empty for none
	root   string          // the folder of all journals
	dir    string          // to remove at the end; empty if the journal is kept
	Plan   string          // the argument of apply, to go on with
	Flags  []string        // and those flags that the run needs to find its hub and its jobs again
	Past   *runner.Past    // what it held when it was opened; nil if it is new
	Only   []spec.Outcome  // of the past, what to take up again
	pinned *preview.Pinned // the preview that bounds the run; nil if there is none
	inputs spec.Inputs     // of the run
	shard  spec.Shard
	Keep   bool // keep it all the same: it is the only trace
	Unused bool // nothing was begun, so there is nothing to keep
}

// Old journals of a plan on a hub are removed when there are more than so many
// or they are older than that.
const (
	keepJournals = 50
	keepFor      = 90 * 24 * time.Hour
	// keepBytes is how much room the journals of all plans take together.
	keepBytes = 2 << 30
	// worthCompressing is from which size on the journal of a finished run is compressed.
	worthCompressing = 1 << 20
)

// newRunID makes an id that sorts by time and that no two runs share.
func newRunID(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:])
}

// Open opens the journal to go on with, or creates the run's own. That
// of a rehearsal is thrown away: the hub it tells of is gone as well.
func (f Request) Open(plan *spec.Plan, pinned *preview.Pinned) (*Record, error) {
	durability, err := parseDurability(f.Durability)
	if err != nil {
		return nil, err
	}
	only, err := ParseOnly(f.Only)
	if err != nil {
		return nil, err
	}
	if len(only) > 0 && f.Resume == "" {
		return nil, exit.Usage("--only goes with --resume", "")
	}
	if f.OrStart && (f.Resume != lastRun || len(only) > 0) {
		return nil, exit.Usage("--or-start goes with --resume last, and without --only", "")
	}
	now := clock.Now()
	r := &Record{ID: newRunID(now), began: now, Only: only, pinned: pinned, runner: f.Runner, shard: f.Shard}
	r.inputs = inputs.Of(plan)
	if pinned != nil {
		r.inputs.Pinned = pinned.Sum()
	}
	if f.Resume != "" {
		named, err := f.findRun()
		if _, none := errors.AsType[*noneError](err); !none || !f.OrStart {
			if err != nil {
				return nil, err
			}
			r.Path, r.Shown = named.path, named.path
			r.keepIn(&f)
			return r, r.resume(named.id, f.hubs(), plan, durability)
		}
	}
	if err := r.place(&f); err != nil {
		return nil, err
	}
	return r, r.create(f.hubs(), plan, durability)
}

// keepIn notes that a journal is where those of its plan are kept, if it is.
func (r *Record) keepIn(f *Request) {
	if dir, err := f.dir(); err == nil && dir == filepath.Dir(r.Path) {
		r.prune = dir
		r.root, _ = f.root() // it is above dir
	}
}

// place says where the journal of a new run goes.
func (r *Record) place(f *Request) error {
	r.Path, r.Shown = f.Journal, f.Journal
	if f.Journal != "" {
		return nil
	}
	if f.Emulated {
		dir, err := os.MkdirTemp("", "runner-")
		if err != nil {
			return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("create journal: %w", err)}
		}
		r.dir, r.Path = dir, filepath.Join(dir, r.ID+".ndjson")
		return nil
	}
	dir, err := f.dir()
	if err != nil {
		return err
	}
	r.Path, r.prune = filepath.Join(dir, r.ID+".ndjson"), dir
	r.root, _ = f.root() // it is above dir
	r.Shown = r.Path
	return nil
}

func (r *Record) create(hubs []string, plan *spec.Plan, d journal.Durability) error {
	w, err := journal.Create(r.Path, journal.Header{
		Run: r.ID, Plan: plan.Name, File: plan.File, SHA256: plan.SHA256,
		Hubs: hubs, Runner: r.runner, StartedAt: r.began,
		Jobs: r.inputs.Jobs, Vars: r.inputs.Vars, Files: r.inputs.Files, Pinned: r.inputs.Pinned, Shard: r.shard.String(),
	}, d)
	if err != nil {
		return &exit.Error{Code: exit.Invalid, Err: err, Hint: "name another file with --journal; nothing is sent without a journal"}
	}
	r.Writer = w
	return nil
}

// resume opens the journal of an earlier run, which must have the id, if one is
// given. One that was never begun starts afresh: nothing can have been sent.
func (r *Record) resume(id string, hubs []string, plan *spec.Plan, d journal.Durability) error {
	past := runner.NewPast()
	path, err := journal.Restore(r.Path)
	if err != nil {
		return r.cannotResume(err)
	}
	r.Path, r.Shown = path, path
	w, err := journal.Open(r.Path, d, past.Visit)
	if errors.Is(err, journal.ErrEmpty) {
		return r.create(hubs, plan, d)
	}
	if err != nil {
		return r.cannotResume(err)
	}
	err = past.Check(plan, hubs, r.pinned)
	if have, want := r.shard.String(), past.Header.Shard; err == nil && have != want {
		err = &runner.MismatchError{What: "shard", Have: cmp.Or(have, "all devices"), Want: cmp.Or(want, "all devices")}
	}
	if id != "" && past.Header.Run != id {
		err = &otherRunError{path: r.Path, have: past.Header.Run, want: id}
	}
	if err != nil {
		return otherPlan(errors.Join(err, w.Close()))
	}
	r.Writer, r.Past = w, past
	return nil
}

func otherPlan(err error) error {
	hint := "resume with the plan file of that run"
	if _, ok := errors.AsType[*inputs.ChangedError](err); ok {
		hint = "resume with the variables and files of that run"
	} else if e, ok := errors.AsType[*inputs.NotPartError](err); ok {
		hint = "resume with --job " + strings.Join(e.Were, " --job ")
	} else if _, ok := errors.AsType[*otherRunError](err); ok {
		hint = "name the journal of that run"
	} else if _, ok := errors.AsType[*runner.MismatchError](err); !ok {
		hint = "resume with what that run was given"
	}
	return &exit.Error{Code: exit.Mismatch, Err: err, Hint: "nothing was sent; " + hint + ", or start a new run without --resume"}
}

// cannotResume says why a file cannot be gone on with.
func (r *Record) cannotResume(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &exit.Error{
			Code: exit.Invalid, Err: fmt.Errorf("--resume %q: no such file", r.Path),
			Hint: "an interrupted run says where its journal is; by default below $XDG_STATE_HOME/runner; --resume last takes the last one",
		}
	case errors.Is(err, journal.ErrInUse):
		return &exit.Error{Code: exit.Locked, Err: err, Hint: "nothing was sent; wait for that run to end, or stop it"}
	case errors.Is(err, journal.ErrNotJournal):
		return &exit.Error{Code: exit.Invalid, Err: err, Hint: "nothing was sent; --resume takes a journal, the id of a run, last, or the JSON report of a run whose journal is here"}
	}
	return &exit.Error{Code: exit.Mismatch, Err: err, Hint: "nothing was sent; a journal that is not whole cannot say which devices were reached"}
}

// Close closes the journal, and removes old ones. It returns those that it removed to
// make room.
func (r *Record) Close() (dropped []journal.RunFile) {
	_ = r.Writer.Close() // what it could not write was reported when it could not
	switch {
	case r.dir != "" && !r.Keep:
		_ = os.RemoveAll(r.dir) // a temporary folder; the system removes it otherwise
	case r.Unused && r.Past == nil:
		_ = os.Remove(r.Path) // a journal of nothing says nothing
	}
	if r.prune == "" {
		return nil
	}
	_, _ = journal.Prune(r.prune, keepJournals, keepFor, clock.Now()) // old files that stay do no harm
	if info, err := os.Stat(r.Path); err == nil && info.Size() > worthCompressing {
		if done, err := journal.Finished(r.Path); err == nil && done {
			_ = journal.Compress(r.Path) // or it stays as it is
		}
	}
	if all, err := journal.Find(r.root); err == nil {
		dropped, _ = journal.Shrink(all, keepBytes)
	}
	return dropped
}

// Place is a plan on its hubs: what journals and locks are kept for.
type Place struct {
	Hub, Plan string
	Others    []string // of several hubs, those but the first, which keeps the journals
	Emulated  bool     // nothing is kept: the hub is gone with the process
	Shard     spec.Shard
	StateDir  string // the folder of --state-dir; empty for the user's own
	Getenv    func(string) string
}

func (at Place) hubs() []string { return append([]string{at.Hub}, at.Others...) }

// dir is where journals and locks of the plan on the hub are kept. It is made if
// it is not there.
func (at Place) dir() (string, error) {
	base, err := at.root()
	if err != nil {
		return "", noState(err)
	}
	dir := at.below(base)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", noState(err)
	}
	return dir, nil
}

func (at Place) below(root string) string {
	shard := strings.ReplaceAll(at.Shard.String(), "/", "-of-") // empty adds no folder
	return filepath.Join(root, strings.ReplaceAll(at.Hub, ":", "_"), at.Plan, shard)
}

// Root is the folder of the journals of all plans.
func (at Place) Root() (string, error) {
	root, err := at.root()
	if err != nil {
		return "", noState(err)
	}
	return root, nil
}

func (at Place) root() (string, error) {
	if at.StateDir != "" {
		return at.StateDir, nil
	}
	if base := at.Getenv("XDG_STATE_HOME"); base != "" {
		return filepath.Join(base, "runner"), nil
	}
	return at.home()
}

// home is the folder of the user, wherever else this run may keep its state.
func (at Place) home() (string, error) {
	home := at.Getenv("HOME")
	if home == "" {
		var err error
		if home, err = os.UserHomeDir(); err != nil {
			return "", errors.New("there is no home directory")
		}
	}
	return filepath.Join(home, ".local", "state", "runner"), nil
}

// noState is a fault of the place that runner is run at, not of the plan.
func noState(err error) error {
	return &exit.Error{
		Code: exit.Internal, Err: fmt.Errorf("no place for journals and locks: %w", err),
		Hint: "nothing was sent; name a folder that can be written, and that stays, with --state-dir",
	}
}

func parseDurability(s string) (journal.Durability, error) {
	switch s {
	case "always":
		return journal.Always, nil
	case "batch":
		return journal.Batch, nil
	case "off":
		return journal.Off, nil
	}
	return 0, exit.Usage(fmt.Sprintf("--durability %q: want always, batch or off", s), "")
}
