package fleet

import "strings"

// An idPattern makes ids from numbers and numbers from ids: a prefix, a number
// of at least width digits, a suffix.
type idPattern struct {
	prefix, suffix string
	width          int
}

// append appends the id with the given number.
func (p idPattern) append(dst []byte, number int64) []byte {
	dst = append(dst, p.prefix...)
	dst = appendPadded(dst, number, p.width, 10)
	return append(dst, p.suffix...)
}

// number returns the number in an id, if the id is exactly what append makes
// of it: "door-7" is not the seventh of "door-%03d".
func (p idPattern) number(id []byte) (int64, bool) {
	if len(id) <= len(p.prefix)+len(p.suffix) ||
		string(id[:len(p.prefix)]) != p.prefix || string(id[len(id)-len(p.suffix):]) != p.suffix {
		return 0, false
	}
	digits := id[len(p.prefix) : len(id)-len(p.suffix)]
	if len(digits) < p.width || len(digits) > maxDigits {
		return 0, false
	}
	if len(digits) > max(p.width, 1) && digits[0] == '0' {
		return 0, false
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// maxDigits keeps the numbers of a pattern within an int64.
const maxDigits = 18

// maxID is the hub's limit for ids.
const maxID = 128

// idChar reports whether the hub takes c in a device or module id.
func idChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("-:.+%_#*?!(),=@;$'", c) >= 0
}

// apart reports whether two groups cannot share an id, for a reason that needs
// no look at the ids: one prefix must begin the other, one suffix must end the
// other, and equal patterns must count through the same numbers.
func (g *group) apart(h *group) bool {
	p, q := g.pattern, h.pattern
	if p.prefix == q.prefix && p.suffix == q.suffix {
		return g.start+int64(g.count) <= h.start || h.start+int64(h.count) <= g.start
	}
	begins := strings.HasPrefix(p.prefix, q.prefix) || strings.HasPrefix(q.prefix, p.prefix)
	ends := strings.HasSuffix(p.suffix, q.suffix) || strings.HasSuffix(q.suffix, p.suffix)
	return !begins || !ends
}
