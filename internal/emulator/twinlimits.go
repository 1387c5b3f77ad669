package emulator

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// This file follows "Understand and use device twins in IoT Hub", sections
// "Tags and properties format" and "Device twin size".

const (
	maxKeyBytes    = 1 << 10
	maxStringBytes = 4 << 10
	maxTwinDepth   = 10
	maxTwinInt     = 4503599627370495
	minTwinInt     = -4503599627370496
	maxTagsSize    = 8 << 10
	maxPropsSize   = 32 << 10
)

// patchReader takes a patch of a section apart and checks it on the way.
type patchReader struct {
	name   string // of the section, for messages: tags, properties.desired
	arrays bool   // false for the api-versions that refused arrays
}

// read returns the patch, or why the hub refuses it. The text is valid JSON.
func (r patchReader) read(value gjson.Result) (node, *apiError) {
	if !value.IsObject() {
		return node{}, errArgument("The '%s' of the twin must be a JSON object.", r.name)
	}
	return r.object("", value, 0)
}

func (r patchReader) object(key string, value gjson.Result, depth int) (node, *apiError) {
	if depth > maxTwinDepth {
		return node{}, errArgument("The '%s' of the twin are nested deeper than %d levels.", r.name, maxTwinDepth)
	}
	n := node{key: key, object: true}
	var refusal *apiError
	var x keyIndex
	value.ForEach(func(k, v gjson.Result) bool {
		var kid node
		if kid, refusal = r.member(k.String(), v, depth); refusal != nil {
			return false
		}
		if depth == 0 && (kid.key == "$metadata" || kid.key == "$version") {
			return true // clients send back what they have read
		}
		x.put(&n, kid)
		return true
	})
	return n, refusal
}

func (r patchReader) member(key string, value gjson.Result, depth int) (node, *apiError) {
	if depth == 0 && (key == "$metadata" || key == "$version") {
		return node{key: key}, nil
	}
	if refusal := r.key(key); refusal != nil {
		return node{}, refusal
	}
	switch {
	case value.IsObject():
		return r.object(key, value, depth+1)
	case value.IsArray():
		if !r.arrays {
			return node{}, errArgument("The '%s' of the twin hold an array at '%s'; arrays are not supported by this api-version.", r.name, key)
		}
		raw, refusal := r.array(key, value, depth)
		return node{key: key, raw: raw}, refusal
	case value.Type == gjson.Null:
		return node{key: key, null: true}, nil
	}
	return node{key: key, raw: value.Raw}, r.scalar(key, value)
}

// key checks a key: its characters and its length.
func (r patchReader) key(key string) *apiError {
	if key == "" || len(key) > maxKeyBytes {
		return errArgument("The '%s' of the twin hold a key of %d bytes; a key has 1 to %d.", r.name, len(key), maxKeyBytes)
	}
	for _, c := range key {
		if c == '.' || c == '$' || c == '#' || unicode.IsSpace(c) || unicode.IsControl(c) {
			return errArgument("The '%s' of the twin hold the key %s; a key has no '.', '$', '#', space or control character.", r.name, strconv.Quote(key))
		}
	}
	return nil
}

func (r patchReader) scalar(key string, value gjson.Result) *apiError {
	switch value.Type {
	case gjson.String:
		if len(value.Str) > maxStringBytes {
			return errArgument("The '%s' of the twin hold a string of %d bytes at '%s'; the limit is %d.", r.name, len(value.Str), key, maxStringBytes)
		}
	case gjson.Number:
		if !strings.ContainsAny(value.Raw, ".eE") && !twinInt(value.Raw) {
			return errArgument("The '%s' of the twin hold the number %s at '%s'; integers go from %d to %d.", r.name, value.Raw, key, int64(minTwinInt), int64(maxTwinInt))
		}
		if math.IsInf(value.Num, 0) {
			return errArgument("The '%s' of the twin hold a number at '%s' that is too large.", r.name, key)
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
func (r patchReader) array(key string, value gjson.Result, depth int) (string, *apiError) {
	dst := []byte{'['}
	var refusal *apiError
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

func (r patchReader) element(key string, v gjson.Result, depth int) (string, *apiError) {
	switch {
	case v.Type == gjson.Null:
		return "", errArgument("The '%s' of the twin hold null inside the array '%s'.", r.name, key)
	case v.IsArray():
		return r.array(key, v, depth)
	case v.IsObject():
		n, refusal := r.object("", v, depth+1)
		if refusal == nil && n.hasNull() {
			refusal = errArgument("The '%s' of the twin hold null inside the array '%s'.", r.name, key)
		}
		raw, _ := n.append(nil, nil)
		return string(raw), refusal
	}
	return v.Raw, r.scalar(key, v)
}

func (n *node) hasNull() bool { return n.nullKey() != "" }

// nullKey returns the path of the first key that is null, or "".
func (n *node) nullKey() string {
	for i := range n.kids {
		kid := &n.kids[i]
		if kid.null {
			return kid.key
		}
		if below := kid.nullKey(); below != "" {
			return kid.key + "." + below
		}
	}
	return ""
}

// sectionSize measures a section as the hub does: keys and strings by their
// UTF-8 bytes without control characters, a number as 8, a boolean as 4.
func sectionSize(raw string) int {
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

// tooLarge says whether a write is refused for its size: when it passes the
// limit and does not shrink what was there.
func tooLarge(name string, before, after section, limit int) *apiError {
	size := sectionSize(after.raw)
	if size <= limit || size <= sectionSize(before.raw) {
		return nil
	}
	return &apiError{
		status: 403, code: 403100, name: "DeviceModelMaxPropertiesExceeded",
		text: fmt.Sprintf("The '%s' of the twin would be %d bytes large; the limit is %d.", name, size, limit),
	}
}
