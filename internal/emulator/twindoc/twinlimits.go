package twindoc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/refuse"
)

// This file follows "Understand and use device twins in IoT Hub", sections
// "Tags and properties format" and "Device twin size".

// The limits of a twin.
const (
	maxKeyBytes    = 1 << 10
	maxStringBytes = 4 << 10
	maxTwinDepth   = 10
	maxTwinInt     = 4503599627370495
	minTwinInt     = -4503599627370496
	MaxTagsSize    = 8 << 10
	MaxPropsSize   = 32 << 10
)

// PatchReader takes a patch of a section apart and checks it on the way.
type PatchReader struct {
	Name   string // of the section, for messages: tags, properties.desired
	Arrays bool   // false for the api-versions that refused arrays
}

// Read returns the patch, or why the hub refuses it. The text is valid JSON.
func (r PatchReader) Read(value gjson.Result) (Node, *refuse.Error) {
	if !value.IsObject() {
		return Node{}, refuse.Argument("The '%s' of the twin must be a JSON object.", r.Name)
	}
	return r.object("", value, 0)
}

func (r PatchReader) object(key string, value gjson.Result, depth int) (Node, *refuse.Error) {
	if depth > maxTwinDepth {
		return Node{}, refuse.Argument("The '%s' of the twin are nested deeper than %d levels.", r.Name, maxTwinDepth)
	}
	n := Node{Key: key, Object: true}
	var refusal *refuse.Error
	var x KeyIndex
	value.ForEach(func(k, v gjson.Result) bool {
		var kid Node
		if kid, refusal = r.member(k.String(), v, depth); refusal != nil {
			return false
		}
		if depth == 0 && (kid.Key == "$metadata" || kid.Key == "$version") {
			return true // clients send back what they have read
		}
		x.Put(&n, kid)
		return true
	})
	return n, refusal
}

func (r PatchReader) member(key string, value gjson.Result, depth int) (Node, *refuse.Error) {
	if depth == 0 && (key == "$metadata" || key == "$version") {
		return Node{Key: key}, nil
	}
	if refusal := r.key(key); refusal != nil {
		return Node{}, refusal
	}
	switch {
	case value.IsObject():
		return r.object(key, value, depth+1)
	case value.IsArray():
		if !r.Arrays {
			return Node{}, refuse.Argument("The '%s' of the twin hold an array at '%s'; arrays are not supported by this api-version.", r.Name, key)
		}
		raw, refusal := r.array(key, value, depth)
		return Node{Key: key, Raw: raw}, refusal
	case value.Type == gjson.Null:
		return Node{Key: key, null: true}, nil
	}
	return Node{Key: key, Raw: value.Raw}, r.scalar(key, value)
}

// key checks a key: its characters and its length.
func (r PatchReader) key(key string) *refuse.Error {
	if key == "" || len(key) > maxKeyBytes {
		return refuse.Argument("The '%s' of the twin hold a key of %d bytes; a key has 1 to %d.", r.Name, len(key), maxKeyBytes)
	}
	for _, c := range key {
		if c == '.' || c == '$' || c == '#' || unicode.IsSpace(c) || unicode.IsControl(c) {
			return refuse.Argument("The '%s' of the twin hold the key %s; a key has no '.', '$', '#', space or control character.", r.Name, strconv.Quote(key))
		}
	}
	return nil
}

func (r PatchReader) scalar(key string, value gjson.Result) *refuse.Error {
	switch value.Type {
	case gjson.String:
		if len(value.Str) > maxStringBytes {
			return refuse.Argument("The '%s' of the twin hold a string of %d bytes at '%s'; the limit is %d.", r.Name, len(value.Str), key, maxStringBytes)
		}
	case gjson.Number:
		if !strings.ContainsAny(value.Raw, ".eE") && !twinInt(value.Raw) {
			return refuse.Argument("The '%s' of the twin hold the number %s at '%s'; integers go from %d to %d.", r.Name, value.Raw, key, int64(minTwinInt), int64(maxTwinInt))
		}
		if math.IsInf(value.Num, 0) {
			return refuse.Argument("The '%s' of the twin hold a number at '%s' that is too large.", r.Name, key)
		}
	case gjson.Null, gjson.False, gjson.True, gjson.JSON:
	}
	return nil
}

func twinInt(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && n >= minTwinInt && n <= maxTwinInt
}

// array checks an array, which is replaced as a whole and never merged, and
// returns it without white space. It holds no null at any depth. Levels are those
// of objects: the documents count no arrays.
func (r PatchReader) array(key string, value gjson.Result, depth int) (string, *refuse.Error) {
	dst := []byte{'['}
	var refusal *refuse.Error
	value.ForEach(func(_, v gjson.Result) bool {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		var raw string
		raw, refusal = r.element(key, v, depth)
		dst = append(dst, raw...)
		return refusal == nil
	})
	return string(append(dst, ']')), refusal
}

func (r PatchReader) element(key string, v gjson.Result, depth int) (string, *refuse.Error) {
	switch {
	case v.Type == gjson.Null:
		return "", refuse.Argument("The '%s' of the twin hold null inside the array '%s'.", r.Name, key)
	case v.IsArray():
		return r.array(key, v, depth)
	case v.IsObject():
		n, refusal := r.object("", v, depth+1)
		if refusal == nil && n.hasNull() {
			refusal = refuse.Argument("The '%s' of the twin hold null inside the array '%s'.", r.Name, key)
		}
		raw, _ := n.append(nil, nil)
		return string(raw), refusal
	}
	return v.Raw, r.scalar(key, v)
}

func (n *Node) hasNull() bool { return n.nullKey() != "" }

// nullKey returns the path of the first key that is null, or "".
func (n *Node) nullKey() string {
	for i := range n.Kids {
		kid := &n.Kids[i]
		if kid.null {
			return kid.Key
		}
		if below := kid.nullKey(); below != "" {
			return kid.Key + "." + below
		}
	}
	return ""
}

// SectionSize measures a section as the hub does: keys and strings by their
// UTF-8 bytes without control characters, a number as 8, a boolean as 4.
func SectionSize(raw string) int {
	if raw == "" {
		return 0
	}
	return valueSize(gjson.Parse(raw))
}

func valueSize(value gjson.Result) int {
	switch {
	case value.IsObject():
		size := 0
		value.ForEach(func(k, v gjson.Result) bool {
			size += textSize(k.String()) + valueSize(v)
			return true
		})
		return size
	case value.IsArray():
		size := 0
		value.ForEach(func(_, v gjson.Result) bool {
			size += valueSize(v)
			return true
		})
		return size
	case value.Type == gjson.String:
		return textSize(value.Str)
	case value.Type == gjson.Number:
		return 8
	}
	return 4
}

func textSize(s string) int {
	size := len(s)
	for _, c := range s {
		if unicode.IsControl(c) {
			size -= utf8.RuneLen(c)
		}
	}
	return size
}

// TooLarge says whether a write is refused for its size: when it passes the
// limit and does not shrink what was there.
func TooLarge(name string, before, after Section, limit int) *refuse.Error {
	size := SectionSize(after.Raw)
	if size <= limit || size <= SectionSize(before.Raw) {
		return nil
	}
	return &refuse.Error{
		Status: 403, Code: 403100, Name: "DeviceModelMaxPropertiesExceeded",
		Text: fmt.Sprintf("The '%s' of the twin would be %d bytes large; the limit is %d.", name, size, limit),
	}
}
