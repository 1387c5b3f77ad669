package fleet

import (
	"math"
	"math/bits"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// This file weighs what the templates of a twin can make, as the hub counts:
// the bytes of names and of strings without control characters, eight for a
// number, four for anything else.
//
// A template is weighed at its worst, with the longest id, the longest numbers
// and the heaviest value of every generator. A file in which no single device
// meets all of that at once may be refused though every twin would pass; to try
// them all would take as long as the fleet is large.

// The hub's limits.
const (
	maxTags       = 8 << 10
	maxProperties = 32 << 10 // desired or reported
	maxString     = 4 << 10
)

// weigh finds a section that can be larger than the hub takes.
func (c *compiler) weigh(n *yaml.Node, name string) {
	limit := maxProperties
	if name == "tags" {
		limit = maxTags
	}
	if c.weight > limit && !c.exhausted() {
		c.find(n, "%s: up to %d bytes for one twin; the hub takes %d", name, c.weight, limit)
	}
}

// weighString finds a string that can be longer than the hub takes.
func (c *compiler) weighString(n *yaml.Node) {
	if c.twin && c.length > maxString {
		c.find(n, "%s: a string of up to %d bytes; the hub takes %d", shorten(c.what()), c.length, maxString)
	}
}

// addText weighs a part of a string, or a name.
func (c *compiler) addText(s string) {
	c.length += len(s)
	c.weight += len(s)
	for _, r := range s {
		if unicode.IsControl(r) {
			c.weight -= utf8.RuneLen(r)
		}
	}
}

// addExpression weighs what an expression makes at most.
func (c *compiler) addExpression(e *expression) {
	if c.group == nil {
		return
	}
	var most int
	switch e.name {
	case "id":
		most = c.group.longestID()
	case "module":
		most = len(c.module)
	default:
		if !e.inText && e.width == 0 && !e.hex {
			c.weight += 8
			return
		}
		most = e.longest(c.group)
	}
	c.weight += most
	c.length += most
}

func (g *group) longestID() int {
	if g.ids == nil {
		return len(g.appendID(nil, g.count-1)) // the greatest number has the most digits
	}
	most := 0
	for _, id := range g.ids {
		most = max(most, len(id))
	}
	return most
}

// longest returns how many characters a number of the group takes at most.
func (e *expression) longest(g *group) int {
	low, high := int64(0), int64(g.count-1)
	if e.name == "number" {
		low, high = g.number(0), g.number(g.count-1)
	}
	for _, op := range e.ops {
		var ok bool
		if low, high, ok = op.bounds(low, high); !ok {
			low, high = math.MinInt64, math.MaxInt64 // it wraps around
		}
	}
	base := 10
	if e.hex {
		base = 16
	}
	return max(len(appendPadded(nil, low, e.width, base)), len(appendPadded(nil, high, e.width, base)), signed(low, high, e.width, base))
}

// signed is the length of -1 where it lies between two numbers of fewer digits.
func signed(low, high int64, width, base int) int {
	if low >= 0 || high < 0 {
		return 0
	}
	return len(appendPadded(nil, -1, width, base))
}

// bounds returns what an operation makes of all numbers from low to high. Every
// operation but the remainder keeps their order. It is not ok when the result
// does not fit.
func (o operation) bounds(low, high int64) (int64, int64, bool) {
	switch o.op {
	case '%':
		if low >= 0 && low/o.arg == high/o.arg {
			return low % o.arg, high % o.arg, true
		}
		return 0, o.arg - 1, true
	case '*':
		if bits.Len64(magnitude(low))+bits.Len64(uint64(o.arg)) > 63 || bits.Len64(magnitude(high))+bits.Len64(uint64(o.arg)) > 63 {
			return 0, 0, false
		}
	case '+', '-':
		if magnitude(low) > 1<<62 || magnitude(high) > 1<<62 { // o.arg has 31 bits
			return 0, 0, false
		}
	}
	return o.apply(low), o.apply(high), true
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

func (c *compiler) addNumber() { c.weight += 8 }

func (c *compiler) addWord() { c.weight += 4 }

// heaviest keeps the weight of the heaviest of several values of which a device
// has one.
type heaviest struct{ weight, most int }

func (c *compiler) choices() heaviest { return heaviest{weight: c.weight} }

// next begins another value. One that is never chosen weighs nothing.
func (h *heaviest) next(c *compiler, chosen bool) {
	if chosen {
		h.most = max(h.most, c.weight-h.weight)
	}
	c.weight = h.weight
}

func (h *heaviest) end(c *compiler) { c.weight = h.weight + h.most }
