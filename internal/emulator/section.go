package emulator

import (
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// This file follows "Understand and use device twins in IoT Hub": how a
// section of a twin is merged, what its metadata says and how it is written.

// stamp is when, and by which version of the section, a value was last written.
type stamp struct {
	at      int64 // Unix nanoseconds
	version int64
}

// section is tags, desired or reported. It is never changed once made.
//
// The metadata of the hub mirrors the section's whole tree. Kept as the hub
// shows it, it would weigh several times the values themselves, so it is kept
// as stamps in the order in which the nodes stand in raw, the root first; one
// stamp alone stands for all, which is what a fresh section needs.
type section struct {
	raw       string // a JSON object without white space; empty when there never was one
	stamps    []stamp
	version   int64
	inherited bool // raw is empty and the fleet file has it
}

// node is a section taken apart for a merge.
type node struct {
	key    string
	raw    string // of a value that is no object, as it was sent
	object bool
	null   bool // in a patch: delete the key
	kids   []node

	deleted bool // by a merge that is under way
	at      stamp
}

// stampReader hands out stamps in document order.
type stampReader struct {
	stamps []stamp
	next   int
}

func (r *stampReader) take() stamp {
	if len(r.stamps) == 0 {
		return stamp{}
	}
	if len(r.stamps) == 1 {
		return r.stamps[0]
	}
	s := r.stamps[r.next]
	r.next++
	return s
}

// tree takes a section apart.
func (s section) tree() node {
	r := stampReader{stamps: s.stamps}
	if s.raw == "" {
		return node{object: true, at: r.take()}
	}
	return readNode("", gjson.Parse(s.raw), &r)
}

// readNode takes valid JSON apart. Later duplicates of a key win.
func readNode(key string, value gjson.Result, r *stampReader) node {
	n := node{key: key, at: r.take()}
	if !value.IsObject() {
		n.raw, n.null = value.Raw, value.Type == gjson.Null
		return n
	}
	n.object = true
	var x keyIndex
	value.ForEach(func(k, v gjson.Result) bool {
		x.put(&n, readNode(k.String(), v, r))
		return true
	})
	return n
}

// find returns the place of a key, or -1.
func (n *node) find(key string) int {
	for i := range n.kids {
		if n.kids[i].key == key {
			return i
		}
	}
	return -1
}

// keyIndex finds keys of one object that is being made. Most are small, and
// walked; a hostile one of thousands of keys must not take the square of that.
type keyIndex struct{ places map[string]int }

// manyKeys is from where on an index costs less than walking.
const manyKeys = 32

func (x *keyIndex) find(n *node, key string) int {
	if len(n.kids) < manyKeys {
		return n.find(key)
	}
	if x.places == nil {
		x.places = make(map[string]int, 2*len(n.kids))
		for i := range n.kids {
			x.places[n.kids[i].key] = i
		}
	}
	if i, ok := x.places[key]; ok {
		return i
	}
	return -1
}

// add appends a kid whose key n does not have.
func (x *keyIndex) add(n *node, kid node) {
	if x.places != nil {
		x.places[kid.key] = len(n.kids)
	}
	n.kids = append(n.kids, kid)
}

// put adds a kid, or puts it in place of the one of that key.
func (x *keyIndex) put(n *node, kid node) {
	if i := x.find(n, kid.key); i >= 0 {
		n.kids[i] = kid
		return
	}
	x.add(n, kid)
}

// merge writes a patch over n: objects merge, null deletes, anything else
// replaces. Every node on the way gets the stamp.
func (n *node) merge(patch *node, at stamp) {
	n.at = at
	var x keyIndex
	deleted := false
	for i := range patch.kids {
		p := &patch.kids[i]
		place := x.find(n, p.key)
		switch {
		case p.null:
			if place >= 0 {
				n.kids[place].deleted, deleted = true, true // no other key of the patch is the same
			}
		case place >= 0 && p.object && n.kids[place].object:
			n.kids[place].merge(p, at)
		case place >= 0:
			n.kids[place] = p.fresh(at)
		default:
			x.add(n, p.fresh(at))
		}
	}
	if deleted {
		n.kids = slices.DeleteFunc(n.kids, func(kid node) bool { return kid.deleted })
	}
}

// fresh is a patch's value as a new part of the section: without its nulls.
func (n *node) fresh(at stamp) node {
	c := node{key: n.key, raw: n.raw, object: n.object, at: at}
	for i := range n.kids {
		if !n.kids[i].null {
			c.kids = append(c.kids, n.kids[i].fresh(at))
		}
	}
	return c
}

// section puts a tree together again.
func (n *node) section(version int64) section {
	raw, stamps := n.append(make([]byte, 0, 128), make([]stamp, 0, 16))
	for i := range stamps {
		if stamps[i] != stamps[0] {
			return section{raw: string(raw), stamps: shrink(stamps), version: version}
		}
	}
	return section{raw: string(raw), stamps: shrink(stamps[:1]), version: version}
}

// shrink copies s to its exact size: sections live long and there may be a
// million of them.
func shrink[T any](s []T) []T {
	return append(make([]T, 0, len(s)), s...)
}

func (n *node) append(raw []byte, stamps []stamp) ([]byte, []stamp) {
	stamps = append(stamps, n.at)
	if !n.object {
		return append(raw, n.raw...), stamps
	}
	raw = append(raw, '{')
	for i := range n.kids {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = appendString(raw, n.kids[i].key)
		raw = append(raw, ':')
		raw, stamps = n.kids[i].append(raw, stamps)
	}
	return append(raw, '}'), stamps
}

// patched returns the section with a patch written over it.
func (s section) patched(patch *node, now time.Time) section {
	at := stamp{at: now.UnixNano(), version: s.version + 1}
	n := s.tree()
	n.merge(patch, at)
	return n.section(at.version)
}

// replaced returns a section that holds just the document.
func (s section) replaced(doc *node, now time.Time) section {
	at := stamp{at: now.UnixNano(), version: s.version + 1}
	n := doc.fresh(at)
	return n.section(at.version)
}

// appendPlain writes the section as people wrote it.
func (s section) appendPlain(dst []byte) []byte {
	if s.raw == "" {
		return append(dst, '{', '}')
	}
	return append(dst, s.raw...)
}

// metadataOf says which keys the metadata of a section has.
type metadataOf bool

const (
	ofReported metadataOf = false
	ofDesired  metadataOf = true // also $lastUpdatedVersion
)

// appendFull writes the section with its $metadata and $version.
func (s section) appendFull(dst []byte, of metadataOf) []byte {
	dst = s.appendPlain(dst)
	dst = dst[:len(dst)-1] // the closing brace
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"$metadata":`...)
	w := metadataWriter{stampReader: stampReader{stamps: s.stamps}, of: of}
	if s.raw == "" {
		dst = append(w.open(dst), '}')
	} else {
		dst = w.append(dst, gjson.Parse(s.raw))
	}
	dst = append(dst, `,"$version":`...)
	dst = strconv.AppendInt(dst, s.version, 10)
	return append(dst, '}')
}

// metadataWriter writes the tree that mirrors a section. Neighbours mostly
// have the same stamp, so its text is made once for a run of them.
type metadataWriter struct {
	stampReader
	of   metadataOf
	last stamp
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
		w.text = appendTime(w.text, s.at)
		w.text = append(w.text, '"')
		if w.of == ofDesired {
			w.text = append(w.text, `,"$lastUpdatedVersion":`...)
			w.text = strconv.AppendInt(w.text, s.version, 10)
		}
	}
	return append(dst, w.text...)
}

// appendTime writes a time as .NET does: seven digits of a second.
func appendTime(dst []byte, unixNano int64) []byte {
	return time.Unix(0, unixNano).UTC().AppendFormat(dst, "2006-01-02T15:04:05.0000000Z")
}

// neverTime is how the hub writes that something has not happened yet.
const neverTime = "0001-01-01T00:00:00Z"
