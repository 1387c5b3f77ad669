package store

import (
	"encoding/json"
	"fmt"
	"time"

	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/twindoc"
)

// Kept is a device as the state file has it.
type Kept struct {
	ID       string        `json:"id"`
	Deleted  bool          `json:"deleted,omitempty"`
	Added    bool          `json:"added,omitempty"` // registered, not described by the fleet file
	Identity *KeptIdentity `json:"identity,omitempty"`
	Twin     *KeptTwin     `json:"twin,omitempty"`
	Own      bool          `json:"own,omitempty"` // Modules are all there are
	Modules  []KeptModule  `json:"modules,omitempty"`
	Methods  uint32        `json:"methods,omitempty"`
	Patches  uint32        `json:"patches,omitempty"`

	// Activity is when the device and its modules were last heard of, and when
	// their connections last began or ended.
	Activity map[string][2]int64 `json:"activity,omitempty"`
}

// KeptModule is a module there.
type KeptModule struct {
	ID        string        `json:"id"`
	ManagedBy string        `json:"managedBy,omitempty"`
	Identity  *KeptIdentity `json:"identity,omitempty"`
	Twin      KeptTwin      `json:"twin"`
}

// KeptIdentity is what was written of an identity.
type KeptIdentity struct {
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

// KeptTwin is a twin there.
type KeptTwin struct {
	ETag     uint64       `json:"etag"`
	Version  int64        `json:"version"`
	Tags     KeptSection  `json:"tags"`
	Desired  KeptSection  `json:"desired"`
	Reported KeptSection  `json:"reported"`
	Reports  []KeptReport `json:"reports,omitempty"` // that are pending
}

// KeptReport is what a simulated device is going to report.
type KeptReport struct {
	Due   int64           `json:"due"`
	Patch json.RawMessage `json:"patch"`
}

// KeptSection is one section of a twin.
type KeptSection struct {
	Raw       json.RawMessage `json:"raw,omitempty"`
	Stamps    [][2]int64      `json:"stamps,omitempty"`
	Version   int64           `json:"version,omitempty"`
	Inherited bool            `json:"inherited,omitempty"`
}

// Keep returns what there is to keep of a slot, if there is anything. It waits
// for a write that stands in an old log already and not yet in the slot.
func (s *Store) Keep(n int) (*Kept, bool) {
	p := s.Peek(n)
	if p == nil {
		return nil, false
	}
	lock := s.lock(n)
	lock.Lock()
	rec := p.record.Load()
	lock.Unlock()
	if n >= s.FleetLen && (rec == nil || rec.deleted) {
		return nil, false
	}
	d := s.kept(n, rec, rec)
	return d, rec != nil || n < s.FleetLen && (d.Methods > 0 || d.Patches > 0 || d.Activity != nil)
}

// kept returns what there is to keep of a slot that holds rec after before.
func (s *Store) kept(n int, rec, before *Record) *Kept {
	p := s.Slot(n)
	d := &Kept{Methods: p.Methods.Load(), Patches: p.Patches.Load(), Activity: keepActivity(p.activities())}
	switch {
	case n < s.FleetLen:
		d.ID = s.Fleet.ID(n)
	case rec.deleted:
		d.ID = before.ID
	default:
		d.ID, d.Added = rec.ID, true
	}
	switch {
	case rec == nil:
		return d
	case rec.deleted:
		return &Kept{ID: d.ID, Deleted: true}
	}
	d.Added = rec.ID != ""
	d.Identity, d.Own = keepIdentity(rec.Ident), rec.Own
	t := keepTwin(rec.Twin)
	d.Twin = &t
	for _, m := range rec.Modules {
		d.Modules = append(d.Modules, KeptModule{ID: m.ID, ManagedBy: m.ManagedBy, Identity: keepIdentity(m.Ident), Twin: keepTwin(m.Twin)})
	}
	return d
}

func keepActivity(all map[string]activity) map[string][2]int64 {
	if len(all) == 0 {
		return nil
	}
	kept := map[string][2]int64{}
	for module, a := range all {
		kept[module] = [2]int64{a.Heard, a.Turned}
	}
	return kept
}

// restoreCounts puts back what is counted and noted of a device beside its
// record.
func (p *Slot) restoreCounts(d *Kept) {
	p.Methods.Store(d.Methods)
	p.Patches.Store(d.Patches)
	for module, at := range d.Activity {
		p.ofLine().change(module, func(a *activity) { *a = activity{Heard: at[0], Turned: at[1]} })
	}
}

func keepIdentity(i *Identity) *KeptIdentity {
	if i == nil {
		return nil
	}
	return &KeptIdentity{
		Generation: i.Generation, ETag: i.Etag, Disabled: i.Disabled, Reason: i.Reason, StatusAt: i.StatusAt, Auth: i.Auth.String(),
		Primary: i.Primary, Secondary: i.Secondary, Edge: i.Edge, Scope: i.Scope, Parents: i.Parents, Attributes: json.RawMessage(i.attributes),
	}
}

func keepTwin(t twindoc.Twin) KeptTwin {
	kept := KeptTwin{
		ETag: t.ETag, Version: t.Version,
		Tags: keepSection(t.Tags), Desired: keepSection(t.Desired), Reported: keepSection(t.Reported),
	}
	if t.Pending != nil {
		for _, r := range t.Pending.Reports {
			kept.Reports = append(kept.Reports, KeptReport{Due: r.Due, Patch: json.RawMessage(r.Patch)})
		}
	}
	return kept
}

func keepSection(s twindoc.Section) KeptSection {
	kept := KeptSection{Version: s.Version, Inherited: s.Inherited}
	if s.Raw != "" {
		kept.Raw = json.RawMessage(s.Raw)
	}
	for _, at := range s.Stamps {
		kept.Stamps = append(kept.Stamps, [2]int64{at.At, at.Version})
	}
	return kept
}

// Restore puts a device back. A device that the fleet file described then and
// no longer does becomes one that was registered.
func (s *Store) Restore(d *Kept, now time.Time) error {
	n, described := -1, false
	if s.FleetLen > 0 {
		n, described = s.Fleet.Index(d.ID)
	}
	if d.Deleted || d.Twin == nil {
		s.restoreBare(d, n, described, now)
		return nil
	}
	if !ValidID(d.ID) {
		return fmt.Errorf("device %q: not an id", d.ID)
	}
	rec := &Record{Ident: d.Identity.identity(), Twin: d.Twin.Twin(described), Own: d.Own}
	for _, m := range d.Modules {
		rec.Modules = append(rec.Modules, &Module{ID: m.ID, ManagedBy: m.ManagedBy, Ident: m.Identity.identity(), Twin: m.Twin.Twin(described)})
	}
	if d.Added || !described {
		rec.ID = d.ID
	}
	known, there := s.Find(d.ID)
	switch {
	case described:
		s.swap(n, rec, now)
	case there:
		n = known.Slot
		s.swap(n, rec, now)
	default:
		made, refusal := s.Create(d.ID, rec, now)
		if refusal != nil {
			return fmt.Errorf("device %q: %w", d.ID, refusal)
		}
		n = made.Slot
	}
	s.Slot(n).restoreCounts(d)
	return nil
}

// restoreBare puts back what is kept of a device that was deleted, or only
// called.
func (s *Store) restoreBare(d *Kept, n int, described bool, now time.Time) {
	if known, there := s.Find(d.ID); there && !described {
		n = known.Slot
	}
	switch {
	case n < 0:
		return
	case d.Deleted && described:
		s.swap(n, s.gone, now)
	case d.Deleted:
		_, _ = s.Remove(d.ID, now, func(Device) *refuse.Error { return nil }) // it is there
	}
	s.Slot(n).restoreCounts(d)
}

// NoteCounts keeps the counts of the devices that were called since it did so
// last. Doing it with every call would cost more than the call.
func (s *Store) NoteCounts() {
	s.mu.Lock()
	called := s.called
	s.called = nil
	s.mu.Unlock()
	for _, n := range called {
		p := s.Slot(n)
		p.called.Store(false) // first: a call from now on is for the next time
		if d, ok := s.At(n); ok {
			s.Changed(&Kept{ID: d.ID, Methods: p.Methods.Load(), Patches: p.Patches.Load()})
		}
	}
}

func (i *KeptIdentity) identity() *Identity {
	if i == nil {
		return nil
	}
	auth, _ := ParseAuth(i.Auth)
	return &Identity{
		Generation: i.Generation, Etag: i.ETag, Disabled: i.Disabled, Reason: i.Reason, StatusAt: i.StatusAt, Auth: auth,
		Primary: i.Primary, Secondary: i.Secondary, Edge: i.Edge, Scope: i.Scope, Parents: i.Parents, attributes: string(i.Attributes),
	}
}

// Twin returns what was kept. Sections that the fleet file gave are empty when
// it gives them no more.
func (t *KeptTwin) Twin(described bool) twindoc.Twin {
	made := twindoc.Twin{
		ETag: t.ETag, Version: t.Version,
		Tags: t.Tags.section(described), Desired: t.Desired.section(described), Reported: t.Reported.section(described),
	}
	for _, r := range t.Reports {
		made.Pending = made.Pending.And(twindoc.Report{Due: r.Due, Patch: string(r.Patch)})
	}
	return made
}

func (k *KeptSection) section(described bool) twindoc.Section {
	s := twindoc.Section{Raw: string(k.Raw), Version: k.Version, Inherited: k.Inherited && described}
	for _, at := range k.Stamps {
		s.Stamps = append(s.Stamps, twindoc.Stamp{At: at[0], Version: at[1]})
	}
	return s
}
