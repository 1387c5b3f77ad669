package store

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unsafe"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/twindoc"
)

// Subject is one look at what a request addresses: a device, or one module.
type Subject struct {
	Device
	Mod   *Module // nil for the device itself
	Place int     // of the module in the fleet file; -1 if it is not from there
}

// ModuleID is empty for a device.
func (m Subject) ModuleID() string {
	if m.Mod == nil {
		return ""
	}
	return m.Mod.ID
}

// Look finds what a request addresses.
func (s *Store) Look(deviceID, moduleID string) (Subject, *refuse.Error) {
	d, ok := s.Find(deviceID)
	if !ok {
		return Subject{}, refuse.DeviceNotFound(deviceID)
	}
	return s.LookIn(d, moduleID)
}

// LookIn looks at a module of a device, or at the device itself.
func (s *Store) LookIn(d Device, moduleID string) (Subject, *refuse.Error) {
	if moduleID == "" {
		return Subject{Device: d, Place: -1}, nil
	}
	for _, m := range s.Modules(d) {
		if m.ID == moduleID {
			return Subject{Device: d, Mod: m, Place: s.FleetModule(d, moduleID)}, nil
		}
	}
	return Subject{}, refuse.ModuleNotFound(d.ID, moduleID)
}

// Modules returns a device's modules, sorted by id.
func (s *Store) Modules(d Device) []*Module {
	if d.Rec != nil && (d.Rec.Own || d.Rec.ID != "") {
		return d.Rec.Modules
	}
	ids := s.Fleet.Modules(d.Slot)
	if len(ids) == 0 {
		return nil
	}
	made := make([]*Module, len(ids))
	for i, id := range ids {
		made[i] = &Module{ID: id, Twin: s.pristine()}
	}
	slices.SortFunc(made, func(a, b *Module) int { return strings.Compare(a.ID, b.ID) })
	return made
}

// FleetModule returns the place of a module in the fleet file, or -1.
func (s *Store) FleetModule(d Device, id string) int {
	if d.Slot >= s.FleetLen {
		return -1
	}
	return slices.Index(s.Fleet.Modules(d.Slot), id)
}

// Twin returns the subject's twin with every section filled in.
func (s *Store) Twin(m Subject) twindoc.Twin { return s.Filled(m, s.Stored(m)) }

// Filled returns a twin of the subject's with every section filled in.
func (s *Store) Filled(m Subject, t twindoc.Twin) twindoc.Twin {
	if !t.Tags.Inherited && !t.Desired.Inherited && !t.Reported.Inherited {
		return t
	}
	made := s.described(m)
	for i, sec := range []*twindoc.Section{&t.Tags, &t.Desired, &t.Reported} {
		if sec.Inherited {
			sec.Raw, sec.Inherited = made[i], false
		}
	}
	return t
}

// described returns the sections that the fleet file gives a subject.
func (s *Store) described(m Subject) [3]string {
	var t fleet.Twin
	if m.Mod == nil {
		t = s.Fleet.Twin(m.Slot)
	} else {
		t = s.Fleet.ModuleTwin(m.Slot, m.Place)
	}
	return [3]string{text(t.Tags), text(t.Desired), text(t.Reported)}
}

// text shows bytes that nobody writes to, as the fleet promises, without
// copying them: queries look at every device of a fleet this way.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// withTwin returns the device's record with another twin of the subject. The
// sections that did not change stay with the fleet file.
func (s *Store) withTwin(m Subject, t twindoc.Twin) *Record {
	rec := s.CopyOf(m.Device)
	if m.Mod == nil {
		rec.Twin = t
		return rec
	}
	changed := *m.Mod
	changed.Twin = t
	rec.Modules, rec.Own = ReplaceModule(s.Modules(m.Device), &changed), true
	return rec
}

// Stored returns the subject's twin as it is kept.
func (s *Store) Stored(m Subject) twindoc.Twin {
	switch {
	case m.Mod != nil:
		return m.Mod.Twin
	case m.Rec != nil:
		return m.Rec.Twin
	}
	return s.pristine()
}

// ReplaceModule returns the list with a module put in its place.
func ReplaceModule(list []*Module, m *Module) []*Module {
	list = slices.Clone(list)
	i, found := slices.BinarySearchFunc(list, m.ID, func(m *Module, id string) int { return strings.Compare(m.ID, id) })
	if found {
		list[i] = m
		return list
	}
	return slices.Insert(list, i, m)
}

// EtagText is how the hub shows the counter in a twin's etag.
func EtagText(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return base64.StdEncoding.EncodeToString(b[:])
}

// UpdateTwin changes a subject's twin under its device's lock.
func (s *Store) UpdateTwin(deviceID, moduleID string, now time.Time, change func(m Subject, t twindoc.Twin) (twindoc.Twin, *refuse.Error)) (Subject, *refuse.Error) {
	var made Subject
	d, refusal := s.Update(deviceID, now, func(d Device) (*Record, *refuse.Error) {
		m, refusal := s.LookIn(d, moduleID)
		if refusal != nil {
			return nil, refusal
		}
		t, refusal := change(m, s.Stored(m))
		if refusal != nil {
			return nil, refusal
		}
		rec := s.withTwin(m, t)
		made, refusal = s.LookIn(Device{Slot: d.Slot, ID: d.ID, Rec: rec}, moduleID)
		return rec, refusal
	})
	made.Device = d
	return made, refusal
}
