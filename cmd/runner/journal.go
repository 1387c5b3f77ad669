package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"iothub-runner/internal/inputs"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/preview"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// record is the journal of a run and where it is kept.
type record struct {
	writer *journal.Writer
	id     string
	began  time.Time // of the run
	path   string
	shown  string          // path to tell the user; empty if the journal is not kept
	prune  string          // folder to remove old journals from; empty for none
	dir    string          // to remove at the end; empty if the journal is kept
	plan   string          // the argument of apply, to go on with
	flags  []string        // and those flags that the run needs to find its hub and its jobs again
	past   *runner.Past    // what it held when it was opened; nil if it is new
	only   []spec.Outcome  // of the past, what to take up again
	pinned *preview.Pinned // the preview that bounds the run; nil if there is none
	inputs spec.Inputs     // of the run
	keep   bool            // keep it all the same: it is the only trace
	unused bool            // nothing was begun, so there is nothing to keep
}

// Old journals of a plan on a hub are removed when there are more than so many
// or they are older than that.
const (
	keepJournals = 50
	keepFor      = 90 * 24 * time.Hour
)

// newRunID makes an id that sorts by time and that no two runs share.
func newRunID(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:])
}

// openJournal opens the journal to go on with, or creates the run's own. That
// of a rehearsal is thrown away: the hub it tells of is gone as well.
func (f *applyFlags) openJournal(env environment, hub *openedHub, plan *spec.Plan, pinned *preview.Pinned) (*record, error) {
	durability, err := parseDurability(f.durability)
	if err != nil {
		return nil, err
	}
	only, err := parseOnly(f.only)
	if err != nil {
		return nil, err
	}
	if len(only) > 0 && f.resume == "" {
		return nil, usageError("--only goes with --resume", "")
	}
	now := time.Now()
	r := &record{id: newRunID(now), began: now, only: only, pinned: pinned}
	r.inputs = inputs.Of(plan)
	if pinned != nil {
		r.inputs.Pinned = pinned.Sum()
	}
	if f.resume != "" {
		named, err := f.findRun(env, placeOf(hub, plan))
		if err != nil {
			return nil, err
		}
		r.path, r.shown = named.path, named.path
		return r, r.resume(named.id, hub, plan, durability)
	}
	if err := r.place(env, f.journal, hub, plan); err != nil {
		return nil, err
	}
	return r, r.create(hub, plan, durability)
}

// place says where the journal of a new run goes.
func (r *record) place(env environment, path string, hub *openedHub, plan *spec.Plan) error {
	r.path, r.shown = path, path
	if path != "" {
		return nil
	}
	if hub.emulated {
		dir, err := os.MkdirTemp("", "runner-")
		if err != nil {
			return &failure{code: exitInvalid, err: fmt.Errorf("create journal: %w", err)}
		}
		r.dir, r.path = dir, filepath.Join(dir, r.id+".ndjson")
		return nil
	}
	dir, err := stateDir(env, placeOf(hub, plan))
	if err != nil {
		return err
	}
	r.path, r.prune = filepath.Join(dir, r.id+".ndjson"), dir
	r.shown = r.path
	return nil
}

func (r *record) create(hub *openedHub, plan *spec.Plan, d journal.Durability) error {
	w, err := journal.Create(r.path, journal.Header{
		Run: r.id, Plan: plan.Name, File: plan.File, SHA256: plan.SHA256,
		Hubs: []string{hub.name}, Runner: version, StartedAt: r.began,
		Jobs: r.inputs.Jobs, Vars: r.inputs.Vars, Files: r.inputs.Files, Pinned: r.inputs.Pinned,
	}, d)
	if err != nil {
		return &failure{code: exitInvalid, err: err, hint: "name another file with --journal; nothing is sent without a journal"}
	}
	r.writer = w
	return nil
}

// resume opens the journal of an earlier run, which must have the id, if one is
// given. One that was never begun starts afresh: nothing can have been sent.
func (r *record) resume(id string, hub *openedHub, plan *spec.Plan, d journal.Durability) error {
	past := runner.NewPast()
	w, err := journal.Open(r.path, d, past.Visit)
	if errors.Is(err, journal.ErrEmpty) {
		return r.create(hub, plan, d)
	}
	if err != nil {
		return r.cannotResume(err)
	}
	err = past.Check(plan, []string{hub.name}, r.pinned)
	if id != "" && past.Header.Run != id {
		err = &otherRunError{path: r.path, have: past.Header.Run, want: id}
	}
	if err != nil {
		return otherPlan(errors.Join(err, w.Close()))
	}
	r.writer, r.past = w, past
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
	return &failure{code: exitMismatch, err: err, hint: "nothing was sent; " + hint + ", or start a new run without --resume"}
}

// cannotResume says why a file cannot be gone on with.
func (r *record) cannotResume(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &failure{
			code: exitInvalid, err: fmt.Errorf("--resume %q: no such file", r.path),
			hint: "an interrupted run says where its journal is; by default below $XDG_STATE_HOME/runner; --resume last takes the last one",
		}
	case errors.Is(err, journal.ErrInUse):
		return &failure{code: exitLocked, err: err, hint: "nothing was sent; wait for that run to end, or stop it"}
	case errors.Is(err, journal.ErrNotJournal):
		return &failure{code: exitInvalid, err: err, hint: "nothing was sent; --resume takes a journal, the id of a run, last, or the JSON report of a run whose journal is here"}
	}
	return &failure{code: exitMismatch, err: err, hint: "nothing was sent; a journal that is not whole cannot say which devices were reached"}
}

func (r *record) close() {
	_ = r.writer.Close() // what it could not write was reported when it could not
	if r.prune != "" {
		_, _ = journal.Prune(r.prune, keepJournals, keepFor, time.Now()) // old files that stay do no harm
	}
	switch {
	case r.dir != "" && !r.keep:
		_ = os.RemoveAll(r.dir) // a temporary folder; the system removes it otherwise
	case r.unused && r.past == nil:
		_ = os.Remove(r.path) // a journal of nothing says nothing
	}
}

// place is a plan on a hub: what journals and locks are kept for.
type place struct {
	hub, plan string
	emulated  bool // nothing is kept: the hub is gone with the process
}

func placeOf(hub *openedHub, plan *spec.Plan) place {
	return place{hub: hub.name, plan: plan.Name, emulated: hub.emulated}
}

// stateDir is where journals and locks of a plan on a hub are kept, and is made if
// it is not there.
func stateDir(env environment, at place) (string, error) {
	base, err := stateRoot(env)
	if err != nil {
		return "", noState(err)
	}
	dir := at.below(base)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", noState(err)
	}
	return dir, nil
}

func (at place) below(root string) string {
	return filepath.Join(root, strings.ReplaceAll(at.hub, ":", "_"), at.plan)
}

// stateRoot is the folder of --state-dir, or that of the user.
func stateRoot(env environment) (string, error) {
	if env.state != "" {
		return env.state, nil
	}
	if base := env.getenv("XDG_STATE_HOME"); base != "" {
		return filepath.Join(base, "runner"), nil
	}
	return homeState(env)
}

// homeState is the folder of the user, wherever else this run may keep its state.
func homeState(env environment) (string, error) {
	home := env.getenv("HOME")
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
	return &failure{
		code: exitInternal, err: fmt.Errorf("no place for journals and locks: %w", err),
		hint: "nothing was sent; name a folder that can be written, and that stays, with --state-dir",
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
	return 0, usageError(fmt.Sprintf("--durability %q: want always, batch or off", s), "")
}
