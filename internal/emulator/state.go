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
	Device *stateDevice `json:"device,omitempty"`
	Mail   *stateMail   `json:"mail,omitempty"`
	Job    *stateJob    `json:"job,omitempty"`
	Step   *stateStep   `json:"step,omitempty"`  // of a job
	Clock  *int64       `json:"clock,omitempty"` // its offset
}

type stateDevice struct {
	ID       string         `json:"id"`
	Deleted  bool           `json:"deleted,omitempty"`
	Added    bool           `json:"added,omitempty"` // registered, not described by the fleet file
	Identity *stateIdentity `json:"identity,omitempty"`
	Twin     *stateTwin     `json:"twin,omitempty"`
	Own      bool           `json:"own,omitempty"` // Modules are all there are
	Modules  []stateModule  `json:"modules,omitempty"`
	Methods  uint32         `json:"methods,omitempty"`
	Patches  uint32         `json:"patches,omitempty"`

	// Activity is when the device and its modules were last heard of, and when
	// their connections last began or ended.
	Activity map[string][2]int64 `json:"activity,omitempty"`
}

type stateModule struct {
	ID        string         `json:"id"`
	ManagedBy string         `json:"managedBy,omitempty"`
	Identity  *stateIdentity `json:"identity,omitempty"`
	Twin      stateTwin      `json:"twin"`
}

type stateIdentity struct {
	Generation string   `json:"generation"`
	ETag       string   `json:"etag"`
	Disabled   bool     `json:"disabled,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	StatusAt   int64    `json:"statusAt,omitempty"`
	Auth       string   `json:"auth"`
	Primary    string   `json:"primary,omitempty"`
	Secondary  string   `json:"secondary,omitempty"`
	Edge       bool     `json:"edge,omitempty"`
	Scope      string   `json:"scope,omitempty"`
	Parents    []string `json:"parents,omitempty"`

	Attributes json.RawMessage `json:"attributes,omitempty"`
}

type stateTwin struct {
	ETag     uint64        `json:"etag"`
	Version  int64         `json:"version"`
	Tags     stateSection  `json:"tags"`
	Desired  stateSection  `json:"desired"`
	Reported stateSection  `json:"reported"`
	Reports  []stateReport `json:"reports,omitempty"` // that are pending
}

type stateReport struct {
	Due   int64           `json:"due"`
	Patch json.RawMessage `json:"patch"`
}

type stateSection struct {
	Raw       json.RawMessage `json:"raw,omitempty"`
	Stamps    [][2]int64      `json:"stamps,omitempty"`
	Version   int64           `json:"version,omitempty"`
	Inherited bool            `json:"inherited,omitempty"`
}

// saveState writes the whole state, and begins another log.
func (s *Server) saveState() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	file := s.opts.StateFile
	number, err := s.stateLog.turn()
	if err != nil {
		// The old log's lines are in what is written now.
		s.log.Warn("the log of the state did not close", "error", err)
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
	if err := enc.Encode(stateHead{Schema: stateSchema, ClockOffset: s.clock.offset.Load(), Born: s.store.born.UnixNano(), Log: number}); err != nil {
		return err
	}
	for n := range s.store.slots() {
		d, ok := s.store.keep(n)
		if !ok {
			continue
		}
		if err := enc.Encode(stateLine{Device: d}); err != nil {
			return err
		}
	}
	for _, m := range s.front.mail.keep() {
		if err := enc.Encode(stateLine{Mail: m}); err != nil {
			return err
		}
	}
	for _, j := range s.schedules.since(0) {
		if err := enc.Encode(stateLine{Job: j.keep()}); err != nil {
			return err
		}
	}
	return nil
}

// keep returns what there is to keep of a slot, if there is anything. It waits
// for a write that stands in an old log already and not yet in the slot.
func (s *store) keep(n int) (*stateDevice, bool) {
	p := s.peek(n)
	if p == nil {
		return nil, false
	}
	lock := s.lock(n)
	lock.Lock()
	rec := p.record.Load()
	lock.Unlock()
	if n >= s.fleetLen && (rec == nil || rec.deleted) {
		return nil, false
	}
	d := s.kept(n, rec, rec)
	return d, rec != nil || n < s.fleetLen && (d.Methods > 0 || d.Patches > 0 || d.Activity != nil)
}

// kept returns what there is to keep of a slot that holds rec after before.
func (s *store) kept(n int, rec, before *record) *stateDevice {
	p := s.slot(n)
	d := &stateDevice{Methods: p.methods.Load(), Patches: p.patches.Load(), Activity: keepActivity(p.activities())}
	switch {
	case n < s.fleetLen:
		d.ID = s.fleet.ID(n)
	case rec.deleted:
		d.ID = before.id
	default:
		d.ID, d.Added = rec.id, true
	}
	switch {
	case rec == nil:
		return d
	case rec.deleted:
		return &stateDevice{ID: d.ID, Deleted: true}
	}
	d.Added = rec.id != ""
	d.Identity, d.Own = keepIdentity(rec.ident), rec.own
	t := keepTwin(rec.twin)
	d.Twin = &t
	for _, m := range rec.modules {
		d.Modules = append(d.Modules, stateModule{ID: m.id, ManagedBy: m.managedBy, Identity: keepIdentity(m.ident), Twin: keepTwin(m.twin)})
	}
	return d
}

func keepActivity(all map[string]activity) map[string][2]int64 {
	if len(all) == 0 {
		return nil
	}
	kept := map[string][2]int64{}
	for module, a := range all {
		kept[module] = [2]int64{a.heard, a.turned}
	}
	return kept
}

// restoreCounts puts back what is counted and noted of a device beside its
// record.
func (p *slot) restoreCounts(d *stateDevice) {
	p.methods.Store(d.Methods)
	p.patches.Store(d.Patches)
	for module, at := range d.Activity {
		p.ofLine().change(module, func(a *activity) { *a = activity{heard: at[0], turned: at[1]} })
	}
}

func keepIdentity(i *identity) *stateIdentity {
	if i == nil {
		return nil
	}
	return &stateIdentity{
		Generation: i.generation, ETag: i.etag, Disabled: i.disabled, Reason: i.reason, StatusAt: i.statusAt, Auth: i.auth.String(),
		Primary: i.primary, Secondary: i.secondary, Edge: i.edge, Scope: i.scope, Parents: i.parents, Attributes: json.RawMessage(i.attributes),
	}
}

func keepTwin(t twin) stateTwin {
	kept := stateTwin{
		ETag: t.etag, Version: t.version,
		Tags: keepSection(t.tags), Desired: keepSection(t.desired), Reported: keepSection(t.reported),
	}
	if t.pending != nil {
		for _, r := range t.pending.reports {
			kept.Reports = append(kept.Reports, stateReport{Due: r.due, Patch: json.RawMessage(r.patch)})
		}
	}
	return kept
}

func keepSection(s section) stateSection {
	kept := stateSection{Version: s.version, Inherited: s.inherited}
	if s.raw != "" {
		kept.Raw = json.RawMessage(s.raw)
	}
	for _, at := range s.stamps {
		kept.Stamps = append(kept.Stamps, [2]int64{at.at, at.version})
	}
	return kept
}

// loadState reads the file, if there is one, and its logs into a hub that
// nobody uses yet. From then on the hub keeps what changes.
func (s *Server) loadState() error {
	if err := s.lockState(); err != nil {
		return err
	}
	l := &stateLog{stateFile: s.opts.StateFile, log: s.log}
	jobs := keptJobs{}
	head, err := s.readState(&jobs)
	if err == nil {
		err = l.replay(head.Log, func(line stateLine) error { return s.restore(line, &jobs) })
	}
	if err == nil {
		err = errors.Join(l.forget(head.Log), s.removeUnfinished())
	}
	if err != nil {
		return err
	}
	s.front.mail.keepOnly(func(id string) bool {
		_, known := s.store.find(id)
		return known
	})
	s.stateLog, s.store.log, s.front.mail.log, s.clock.log = l, l, l, l
	return s.restoreJobs(&jobs) // which may go on at once
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

func (s *Server) readState(jobs *keptJobs) (stateHead, error) {
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
	s.clock.offset.Store(head.ClockOffset)
	s.store.bear(time.Unix(0, head.Born))
	for n := 2; ; n++ {
		var line stateLine
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return head, nil
		}
		if err == nil {
			err = s.restore(line, jobs)
		}
		if err != nil {
			return head, fmt.Errorf("read the state in %q: entry %d: %w", s.opts.StateFile, n, err)
		}
	}
}

// firstState writes a state file that says when this hub began.
func (s *Server) firstState() error {
	src, err := json.Marshal(stateHead{Schema: stateSchema, Born: s.store.born.UnixNano()})
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	return writeSecret(s.opts.StateFile, append(src, '\n'))
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
func (s *Server) restore(line stateLine, jobs *keptJobs) error {
	switch {
	case line.Device != nil:
		if line.Device.Deleted {
			s.front.mail.forget(line.Device.ID)
		}
		return s.store.restore(line.Device, s.clock.now())
	case line.Mail != nil:
		return s.front.mail.restore(line.Mail)
	case line.Job != nil:
		jobs.take(line.Job)
		return nil
	case line.Step != nil:
		return jobs.step(line.Step)
	case line.Clock != nil:
		s.clock.offset.Store(*line.Clock)
		return nil
	}
	return errors.New("want a device, a message, a job or the clock")
}

// restore puts a device back. A device that the fleet file described then and
// no longer does becomes one that was registered.
func (s *store) restore(d *stateDevice, now time.Time) error {
	n, described := -1, false
	if s.fleetLen > 0 {
		n, described = s.fleet.Index(d.ID)
	}
	if d.Deleted || d.Twin == nil {
		s.restoreBare(d, n, described, now)
		return nil
	}
	if !validID(d.ID) {
		return fmt.Errorf("device %q: not an id", d.ID)
	}
	rec := &record{ident: d.Identity.identity(), twin: d.Twin.twin(described), own: d.Own}
	for _, m := range d.Modules {
		rec.modules = append(rec.modules, &module{id: m.ID, managedBy: m.ManagedBy, ident: m.Identity.identity(), twin: m.Twin.twin(described)})
	}
	if d.Added || !described {
		rec.id = d.ID
	}
	known, there := s.find(d.ID)
	switch {
	case described:
		s.swap(n, rec, now)
	case there:
		n = known.slot
		s.swap(n, rec, now)
	default:
		made, refusal := s.create(d.ID, rec, now)
		if refusal != nil {
			return fmt.Errorf("device %q: %w", d.ID, refusal)
		}
		n = made.slot
	}
	s.slot(n).restoreCounts(d)
	return nil
}

// restoreBare puts back what is kept of a device that was deleted, or only
// called.
func (s *store) restoreBare(d *stateDevice, n int, described bool, now time.Time) {
	if known, there := s.find(d.ID); there && !described {
		n = known.slot
	}
	switch {
	case n < 0:
		return
	case d.Deleted && described:
		s.swap(n, s.gone, now)
	case d.Deleted:
		_, _ = s.remove(d.ID, now, func(device) *apiError { return nil }) // it is there
	}
	s.slot(n).restoreCounts(d)
}

// noteCounts keeps the counts of the devices that were called since it did so
// last. Doing it with every call would cost more than the call.
func (s *store) noteCounts() {
	s.mu.Lock()
	called := s.called
	s.called = nil
	s.mu.Unlock()
	for _, n := range called {
		p := s.slot(n)
		p.called.Store(false) // first: a call from now on is for the next time
		if d, ok := s.at(n); ok {
			s.log.note(stateLine{Device: &stateDevice{ID: d.id, Methods: p.methods.Load(), Patches: p.patches.Load()}})
		}
	}
}

func (i *stateIdentity) identity() *identity {
	if i == nil {
		return nil
	}
	auth, _ := parseAuth(i.Auth)
	return &identity{
		generation: i.Generation, etag: i.ETag, disabled: i.Disabled, reason: i.Reason, statusAt: i.StatusAt, auth: auth,
		primary: i.Primary, secondary: i.Secondary, edge: i.Edge, scope: i.Scope, parents: i.Parents, attributes: string(i.Attributes),
	}
}

// twin returns what was kept. Sections that the fleet file gave are empty when
// it gives them no more.
func (t *stateTwin) twin(described bool) twin {
	made := twin{
		etag: t.ETag, version: t.Version,
		tags: t.Tags.section(described), desired: t.Desired.section(described), reported: t.Reported.section(described),
	}
	for _, r := range t.Reports {
		made.pending = made.pending.and(report{due: r.Due, patch: string(r.Patch)})
	}
	return made
}

func (k *stateSection) section(described bool) section {
	s := section{raw: string(k.Raw), version: k.Version, inherited: k.Inherited && described}
	for _, at := range k.Stamps {
		s.stamps = append(s.stamps, stamp{at: at[0], version: at[1]})
	}
	return s
}

// keepSaving brings what changes to the disk, and saves the whole state when
// the log has grown large, until the hub closes.
func (s *Server) keepSaving() {
	ticker := time.NewTicker(stateSync)
	defer ticker.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-ticker.C:
		}
		s.store.noteCounts()
		err := s.stateLog.sync()
		if s.stateLog.due(s.stateSize.Load()) {
			err = errors.Join(err, s.saveState())
		}
		if err != nil {
			// The next save, or the one at the end, may do better.
			s.log.Error("the state was not saved", "error", err)
		}
	}
}
