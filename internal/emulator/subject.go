package emulator

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unsafe"

	"iothub-runner/internal/emulator/fleet"
)

// subject is one look at what a request addresses: a device, or one module.
type subject struct {
	device
	mod   *module // nil for the device itself
	place int     // of the module in the fleet file; -1 if it is not from there
}

func (m subject) moduleID() string {
	if m.mod == nil {
		return ""
	}
	return m.mod.id
}

// look finds what a request addresses.
func (s *store) look(deviceID, moduleID string) (subject, *apiError) {
	d, ok := s.find(deviceID)
	if !ok {
		return subject{}, errDeviceNotFound(deviceID)
	}
	return s.lookIn(d, moduleID)
}

func (s *store) lookIn(d device, moduleID string) (subject, *apiError) {
	if moduleID == "" {
		return subject{device: d, place: -1}, nil
	}
	for _, m := range s.modules(d) {
		if m.id == moduleID {
			return subject{device: d, mod: m, place: s.fleetModule(d, moduleID)}, nil
		}
	}
	return subject{}, errModuleNotFound(d.id, moduleID)
}

// modules returns a device's modules, sorted by id.
func (s *store) modules(d device) []*module {
	if d.rec != nil && (d.rec.own || d.rec.id != "") {
		return d.rec.modules
	}
	ids := s.fleet.Modules(d.slot)
	if len(ids) == 0 {
		return nil
	}
	made := make([]*module, len(ids))
	for i, id := range ids {
		made[i] = &module{id: id, twin: s.pristine()}
	}
	slices.SortFunc(made, func(a, b *module) int { return strings.Compare(a.id, b.id) })
	return made
}

// fleetModule returns the place of a module in the fleet file, or -1.
func (s *store) fleetModule(d device, id string) int {
	if d.slot >= s.fleetLen {
		return -1
	}
	return slices.Index(s.fleet.Modules(d.slot), id)
}

// twin returns the subject's twin with every section filled in.
func (s *store) twin(m subject) twin { return s.filled(m, s.stored(m)) }

// filled returns a twin of the subject's with every section filled in.
func (s *store) filled(m subject, t twin) twin {
	if !t.tags.inherited && !t.desired.inherited && !t.reported.inherited {
		return t
	}
	made := s.described(m)
	for i, sec := range []*section{&t.tags, &t.desired, &t.reported} {
		if sec.inherited {
			sec.raw, sec.inherited = made[i], false
		}
	}
	return t
}

// described returns the sections that the fleet file gives a subject.
func (s *store) described(m subject) [3]string {
	var t fleet.Twin
	if m.mod == nil {
		t = s.fleet.Twin(m.slot)
	} else {
		t = s.fleet.ModuleTwin(m.slot, m.place)
	}
	return [3]string{text(t.Tags), text(t.Desired), text(t.Reported)}
}

// text shows bytes that nobody writes to, as the fleet promises, without
// copying them: queries look at every device of a fleet this way.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// withTwin returns the device's record with another twin of the subject. The
// sections that did not change stay with the fleet file.
func (s *store) withTwin(m subject, t twin) *record {
	rec := s.copyOf(m.device)
	if m.mod == nil {
		rec.twin = t
		return rec
	}
	changed := *m.mod
	changed.twin = t
	rec.modules, rec.own = replaceModule(s.modules(m.device), &changed), true
	return rec
}

// stored returns the subject's twin as it is kept.
func (s *store) stored(m subject) twin {
	switch {
	case m.mod != nil:
		return m.mod.twin
	case m.rec != nil:
		return m.rec.twin
	}
	return s.pristine()
}

// replaceModule returns the list with a module put in its place.
func replaceModule(list []*module, m *module) []*module {
	list = slices.Clone(list)
	i, found := slices.BinarySearchFunc(list, m.id, func(m *module, id string) int { return strings.Compare(m.id, id) })
	if found {
		list[i] = m
		return list
	}
	return slices.Insert(list, i, m)
}

// etagText is how the hub shows the counter in a twin's etag.
func etagText(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return base64.StdEncoding.EncodeToString(b[:])
}

// updateTwin changes a subject's twin under its device's lock.
func (s *store) updateTwin(deviceID, moduleID string, now time.Time, change func(m subject, t twin) (twin, *apiError)) (subject, *apiError) {
	var made subject
	d, refusal := s.update(deviceID, now, func(d device) (*record, *apiError) {
		m, refusal := s.lookIn(d, moduleID)
		if refusal != nil {
			return nil, refusal
		}
		t, refusal := change(m, s.stored(m))
		if refusal != nil {
			return nil, refusal
		}
		rec := s.withTwin(m, t)
		made, refusal = s.lookIn(device{slot: d.slot, id: d.id, rec: rec}, moduleID)
		return rec, refusal
	})
	made.device = d
	return made, refusal
}
