package twinquery

import (
	"errors"
	"strings"

	"github.com/tidwall/gjson"
)

// A Doc is what a query is evaluated on: a twin, or a row of devices.jobs.
type Doc interface {
	// Lookup returns the value at path, undefined if there is none. System
	// names arrive as the hub's documents spell them (deviceId, properties,
	// desired, $version); other keys arrive as typed. An empty path asks for
	// the document itself, as a JSON object. The path stays the caller's.
	Lookup(path []string) Value
}

// Twin is a [Doc] over one JSON document. It is safe for concurrent use.
type Twin struct{ raw string }

// NewTwin returns a Twin that reads raw, which must be one JSON object. It
// keeps a copy.
func NewTwin(raw []byte) (*Twin, error) {
	if !gjson.ValidBytes(raw) {
		return nil, errors.New("a twin is a JSON object, this is not JSON")
	}
	text := strings.TrimSpace(string(raw))
	if text[0] != '{' {
		return nil, errors.New("a twin is a JSON object, this is another JSON value")
	}
	return &Twin{raw: text}, nil
}

// Lookup implements [Doc].
func (t *Twin) Lookup(path []string) Value { return LookupJSON(t.raw, path) }

// LookupJSON returns the value at path inside raw, one valid JSON value. It
// takes each element of path as one key, whatever characters the key has, and
// allocates only for strings that hold escapes.
func LookupJSON(raw string, path []string) Value {
	r := gjson.Parse(raw)
	for _, key := range path {
		r = member(r, key)
		if r.Raw == "" {
			return Value{}
		}
	}
	return valueOf(r)
}

// member steps into one key. In gjson's path syntax ".", "*", "#" and others
// have a meaning of their own, so only a key that is free of them is handed to
// Get, which is faster and leaves the values before it alone.
func member(object gjson.Result, key string) gjson.Result {
	var found gjson.Result
	if !object.IsObject() {
		return found
	}
	if isPlainKey(key) {
		return object.Get(key)
	}
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str != key {
			return true
		}
		found = v
		return false
	})
	return found
}

func isPlainKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		if c != '_' && c != '-' && c != '$' && !isDigit(rune(c)) && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return key != ""
}
