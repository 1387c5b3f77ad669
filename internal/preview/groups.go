package preview

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// Bounds of what a forecast keeps of one job, whatever the size of the fleet.
const (
	maxGroups     = 1000
	maxGroupBytes = 8 << 20
	maxShapes     = 50
	groupSample   = 20 // devices named in a group
	maxVaries     = 200
)

// groups puts targets together that are treated alike. When there are too many
// ways to be treated, those that occur once are put together by what they
// change; the frequent ones stay.
type groups struct {
	exact  map[[sha256.Size]byte]*Group
	shapes map[string]*Group
	bytes  int
	full   bool // folding made no room
}

func newGroups() *groups {
	return &groups{exact: map[[sha256.Size]byte]*Group{}, shapes: map[string]*Group{}}
}

// add counts a device in the group that is treated as g is.
func (gs *groups) add(device string, g Group) {
	key := g.key()
	found := gs.exact[key]
	if found == nil && !gs.roomFor(&g) {
		found = gs.shape(&g)
	}
	if found == nil {
		found = &g
		gs.exact[key] = found
		gs.bytes += g.size()
	}
	found.Count++
	if len(found.Devices) < groupSample {
		found.Devices = append(found.Devices, strings.Clone(device)) // it may be a part of a whole page
	}
}

func (gs *groups) roomFor(g *Group) bool {
	if len(gs.exact) < maxGroups && gs.bytes+g.size() <= maxGroupBytes {
		return true
	}
	if gs.full {
		return false
	}
	gs.fold()
	gs.full = len(gs.exact) > maxGroups/2 || gs.bytes > maxGroupBytes/2
	return !gs.full
}

// fold puts the groups of a single device together by their shape.
func (gs *groups) fold() {
	var single []*Group
	for key, g := range gs.exact {
		if g.Count == 1 {
			single = append(single, g)
			gs.bytes -= g.size()
			delete(gs.exact, key)
		}
	}
	slices.SortFunc(single, byFirstDevice) // maps have no order, forecasts have one
	for _, g := range single {
		shape := gs.shape(g)
		shape.Count++
		if len(shape.Devices) < groupSample {
			shape.Devices = append(shape.Devices, g.Devices[0])
		}
	}
}

// shape returns the group of those that change the same properties as g does.
func (gs *groups) shape(g *Group) *Group {
	name := g.shape()
	if gs.shapes[name] == nil && len(gs.shapes) >= maxShapes {
		name = "" // whatever else there is
	}
	if gs.shapes[name] == nil {
		alike := *g
		alike.Count, alike.Devices, alike.Various = 0, nil, true
		gs.shapes[name] = &alike
	}
	gs.shapes[name].compare(g)
	return gs.shapes[name]
}

// compare notes in which parts another group differs from this one.
func (g *Group) compare(other *Group) {
	sections := func(path string, a, b *spec.Sections) {
		if a == nil || b == nil {
			a, b = cmp.Or(a, &spec.Sections{}), cmp.Or(b, &spec.Sections{})
		}
		g.vary(path+".desired", a.Desired, b.Desired)
		g.vary(path+".tags", a.Tags, b.Tags)
	}
	sections("before", g.Before, other.Before)
	sections("patch", g.Patch, other.Patch)
	if g.Call != nil && other.Call != nil {
		g.vary("call.payload", g.Call.Payload, other.Call.Payload)
	}
}

func (g *Group) vary(path string, a, b json.RawMessage) {
	if bytes.Equal(a, b) || slices.Contains(g.Varies, path) {
		return
	}
	one, other := gjson.ParseBytes(a), gjson.ParseBytes(b)
	if !one.IsObject() || !other.IsObject() || len(g.Varies) >= maxVaries {
		g.Varies = append(g.Varies, path)
		return
	}
	rest := map[string]json.RawMessage{}
	other.ForEach(func(key, value gjson.Result) bool {
		rest[key.Str] = json.RawMessage(value.Raw)
		return true
	})
	one.ForEach(func(key, value gjson.Result) bool {
		g.vary(path+"."+key.Str, json.RawMessage(value.Raw), rest[key.Str])
		delete(rest, key.Str)
		return true
	})
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		g.vary(path+"."+key, nil, rest[key])
	}
}

// sorted returns all groups: those that change something before those that do
// not, the largest first.
func (gs *groups) sorted() []Group {
	all := make([]Group, 0, len(gs.exact)+len(gs.shapes))
	for _, g := range gs.exact {
		all = append(all, *g)
	}
	for _, g := range gs.shapes {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b Group) int {
		return cmp.Or(
			cmp.Compare(a.rank(), b.rank()),
			-cmp.Compare(a.Count, b.Count),
			byFirstDevice(&a, &b),
		)
	})
	return all
}

func byFirstDevice(a, b *Group) int { return cmp.Compare(a.Devices[0], b.Devices[0]) }

func (g *Group) rank() int {
	switch {
	case g.Error != "":
		return 0
	case g.Unchanged:
		return 2
	}
	return 1
}

// key tells groups apart that are not treated alike.
func (g *Group) key() [sha256.Size]byte {
	h := sha256.New()
	write := func(part []byte) {
		_, _ = h.Write(part) // never returns an error
		_, _ = h.Write([]byte{0})
	}
	for _, s := range []*spec.Sections{g.Before, g.Patch} {
		if s != nil {
			write(s.Desired)
			write(s.Tags)
		}
	}
	if g.Call != nil {
		write(g.Call.Payload)
	}
	write([]byte(g.Error))
	if g.Unchanged {
		write([]byte{1})
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// size is about how much memory the group takes.
func (g *Group) size() int {
	n := 256 + len(g.Error)
	for _, s := range []*spec.Sections{g.Before, g.Patch} {
		if s != nil {
			n += len(s.Desired) + len(s.Tags)
		}
	}
	if g.Call != nil {
		n += len(g.Call.Payload)
	}
	return n
}

// shape names what a group does, less the values.
func (g *Group) shape() string {
	switch {
	case g.Error != "":
		return "error"
	case g.Call != nil:
		return "call"
	case g.Patch == nil:
		return "unchanged"
	}
	var b strings.Builder
	paths(&b, "desired", g.Patch.Desired)
	paths(&b, "tags", g.Patch.Tags)
	return b.String()
}

func paths(b *strings.Builder, path string, value json.RawMessage) {
	v := gjson.ParseBytes(value)
	if !v.IsObject() {
		if value != nil {
			b.WriteString(path + "\n")
		}
		return
	}
	v.ForEach(func(key, value gjson.Result) bool {
		paths(b, path+"."+key.Str, json.RawMessage(value.Raw))
		return true
	})
}
