// Package twindoc has the documents of twins: how they are read, merged, replaced and
// limited.
package twindoc

import (
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/wire"
)

// This file follows "Understand and use device twins in IoT Hub": how a
// section of a twin is merged, what its metadata says and how it is written.

// Stamp is when, and by which version of the section, a value was last written.
type Stamp struct {
	At      int64 // Unix nanoseconds
	Version int64
}

// Section is tags, desired or reported. It is never changed once made.
//
// The metadata of the hub mirrors the section's whole tree. Kept as the hub
// shows it, it would weigh several times the values themselves, so it is kept
// as stamps in the order in which the nodes stand in raw, the root first; one
// stamp alone stands for all, which is what a fresh section needs.
type Section struct {
	Raw       string // a JSON object without white space; empty when there never was one
	Stamps    []Stamp
	Version   int64
	Inherited bool // raw is empty and the fleet file has it
}

// Node is a section taken apart for a merge.
type Node struct {
	Key    string
	Raw    string // of a value that is no object, as it was sent
	Object bool
	null   bool // in a patch: delete the key
	Kids   []Node

	deleted bool // by a merge that is under way
	at      Stamp
}

// StampReader hands out stamps in document order.
type StampReader struct {
	stamps []Stamp
	next   int
}

func (r *StampReader) take() Stamp {
	if len(r.stamps) == 0 {
		return Stamp{}
	}
	if len(r.stamps) == 1 {
		return r.stamps[0]
	}
	s := r.stamps[r.next]
	r.next++
	return s
}

// Tree takes a section apart.
func (s Section) Tree() Node {
	r := StampReader{stamps: s.Stamps}
	if s.Raw == "" {
		return Node{Object: true, at: r.take()}
	}
	return ReadNode("", gjson.Parse(s.Raw), &r)
}

// ReadNode takes valid JSON apart. Later duplicates of a key win.
func ReadNode(key string, value gjson.Result, r *StampReader) Node {
	n := Node{Key: key, at: r.take()}
	if !value.IsObject() {
		n.Raw, n.null = value.Raw, value.Type == gjson.Null
		return n
	}
	n.Object = true
	var x KeyIndex
	value.ForEach(func(k, v gjson.Result) bool {
		x.Put(&n, ReadNode(k.String(), v, r))
		return true
	})
	return n
}

// find returns the place of a key, or -1.
func (n *Node) find(key string) int {
	for i := range n.Kids {
		if n.Kids[i].Key == key {
			return i
		}
	}
	return -1
}

// KeyIndex finds keys of one object that is being made. Most are small, and
// walked; a hostile one of thousands of keys must not take the square of that.
type KeyIndex struct{ Places map[string]int }

// ManyKeys is from where on an index costs less than walking.
const ManyKeys = 32

func (x *KeyIndex) find(n *Node, key string) int {
	if len(n.Kids) < ManyKeys {
		return n.find(key)
	}
	if x.Places == nil {
		x.Places = make(map[string]int, 2*len(n.Kids))
		for i := range n.Kids {
			x.Places[n.Kids[i].Key] = i
		}
	}
	if i, ok := x.Places[key]; ok {
		return i
	}
	return -1
}

// add appends a kid whose key n does not have.
func (x *KeyIndex) add(n *Node, kid Node) {
	if x.Places != nil {
		x.Places[kid.Key] = len(n.Kids)
	}
	n.Kids = append(n.Kids, kid)
}

// Put adds a kid, or puts it in place of the one of that key.
func (x *KeyIndex) Put(n *Node, kid Node) {
	if i := x.find(n, kid.Key); i >= 0 {
		n.Kids[i] = kid
		return
	}
	x.add(n, kid)
}

// merge writes a patch over n: objects merge, null deletes, anything else
// replaces. Every node on the way gets the stamp.
func (n *Node) merge(patch *Node, at Stamp) {
	n.at = at
	var x KeyIndex
	deleted := false
	for i := range patch.Kids {
		p := &patch.Kids[i]
		place := x.find(n, p.Key)
		switch {
		case p.null:
			if place >= 0 {
				n.Kids[place].deleted, deleted = true, true // no other key of the patch is the same
			}
		case place >= 0 && p.Object && n.Kids[place].Object:
			n.Kids[place].merge(p, at)
		case place >= 0:
			n.Kids[place] = p.fresh(at)
		default:
			x.add(n, p.fresh(at))
		}
	}
	if deleted {
		n.Kids = slices.DeleteFunc(n.Kids, func(kid Node) bool { return kid.deleted })
	}
}

// fresh is a patch's value as a new part of the section: without its nulls.
func (n *Node) fresh(at Stamp) Node {
	c := Node{Key: n.Key, Raw: n.Raw, Object: n.Object, at: at}
	for i := range n.Kids {
		if !n.Kids[i].null {
			c.Kids = append(c.Kids, n.Kids[i].fresh(at))
		}
	}
	return c
}

// Section puts a tree together again.
func (n *Node) Section(version int64) Section {
	raw, stamps := n.append(make([]byte, 0, 128), make([]Stamp, 0, 16))
	for i := range stamps {
		if stamps[i] != stamps[0] {
			return Section{Raw: string(raw), Stamps: shrink(stamps), Version: version}
		}
	}
	return Section{Raw: string(raw), Stamps: shrink(stamps[:1]), Version: version}
}

// shrink copies s to its exact size: sections live long and there may be a
// million of them.
func shrink[T any](s []T) []T {
	return append(make([]T, 0, len(s)), s...)
}

func (n *Node) append(raw []byte, stamps []Stamp) ([]byte, []Stamp) {
	stamps = append(stamps, n.at)
	if !n.Object {
		return append(raw, n.Raw...), stamps
	}
	raw = append(raw, '{')
	for i := range n.Kids {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = wire.String(raw, n.Kids[i].Key)
		raw = append(raw, ':')
		raw, stamps = n.Kids[i].append(raw, stamps)
	}
	return append(raw, '}'), stamps
}

// Patched returns the section with a patch written over it.
func (s Section) Patched(patch *Node, now time.Time) Section {
	at := Stamp{At: now.UnixNano(), Version: s.Version + 1}
	n := s.Tree()
	n.merge(patch, at)
	return n.Section(at.Version)
}

// replaced returns a section that holds just the document.
func (s Section) replaced(doc *Node, now time.Time) Section {
	at := Stamp{At: now.UnixNano(), Version: s.Version + 1}
	n := doc.fresh(at)
	return n.Section(at.Version)
}

// AppendPlain writes the section as people wrote it.
func (s Section) AppendPlain(dst []byte) []byte {
	if s.Raw == "" {
		return append(dst, '{', '}')
	}
	return append(dst, s.Raw...)
}

// metadataOf says which keys the metadata of a section has.
type metadataOf bool

// The sections that have metadata.
const (
	OfReported metadataOf = false
	OfDesired  metadataOf = true // also $lastUpdatedVersion
)

// AppendFull writes the section with its $metadata and $version.
func (s Section) AppendFull(dst []byte, of metadataOf) []byte {
	dst = s.AppendPlain(dst)
	dst = dst[:len(dst)-1] // the closing brace
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"$metadata":`...)
	w := metadataWriter{StampReader: StampReader{stamps: s.Stamps}, of: of}
	if s.Raw == "" {
		dst = append(w.open(dst), '}')
	} else {
		dst = w.append(dst, gjson.Parse(s.Raw))
	}
	dst = append(dst, `,"$version":`...)
	dst = strconv.AppendInt(dst, s.Version, 10)
	return append(dst, '}')
}

// metadataWriter writes the tree that mirrors a section. Neighbours mostly
// have the same stamp, so its text is made once for a run of them.
type metadataWriter struct {
	StampReader
	of   metadataOf
	last Stamp
	text []byte
}

func (w *metadataWriter) append(dst []byte, value gjson.Result) []byte {
	dst = w.open(dst)
	if value.IsObject() {
		value.ForEach(func(k, v gjson.Result) bool {
			dst = append(dst, ',')
			dst = append(dst, k.Raw...)
			dst = append(dst, ':')
			dst = w.append(dst, v)
			return true
		})
	}
	return append(dst, '}')
}

// open writes what every node has, up to the place of its children.
func (w *metadataWriter) open(dst []byte) []byte {
	s := w.take()
	if w.text == nil || s != w.last {
		w.last = s
		w.text = append(w.text[:0], `{"$lastUpdated":"`...)
		w.text = wire.Time(w.text, s.At)
		w.text = append(w.text, '"')
		if w.of == OfDesired {
			w.text = append(w.text, `,"$lastUpdatedVersion":`...)
			w.text = strconv.AppendInt(w.text, s.Version, 10)
		}
	}
	return append(dst, w.text...)
}

// NeverTime is how the hub writes that something has not happened yet.
const NeverTime = "0001-01-01T00:00:00Z"
