// Package wire writes JSON the way the hub does.
package wire

import (
	"encoding/json"
	"time"
)

// String writes s as a JSON string, with nothing escaped that need not be.
func String(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return Escaped(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// Escaped writes s as a JSON string, whatever is in it.
func Escaped(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // broken UTF-8 becomes U+FFFD: the answer stays JSON
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}

// JSON writes a value that encoding/json cannot refuse.
func JSON(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("emulator: a wire type that does not encode: " + err.Error())
	}
	return append(dst, b...)
}

// Time writes a time as .NET does: seven digits of a second.
func Time(dst []byte, unixNano int64) []byte {
	return time.Unix(0, unixNano).UTC().AppendFormat(dst, "2006-01-02T15:04:05.0000000Z")
}

// Strings writes texts as a JSON array.
func Strings(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = String(dst, text)
	}
	return append(dst, ']')
}
