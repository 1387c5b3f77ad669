package fleet

import (
	"encoding/json"
	"sort"
	"time"
)

// MaxDevices is how many devices a fleet may have: as many as one hub.
const MaxDevices = 1_000_000

// Fleet is what a fleet file describes. It is not written to after it was made:
// every method may be called from any number of goroutines at once.
//
// Devices are numbered from 0 to Len()-1 in the order of the file. A method
// that takes such a number panics when it is out of that range.
type Fleet struct {
	seed     uint64
	indexLag time.Duration
	devices  int
	groups   []*group
	patterns []*group       // those of the groups that name devices by pattern
	listed   map[string]int // device numbers of ids that the file lists
	faults   []faultRule
}

// A group is a run of devices that the file describes in one place.
type group struct {
	first   int // number of its first device in the fleet
	count   int
	ids     []string // set for listed devices
	pattern idPattern
	start   int64
	modules []module
	names   []string // ids of the modules
	twin    twinTemplate
	methods map[string]*handler
	traits  traits
	follow  follow
}

// A module is one module that every device of a group has.
type module struct {
	id      string
	twin    twinTemplate
	methods map[string]*handler
}

type twinTemplate struct {
	tags, desired, reported *template
}

// Twin is what a twin holds before anybody wrote to it. A section that the
// file does not give is nil. The slices may be shared: they must not be
// written to.
type Twin struct {
	Tags     json.RawMessage
	Desired  json.RawMessage
	Reported json.RawMessage
}

// Len returns how many devices the fleet has.
func (f *Fleet) Len() int { return f.devices }

// Seed returns the seed that all chance of the fleet follows from.
func (f *Fleet) Seed() uint64 { return f.seed }

// IndexLag returns how long a write takes to show in queries.
func (f *Fleet) IndexLag() time.Duration { return f.indexLag }

// ID returns the id of device i.
func (f *Fleet) ID(i int) string {
	g, k := f.locate(i)
	if g.ids != nil {
		return g.ids[k]
	}
	return string(g.appendID(make([]byte, 0, len(g.pattern.prefix)+len(g.pattern.suffix)+maxDigits), k))
}

// Index returns the number of the device with the given id. It costs the same
// for a small fleet as for a large one, and allocates nothing.
func (f *Fleet) Index(id string) (int, bool) {
	if i, ok := f.listed[id]; ok {
		return i, true
	}
	if len(id) > maxID {
		return 0, false
	}
	var buf [maxID]byte
	raw := append(buf[:0], id...)
	for _, g := range f.patterns {
		if n, ok := g.pattern.number(raw); ok && n >= g.start && n-g.start < int64(g.count) {
			return g.first + int(n-g.start), true
		}
	}
	return 0, false
}

// Modules returns the ids of the modules of device i, none for most fleets.
// The slice must not be written to.
func (f *Fleet) Modules(i int) []string {
	g, _ := f.locate(i)
	return g.names
}

// Twin returns the twin of device i as the file describes it.
func (f *Fleet) Twin(i int) Twin {
	g, k := f.locate(i)
	return g.twin.render(&scene{group: g, index: k})
}

// ModuleTwin returns the twin of the module at place m of Modules(i).
func (f *Fleet) ModuleTwin(i, m int) Twin {
	g, k := f.locate(i)
	return g.modules[m].twin.render(&scene{group: g, index: k, module: g.modules[m].id})
}

// locate returns the group of device i and its place in it.
func (f *Fleet) locate(i int) (*group, int) {
	if i < 0 || i >= f.devices {
		panic("fleet: a device number out of range")
	}
	k := 0
	if len(f.groups) > 1 {
		k = sort.Search(len(f.groups), func(k int) bool { return f.groups[k].first > i }) - 1
	}
	return f.groups[k], i - f.groups[k].first
}

func (g *group) appendID(dst []byte, k int) []byte {
	if g.ids != nil {
		return append(dst, g.ids[k]...)
	}
	return g.pattern.append(dst, g.start+int64(k))
}

// number returns what ${number} stands for.
func (g *group) number(k int) int64 { return g.start + int64(k) }

// render fills in all sections in one allocation, none if nothing in them
// depends on the device.
func (t *twinTemplate) render(sc *scene) Twin {
	sections := [3]*template{t.tags, t.desired, t.reported}
	size := 0
	for _, s := range sections {
		if s == nil {
			continue
		}
		if _, ok := s.static(); !ok {
			size += s.size
		}
	}
	var buf []byte
	if size > 0 {
		buf = make([]byte, 0, size)
	}
	var out [3]json.RawMessage
	for i, s := range sections {
		if s == nil {
			continue
		}
		if text, ok := s.static(); ok {
			out[i] = text
			continue
		}
		from := len(buf)
		buf = s.render(buf, sc)
		out[i] = buf[from:len(buf):len(buf)]
	}
	return Twin{Tags: out[0], Desired: out[1], Reported: out[2]}
}
