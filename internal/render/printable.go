// Package render makes documents for people out of reports.
package render

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable escapes what a terminal may take for an order, or what makes a text
// look like another: control characters, and those that turn the direction of
// writing or are not seen. They come from devices and hubs, whom nobody has to
// trust. Inside a string of JSON the escapes mean what they stand for.
func Printable(text string) string { return string(escape(nil, text, unsafe)) }

// Lines is Printable for a text of several lines.
func Lines(text string) string { return string(escape(nil, text, unsafeInLines)) }

// unsafe tells whether a character is not what it looks like on a terminal.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

func unsafeInLines(r rune) bool { return r != '\n' && r != '\t' && unsafe(r) }

func escape(b []byte, text string, unsafe func(rune) bool) []byte {
	for {
		i := strings.IndexFunc(text, unsafe)
		if i < 0 {
			return append(b, text...)
		}
		b = append(b, text[:i]...)
		r, size := utf8.DecodeRuneInString(text[i:])
		if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			b = appendUnit(appendUnit(b, high), low)
		} else {
			b = appendUnit(b, r)
		}
		text = text[i+size:]
	}
}

func appendUnit(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// Escaper passes on what is written to it as [Lines] would have it. Documents in
// JSON stay what they are, because JSON has no such characters outside of texts.
type Escaper struct {
	Out  io.Writer
	rest []byte // the beginning of a character whose end is to come
}

// Write passes p on, less the beginning of a character at its end.
func (e *Escaper) Write(p []byte) (int, error) {
	n := len(p)
	if len(e.rest) > 0 {
		p = append(e.rest, p...)
	}
	whole := len(p) - unfinished(p)
	e.rest = append([]byte(nil), p[whole:]...)
	if _, err := e.Out.Write(safe(p[:whole])); err != nil {
		return 0, err
	}
	return n, nil
}

// unfinished returns how many bytes at the end of p begin a character that goes
// on beyond it.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if utf8.RuneStart(p[len(p)-n]) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// safe returns p with what is unsafe escaped. Nearly all of what we write is
// plain ASCII, and is not copied.
func safe(p []byte) []byte {
	for _, c := range p {
		if c >= utf8.RuneSelf || c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return escape(make([]byte, 0, len(p)+16), string(p), unsafeInLines)
		}
	}
	return p
}
