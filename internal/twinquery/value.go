package twinquery

import (
	"math"
	"strconv"

	"github.com/tidwall/gjson"
)

// Kind is the type of a [Value].
type Kind uint8

// The kinds. A missing property is KindUndefined, which is the zero Kind.
const (
	KindUndefined Kind = iota
	KindNull
	KindBool
	KindNumber
	KindString
	KindObject
	KindArray
)

// Value is what a path or an expression gives. The zero Value is undefined.
type Value struct {
	kind Kind
	num  float64 // the number; 1 or 0 for a boolean
	// text is the string, or the JSON of an object or an array. For a number
	// it is the JSON it was read from, so that a projection repeats it
	// digit by digit; empty for a computed one.
	text string
}

// NullValue returns null.
func NullValue() Value { return Value{kind: KindNull} }

// BoolValue returns b as a value.
func BoolValue(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// NumberValue returns f as a value, undefined if f is not finite.
func NumberValue(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	return Value{kind: KindNumber, num: f}
}

// StringValue returns s as a value.
func StringValue(s string) Value { return Value{kind: KindString, text: s} }

// JSONValue returns the value that raw, one valid JSON value, stands for.
func JSONValue(raw string) Value { return valueOf(gjson.Parse(raw)) }

func valueOf(r gjson.Result) Value {
	switch r.Type {
	case gjson.Null:
		if r.Raw == "" {
			return Value{}
		}
		return NullValue()
	case gjson.False:
		return BoolValue(false)
	case gjson.True:
		return BoolValue(true)
	case gjson.Number:
		return Value{kind: KindNumber, num: r.Num, text: r.Raw}
	case gjson.String:
		return StringValue(r.Str)
	case gjson.JSON:
		if r.IsArray() {
			return Value{kind: KindArray, text: r.Raw}
		}
		return Value{kind: KindObject, text: r.Raw}
	}
	return Value{}
}

// Kind returns the type of v.
func (v Value) Kind() Kind { return v.kind }

// IsTrue tells whether v is the boolean true, nothing else.
func (v Value) IsTrue() bool { return v.kind == KindBool && v.num == 1 }

// AppendJSON appends v as JSON. Undefined, which JSON cannot say, appends nothing.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case KindUndefined:
		return dst
	case KindNull:
		return append(dst, "null"...)
	case KindBool:
		return strconv.AppendBool(dst, v.num == 1)
	case KindNumber:
		if v.text != "" {
			return append(dst, v.text...)
		}
		return appendNumber(dst, v.num)
	case KindString:
		return gjson.AppendJSONString(dst, v.text)
	case KindObject, KindArray:
		return append(dst, v.text...)
	}
	return dst
}

// appendNumber writes whole numbers without an exponent up to where JavaScript
// does, because that is how people recognise a count or a sum.
func appendNumber(dst []byte, f float64) []byte {
	if math.Abs(f) < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

// order compares two primitive values of one kind; ok is false for all others.
func order(a, b Value) (cmp int, ok bool) {
	if a.kind != b.kind {
		return 0, false
	}
	switch a.kind {
	case KindNull:
		return 0, true
	case KindBool, KindNumber:
		switch {
		case a.num < b.num:
			return -1, true
		case a.num > b.num:
			return 1, true
		}
		return 0, true
	case KindString:
		switch {
		case a.text < b.text:
			return -1, true
		case a.text > b.text:
			return 1, true
		}
		return 0, true
	case KindUndefined, KindObject, KindArray:
	}
	return 0, false
}

// hasElement tells whether an array has an element that equals x.
func (v Value) hasElement(x Value) bool {
	found := false
	gjson.Parse(v.text).ForEach(func(_, element gjson.Result) bool {
		cmp, ok := order(valueOf(element), x)
		found = ok && cmp == 0
		return !found
	})
	return found
}
