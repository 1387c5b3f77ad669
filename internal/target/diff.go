package target

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Difference is what a twin update comes to on one section of one twin.
type Difference struct {
	Patch  json.RawMessage // only what differs; nil if nothing does
	Before json.RawMessage // the values that patch replaces, null where there was none
}

// Diff compares a section as it is with the merge patch that is wanted of it
// (RFC 7396). A section that is absent is an empty one.
func Diff(current, wanted json.RawMessage) Difference {
	if wanted == nil {
		return Difference{}
	}
	w := gjson.ParseBytes(wanted)
	c := gjson.Parse("{}")
	if current != nil {
		c = gjson.ParseBytes(current)
	}
	var d differ
	if !d.object(c, w) {
		return Difference{}
	}
	return Difference{Patch: d.patch, Before: d.before}
}

// whole returns what is wanted of a section in full, values that are as wanted
// already included: the patch for a twin that may change before it is patched.
func whole(current, wanted json.RawMessage) Difference {
	d := differ{all: true}
	c := gjson.Parse("{}")
	if current != nil {
		c = gjson.ParseBytes(current)
	}
	d.object(c, gjson.ParseBytes(wanted))
	return Difference{Patch: d.patch, Before: d.before}
}

// differ writes both sides of a difference as it walks the wanted patch.
type differ struct {
	patch  []byte
	before []byte
	all    bool // write values that do not differ, too
}

// object compares two objects and tells whether they differ; only then has it
// written anything.
func (d *differ) object(current, wanted gjson.Result) bool {
	patchStart, beforeStart := len(d.patch), len(d.before)
	changed := false
	wanted.ForEach(func(key, value gjson.Result) bool {
		patchMark, beforeMark := len(d.patch), len(d.before)
		d.key(key, !changed)
		if d.member(member(current, key.Str), value) {
			changed = true
		} else {
			d.patch, d.before = d.patch[:patchMark], d.before[:beforeMark]
		}
		return true
	})
	if !changed {
		d.patch, d.before = d.patch[:patchStart], d.before[:beforeStart]
		return false
	}
	d.patch, d.before = append(d.patch, '}'), append(d.before, '}')
	return true
}

func (d *differ) key(key gjson.Result, first bool) {
	lead := byte(',')
	if first {
		lead = '{'
	}
	d.patch = append(append(append(d.patch, lead), key.Raw...), ':')
	d.before = append(append(append(d.before, lead), key.Raw...), ':')
}

// member compares one value with what is wanted of it.
func (d *differ) member(current, wanted gjson.Result) bool {
	switch {
	case wanted.IsObject() && current.IsObject():
		return d.object(current, wanted)
	case d.all:
	case wanted.Type == gjson.Null:
		if !current.Exists() {
			return false
		}
	case current.Exists() && equal(current, wanted):
		return false
	}
	d.patch = append(d.patch, wanted.Raw...)
	if current.Exists() {
		d.before = append(d.before, current.Raw...)
	} else {
		d.before = append(d.before, "null"...)
	}
	return true
}

// member returns the value of a key, which need not exist. Paths would give
// dots and stars in keys a meaning.
func member(object gjson.Result, key string) gjson.Result {
	var found gjson.Result
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == key {
			found = v
			return false
		}
		return true
	})
	return found
}

// equal tells whether two JSON values mean the same. A hub may write a number
// in another form than the plan does.
func equal(a, b gjson.Result) bool {
	if a.Type != b.Type {
		return false
	}
	switch a.Type {
	case gjson.String:
		return a.Str == b.Str
	case gjson.Number:
		return equalNumber(a, b)
	case gjson.JSON:
		return equalJSON(a, b)
	case gjson.Null, gjson.False, gjson.True:
		return true
	}
	return false
}

// exact is the largest magnitude up to which a float64 holds every integer.
const exact = 1 << 53

// equalNumber tells whether two numbers are the same: as they are written, at
// any size, or as the hub keeps them where it cannot keep every digit.
func equalNumber(a, b gjson.Result) bool {
	if a.Raw == b.Raw || decimalOf(a.Raw) == decimalOf(b.Raw) {
		return true
	}
	x, errX := strconv.ParseFloat(a.Raw, 64)
	y, errY := strconv.ParseFloat(b.Raw, 64)
	return errX == nil && errY == nil && x == y && math.Abs(x) < exact
}

// decimalValue is a number: its digits without zeros at either end, after a
// point that stands in front of them, times ten to the power of exponent.
type decimalValue struct {
	negative bool
	digits   string
	exponent int
}

// decimalOf reads a number of JSON. Its exponent fits: a plan cannot hold a
// number that is beyond a float64, and nor can a hub.
func decimalOf(text string) decimalValue {
	d := decimalValue{}
	text, d.negative = strings.CutPrefix(text, "-")
	mantissa, power := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, power = text[:i], text[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	d.exponent, _ = strconv.Atoi(power) // empty is 0
	d.exponent += len(whole)
	digits := whole + fraction
	d.digits = strings.TrimLeft(digits, "0")
	d.exponent -= len(digits) - len(d.digits)
	if d.digits = strings.TrimRight(d.digits, "0"); d.digits == "" {
		return decimalValue{} // zero, of either sign
	}
	return d
}

func equalJSON(a, b gjson.Result) bool {
	if a.IsArray() != b.IsArray() {
		return false
	}
	if a.IsArray() {
		x, y := a.Array(), b.Array()
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equal(x[i], y[i]) {
				return false
			}
		}
		return true
	}
	return contains(a, b) && contains(b, a)
}

// contains tells whether every member of b stands in a with the same value.
func contains(a, b gjson.Result) bool {
	all := true
	b.ForEach(func(key, value gjson.Result) bool {
		v := member(a, key.Str)
		all = v.Exists() && equal(v, value)
		return all
	})
	return all
}
