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
	"time"
)

// This file keeps a hub across restarts: one JSON object a line, first a head,
// then the devices that differ from the fleet file, then the jobs. The file is
// replaced as a whole, so that a crash leaves the state of the last save.

const (
	stateSchema = "runner/emulator-state/v1"
	// stateInterval is how much a crash can lose of a state that is quick to write.
	stateInterval = 15 * time.Second
)

type stateHead struct {
	Schema      string `json:"schema"`
	ClockOffset int64  `json:"clockOffset"` // emulated minus real time
	Born        int64  `json:"born"`        // when the fleet's own twins were made
}

// stateLine is any other line: a device or a job.
type stateLine struct {
	Device *stateDevice `json:"device,omitempty"`
	Job    *stateJob    `json:"job,omitempty"`
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
}

type stateTwin struct {
	ETag     uint64        `json:"etag"`
	Version  int64         `json:"version"`
	Tags     stateSection  `json:"tags"`
	Desired  stateSection  `json:"desired"`
	Reported stateSection  `json:"reported"`
	Due      int64         `json:"due,omitempty"` // when Pending is reported
	Pending  *stateSection `json:"pending,omitempty"`
}

type stateSection struct {
	Raw       json.RawMessage `json:"raw,omitempty"`
	Stamps    [][2]int64      `json:"stamps,omitempty"`
	Version   int64           `json:"version,omitempty"`
	Inherited bool            `json:"inherited,omitempty"`
}

// saveState writes the whole state.
func (s *Server) saveState() error {
	file := s.opts.StateFile
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	w := bufio.NewWriterSize(tmp, 1<<16)
	err = errors.Join(s.writeState(w), w.Flush(), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save the state in %q: %w", file, err), os.Remove(tmp.Name()))
	}
	return nil
}

func (s *Server) writeState(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // values come back byte for byte
	if err := enc.Encode(stateHead{Schema: stateSchema, ClockOffset: s.clock.offset.Load(), Born: s.store.born.UnixNano()}); err != nil {
		return err
	}
	for n := range s.store.slots() {
		p := s.store.peek(n)
		if p == nil {
			continue
		}
		d, ok := s.store.keep(n, p)
		if !ok {
			continue
		}
		if err := enc.Encode(stateLine{Device: d}); err != nil {
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

// keep returns what there is to keep of a slot, if there is anything.
func (s *store) keep(n int, p *slot) (*stateDevice, bool) {
	rec := p.record.Load()
	d := &stateDevice{Methods: p.methods.Load(), Patches: p.patches.Load()}
	switch {
	case rec == nil && (n >= s.fleetLen || d.Methods == 0 && d.Patches == 0):
		return nil, false
	case rec == nil:
		d.ID = s.fleet.ID(n)
		return d, true
	case rec.deleted && n >= s.fleetLen:
		return nil, false
	case rec.deleted:
		return &stateDevice{ID: s.fleet.ID(n), Deleted: true}, true
	}
	d.ID, d.Added = rec.id, rec.id != ""
	if !d.Added {
		d.ID = s.fleet.ID(n)
	}
	d.Identity, d.Own = keepIdentity(rec.ident), rec.own
	t := keepTwin(rec.twin)
	d.Twin = &t
	for _, m := range rec.modules {
		d.Modules = append(d.Modules, stateModule{ID: m.id, ManagedBy: m.managedBy, Identity: keepIdentity(m.ident), Twin: keepTwin(m.twin)})
	}
	return d, true
}

func keepIdentity(i *identity) *stateIdentity {
	if i == nil {
		return nil
	}
	return &stateIdentity{
		Generation: i.generation, ETag: i.etag, Disabled: i.disabled, Reason: i.reason, StatusAt: i.statusAt, Auth: i.auth.String(),
		Primary: i.primary, Secondary: i.secondary, Edge: i.edge, Scope: i.scope, Parents: i.parents,
	}
}

func keepTwin(t twin) stateTwin {
	kept := stateTwin{
		ETag: t.etag, Version: t.version,
		Tags: keepSection(t.tags), Desired: keepSection(t.desired), Reported: keepSection(t.reported),
	}
	if t.pending != nil {
		p := keepSection(t.pending.reported)
		kept.Due, kept.Pending = t.pending.due, &p
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

// loadState reads the file, if there is one, into a hub that nobody uses yet.
func (s *Server) loadState() error {
	f, err := os.Open(s.opts.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<16))
	var head stateHead
	if err := dec.Decode(&head); err != nil || head.Schema != stateSchema {
		return fmt.Errorf("read the state in %q: want a file of schema %s", s.opts.StateFile, stateSchema)
	}
	s.clock.offset.Store(head.ClockOffset)
	s.store.bear(time.Unix(0, head.Born))
	for n := 2; ; n++ {
		var line stateLine
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.restore(line)
		}
		if err != nil {
			return fmt.Errorf("read the state in %q: entry %d: %w", s.opts.StateFile, n, err)
		}
	}
}

func (s *Server) restore(line stateLine) error {
	switch {
	case line.Device != nil:
		return s.store.restore(line.Device, s.clock.now())
	case line.Job != nil:
		return s.restoreJob(line.Job)
	}
	return errors.New("want a device or a job")
}

// restore puts a device back. A device that the fleet file described then and
// no longer does becomes one that was registered.
func (s *store) restore(d *stateDevice, now time.Time) error {
	n, described := -1, false
	if s.fleetLen > 0 {
		n, described = s.fleet.Index(d.ID)
	}
	if d.Deleted || d.Twin == nil {
		if described {
			if d.Deleted {
				s.swap(n, s.gone, now)
			}
			s.slot(n).methods.Store(d.Methods)
			s.slot(n).patches.Store(d.Patches)
		}
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
	if described {
		s.swap(n, rec, now)
	} else {
		made, refusal := s.create(d.ID, rec, now)
		if refusal != nil {
			return fmt.Errorf("device %q: %w", d.ID, refusal)
		}
		n = made.slot
	}
	s.slot(n).methods.Store(d.Methods)
	s.slot(n).patches.Store(d.Patches)
	return nil
}

func (i *stateIdentity) identity() *identity {
	if i == nil {
		return nil
	}
	auth, _ := parseAuth(i.Auth)
	return &identity{
		generation: i.Generation, etag: i.ETag, disabled: i.Disabled, reason: i.Reason, statusAt: i.StatusAt, auth: auth,
		primary: i.Primary, secondary: i.Secondary, edge: i.Edge, scope: i.Scope, parents: i.Parents,
	}
}

// twin returns what was kept. Sections that the fleet file gave are empty when
// it gives them no more.
func (t *stateTwin) twin(described bool) twin {
	made := twin{
		etag: t.ETag, version: t.Version,
		tags: t.Tags.section(described), desired: t.Desired.section(described), reported: t.Reported.section(described),
	}
	if t.Pending != nil {
		made.pending = &pending{due: t.Due, reported: t.Pending.section(described)}
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

// keepSaving saves now and then what has changed, until the hub closes.
func (s *Server) keepSaving() {
	ticker := time.NewTicker(stateInterval)
	defer ticker.Stop()
	saved := s.changes()
	for {
		select {
		case <-s.life.Done():
			return
		case <-ticker.C:
		}
		if now := s.changes(); now != saved {
			began := time.Now()
			if err := s.saveState(); err != nil {
				// The next save, or the one at the end, may do better.
				s.log.Error("the state was not saved", "error", err)
				continue
			}
			saved = now
			// A large state takes seconds to write; that must not be all it does.
			ticker.Reset(max(stateInterval, 10*time.Since(began)))
		}
	}
}

// changes grows with every write to a device and every step of a job. Counts
// of calls alone are not worth a save before the end.
func (s *Server) changes() uint64 { return s.store.swaps.Load() + s.worked.Load() }
