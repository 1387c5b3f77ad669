package core

import (
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// maxJSONDepth bounds nesting before any recursive reader sees the text.
const maxJSONDepth = 200

// ValidJSON says whether b is one JSON value in valid UTF-8 of bounded depth.
func ValidJSON(b []byte) bool {
	return utf8.Valid(b) && jsonDepth(b) <= maxJSONDepth && gjson.ValidBytes(b)
}

func jsonDepth(b []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// FirstByte is the first one that is no white space, 0 if there is none.
func FirstByte(b []byte) byte {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}
