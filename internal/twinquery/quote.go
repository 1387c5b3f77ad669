package twinquery

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Quote returns s as a string literal of the query language, in single
// quotes. Bytes that are not UTF-8 become U+FFFD, since no literal can hold
// them.
func Quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('\'')
	b.WriteString(Escape(s))
	b.WriteByte('\'')
	return b.String()
}

// Escape returns s as it stands between the quotes of a string literal,
// whichever quotes those are.
func Escape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		switch {
		case r == '\'' || r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// quoteSegment returns a key as one segment of a path.
func quoteSegment(s string) string {
	if isPlainName(s) && !isKeyword(s) {
		return s
	}
	return "[[" + s + "]]"
}

func isPlainName(s string) bool {
	for i, r := range s {
		if !isNameRune(r) || i == 0 && isDigit(r) {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}
