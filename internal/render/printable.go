// Package render makes documents for people out of reports.
package render

import (
	"fmt"
	"strings"
	"unicode"
)

// Printable escapes what a terminal may take for an order, or what makes a text
// look like another: control characters, and those that turn the direction of
// writing or are not seen. They come from devices and hubs, whom nobody has to
// trust.
func Printable(text string) string {
	if strings.IndexFunc(text, unsafe) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !unsafe(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	return b.String()
}

// unsafe tells whether a character is not what it looks like on a terminal.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}
