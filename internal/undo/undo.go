// Package undo works out of the report or the journal of a run what puts the twins
// that it changed back to where they were.
package undo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// Options say which changes to undo.
type Options struct {
	Jobs []string       // of these jobs; empty for all
	Only []spec.Outcome // of rows that ended so; empty for all that were accepted
	Hub  string         // on this hub; needed for a run on several
}

// Undo is what restores the twins of a run.
type Undo struct {
	Run, Plan, Hub string
	InDoubt        int // twins whose patch may have been accepted: nobody knows
	Hidden         int // twins whose values of before are secrets, which are nowhere

	changes map[target]*change
	desired bool // there are desired properties to restore
	tags    bool
}

// target is a device, or a module of one.
type target struct{ device, module string }

// change is what a run did to one twin, patch after patch.
type change struct {
	patches []patch
	doubt   bool
}

// patch is one that the hub accepted.
type patch struct {
	version int64 // of the twin after it
	etag    string
	before  spec.Sections
}

// Errors of what is asked for.
var (
	ErrNothing = errors.New("the run changed no twin that could be restored")
	errNoRun   = errors.New("it is neither a report nor a journal of a run")
)

// NoJobError means that the run has no job of this name.
type NoJobError struct {
	Job  string
	Have []string
}

// HubsError means that it has to be said on which hub the changes are to be undone.
type HubsError struct {
	Hub  string // that was asked for; empty if none was
	Have []string
}

// Error names it.
func (e *HubsError) Error() string {
	if e.Hub == "" {
		return fmt.Sprintf("the run was on %d hubs, and a plan that undoes it is for one", len(e.Have))
	}
	return fmt.Sprintf("the run was not on hub %s", e.Hub)
}

// Error names it.
func (e *NoJobError) Error() string { return fmt.Sprintf("the run has no job %q", e.Job) }

// Read reads the report or the journal of a run, which may still be going on or
// have been killed.
func Read(path string, o Options) (*Undo, error) {
	path, err := journal.Lookup(path)
	if err != nil {
		return nil, err
	}
	f, err := journal.OpenRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	u := &Undo{changes: map[target]*change{}}
	r := reader{Undo: u, options: o}
	if err = r.report(f); errors.Is(err, spec.ErrNotReport) {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			err = r.journal(f)
		}
	}
	if err != nil {
		return nil, err
	}
	for _, name := range o.Jobs {
		if !slices.Contains(r.jobs, name) {
			return nil, &NoJobError{Job: name, Have: r.jobs}
		}
	}
	u.finish()
	return u, nil
}

// reader takes in rows, wherever they come from.
type reader struct {
	*Undo
	options Options
	jobs    []string // that there are
	hub     int      // that is meant, among those of the run
}

// on notes on which hubs the run was, and on which it is to be undone.
func (r *reader) on(hubs []string) error {
	r.hub = slices.IndexFunc(hubs, func(h string) bool {
		return len(hubs) == 1 && r.options.Hub == "" || strings.EqualFold(h, r.options.Hub)
	})
	if r.hub < 0 {
		return &HubsError{Hub: r.options.Hub, Have: hubs}
	}
	r.Hub = hubs[r.hub]
	return nil
}

// here tells whether a target is on the hub that is meant.
func (r *reader) here(t journal.Target) bool { return t.Hub == r.hub }

func (r *reader) job(name string) (wanted bool) {
	if !slices.Contains(r.jobs, name) {
		r.jobs = append(r.jobs, name)
	}
	return len(r.options.Jobs) == 0 || slices.Contains(r.options.Jobs, name)
}

func (r *reader) report(in io.Reader) error {
	rep, err := spec.NewReportReader(in)
	if err != nil {
		return err
	}
	r.Run, r.Plan = rep.Run.ID, rep.Run.Plan.Name
	if err := r.on(strings.Split(rep.Run.Hub, ", ")); err != nil {
		return err
	}
	for {
		job, err := rep.Job()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		wanted := r.job(job.Name)
		for {
			row, err := rep.Row()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if wanted && (row.Hub == "" || row.Hub == r.Hub) {
				r.row(row)
			}
		}
	}
}

// journal reads what a run wrote down: of a twin that was patched more than once,
// every patch.
func (r *reader) journal(in io.Reader) error {
	open := map[target]bool{} // patches whose answer is not written down
	_, err := journal.Replay(in, func(_ journal.Position, rec journal.Record) error {
		switch rec := rec.(type) {
		case journal.Header:
			r.Run, r.Plan = rec.Run, rec.Plan
			return r.on(rec.Hubs)
		case journal.Intent:
			if !r.here(rec.Target) {
				return nil
			}
			if r.job(rec.Job) && len(rec.Patch) > 0 {
				open[target{rec.Target.Device, rec.Target.Module}] = true
			}
		case journal.Result:
			if !r.here(rec.Target) {
				return nil
			}
			if !r.job(rec.Job) || !gjson.GetBytes(rec.Row, "twin").Exists() && !open[target{rec.Target.Device, rec.Target.Module}] {
				return nil
			}
			row := &spec.Row{}
			if err := json.Unmarshal(rec.Row, row); err != nil {
				return fmt.Errorf("read journal: the row of %q: %w", rec.Target.Device, err)
			}
			delete(open, target{row.DeviceID, row.ModuleID})
			r.row(row)
		}
		return nil
	})
	for t := range open {
		r.of(t).doubt = true
	}
	if err != nil || r.Run == "" {
		return cmp.Or(err, errNoRun)
	}
	return nil
}

func (r *reader) of(t target) *change {
	c := r.changes[t]
	if c == nil {
		c = &change{}
		r.changes[t] = c
	}
	return c
}

// row takes in what a row says of its twin.
func (r *reader) row(row *spec.Row) {
	t := row.Twin
	switch {
	case t == nil || t.Patch == nil:
		return
	case len(r.options.Only) > 0 && !slices.Contains(r.options.Only, row.Outcome):
		return
	}
	c := r.of(target{row.DeviceID, row.ModuleID})
	accepted := row.Outcome == spec.OutcomeSucceeded || row.Outcome == spec.OutcomeUnconfirmed
	c.doubt = !accepted
	if !accepted || t.Before == nil || t.ETag == "" || slices.ContainsFunc(c.patches, func(p patch) bool { return p.etag == t.ETag }) {
		return
	}
	c.patches = append(c.patches, patch{version: t.Version, etag: t.ETag, before: *t.Before})
}

// finish drops what cannot be restored, and counts it.
func (u *Undo) finish() {
	for t, c := range u.changes {
		slices.SortFunc(c.patches, func(a, b patch) int { return cmp.Compare(a.version, b.version) })
		row := c.row(t)
		switch {
		case c.doubt:
			u.InDoubt++
		case len(c.patches) > 0 && hidden(row):
			u.Hidden++
		case len(c.patches) > 0:
			u.desired, u.tags = u.desired || len(row.Desired) > len("{}"), u.tags || len(row.Tags) > len("{}")
			continue
		}
		delete(u.changes, t)
	}
}

// hidden tells whether values of before are not written down.
func hidden(r row) bool {
	return bytes.Contains(r.Desired, []byte(`"***`)) || bytes.Contains(r.Tags, []byte(`"***`))
}

// Twins is how many can be restored.
func (u *Undo) Twins() int { return len(u.changes) }

// row is a line of the file with the values of before.
type row struct {
	DeviceID string          `json:"deviceId"`
	ModuleID string          `json:"moduleId,omitempty"`
	Desired  json.RawMessage `json:"desired"`
	Tags     json.RawMessage `json:"tags"`
	ETag     string          `json:"etag"`
}

// row is what restores a twin: of each key its value before the first patch that
// changed it, and the etag that the last patch left.
func (c *change) row(t target) row {
	r := row{DeviceID: t.device, ModuleID: t.module, Desired: json.RawMessage("{}"), Tags: json.RawMessage("{}")}
	for _, p := range c.patches {
		r.Desired, r.Tags = under(r.Desired, p.before.Desired), under(r.Tags, p.before.Tags)
		r.ETag = p.etag
	}
	return r
}

// under adds the keys of more to first, where first has none. Objects in both are
// merged: they hold the keys that patches have changed.
func under(first, more json.RawMessage) json.RawMessage {
	if len(more) == 0 {
		return first
	}
	a, b := gjson.ParseBytes(first), gjson.ParseBytes(more)
	out := []byte{'{'}
	add := func(key string, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, key...), ':'), value...)
	}
	have := map[string]bool{}
	a.ForEach(func(key, value gjson.Result) bool {
		have[key.Str] = true
		other := lookup(b, key.Str)
		if value.IsObject() && other.IsObject() {
			add(key.Raw, under([]byte(value.Raw), []byte(other.Raw)))
		} else {
			add(key.Raw, []byte(value.Raw))
		}
		return true
	})
	b.ForEach(func(key, value gjson.Result) bool {
		if !have[key.Str] {
			add(key.Raw, []byte(value.Raw))
		}
		return true
	})
	return append(out, '}')
}

func lookup(object gjson.Result, key string) (found gjson.Result) {
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == key {
			found = v
		}
		return k.Str != key
	})
	return found
}

// WriteRows writes the values of before, a line a twin, in the order of their ids.
func (u *Undo) WriteRows(w io.Writer) error {
	targets := make([]target, 0, len(u.changes))
	for t := range u.changes {
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.device, b.device), cmp.Compare(a.module, b.module))
	})
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for _, t := range targets {
		if err := out.Encode(u.changes[t].row(t)); err != nil {
			return err
		}
	}
	return nil
}

// Name is that of the plan.
func (u *Undo) Name() string {
	const most = 64
	name := "undo-" + u.Plan
	return name[:min(len(name), most)]
}

// WritePlan writes the plan that applies the rows, which stand in the file of this
// name beside it.
func (u *Undo) WritePlan(w io.Writer, rows string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Puts back what run %s of plan %s changed. A twin that was changed since is left alone.\n", u.Run, u.Plan)
	fmt.Fprintf(&b, "version: 1\nname: %s\nhub: {hostName: %q}\njobs:\n", u.Name(), u.Hub)
	fmt.Fprintf(&b, "  - name: undo\n    type: updateTwin\n    target: {devicesFile: %q}\n", rows)
	if u.desired {
		fmt.Fprint(&b, "    desired: ${row.desired}\n")
	}
	if u.tags {
		fmt.Fprint(&b, "    tags: ${row.tags}\n")
	}
	fmt.Fprint(&b, "    guard: recorded\n")
	_, err := w.Write(b.Bytes())
	return err
}
