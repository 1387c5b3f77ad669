package planfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// JSON is YAML, but for two escapes that its texts may have and the YAML library
// does not read: \/, and characters beyond U+FFFF as two halves, \ud83d\ude00.
// In a double-quoted text they mean what they mean in JSON.
//
// Where a text stands, only a reader of YAML can tell. So the plan is read twice
// if it holds such an escape at all: once with letters in the place of each, to
// find the texts, and once with escapes that the library knows, which are
// shorter; the columns after them are put right again.

// half is the length of an escape of four digits.
const half = len(`\ud83d`)

// jsonEscape returns the length of an escape of JSON's at the start of text, and
// what to write for it in YAML; the length is 0 if there is none. Half a
// character has no form.
func jsonEscape(text string) (length int, form string) {
	if strings.HasPrefix(text, `\/`) {
		return 2, "/"
	}
	high, ok := unit(text)
	if !ok || !utf16.IsSurrogate(high) {
		return 0, ""
	}
	low, ok := unit(text[half:])
	if r := utf16.DecodeRune(high, low); ok && r != utf8.RuneError {
		return 2 * half, fmt.Sprintf(`\U%08X`, r)
	}
	return half, ""
}

// unit reads an escape of four digits.
func unit(text string) (rune, bool) {
	if len(text) < half || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(text[2:half], 16, 16)
	return rune(n), err == nil
}

// eachEscape calls visit for each of JSON's escapes in a text, at its offset.
// A backslash that is escaped itself begins none.
func eachEscape(text string, visit func(at, length int, form string)) {
	for i := strings.IndexByte(text, '\\'); i >= 0 && i < len(text); {
		length, form := jsonEscape(text[i:])
		if length > 0 {
			visit(i, length, form)
			i += length
		} else {
			i += 2 // the backslash and what it escapes
		}
		next := strings.IndexByte(text[min(i, len(text)):], '\\')
		if next < 0 {
			return
		}
		i += next
	}
}

// shift is how many columns a line lost from a column on.
type shift struct{ line, column, less int }

// jsonEscapes returns the text of the plan with JSON's escapes in a form that
// the library reads, and what that changes in its columns.
func (p *parser) jsonEscapes() (text string, shifts []shift) {
	text = p.src.text
	masked := []byte(text)
	found := false
	eachEscape(text, func(at, length int, _ string) {
		found = true
		for i := range length {
			masked[at+i] = 'x'
		}
	})
	if !found {
		return text, nil
	}
	doc, err := decode(yaml.NewDecoder(strings.NewReader(string(masked))))
	if err != nil {
		return string(masked), nil // it is no YAML in any case; what is wrong stands where it does in the plan
	}
	var b strings.Builder
	done := 0
	p.eachQuoted(doc, func(from, to int) {
		eachEscape(text[from:to], func(at, length int, form string) {
			at += from
			pos := p.src.pos(at)
			if form == "" {
				p.report(pos, spec.RuleEncoding, fmt.Sprintf("%s is half a character", text[at:at+length]), `a character beyond U+FFFF is written as two halves, as in "\ud83d\ude00"`)
				form = `\uFFFD`
			}
			b.WriteString(text[done:at] + form)
			done = at + length
			shifts = append(shifts, shift{line: pos.Line, column: pos.Column, less: length - len(form)})
		})
	})
	return b.String() + text[done:], shifts
}

// eachQuoted calls visit for each double-quoted text of a document, in the order
// of the plan, with its offsets.
func (p *parser) eachQuoted(n *yaml.Node, visit func(from, to int)) {
	if n.Kind == yaml.ScalarNode && n.Style&yaml.DoubleQuotedStyle != 0 {
		if from, to, ok := p.src.quotedSpan(n); ok {
			visit(from, to)
		}
	}
	for _, c := range n.Content {
		p.eachQuoted(c, visit)
	}
}

// quotedSpan returns where a double-quoted text begins and ends, without its
// quotes. An anchor or a tag may come before it.
func (s *source) quotedSpan(n *yaml.Node) (from, to int, ok bool) {
	from = s.offset(s.nodePos(n))
	for from < len(s.text) && (s.text[from] == '&' || s.text[from] == '!') {
		from += len(firstWord(s.text[from:]))
		from += len(s.text[from:]) - len(strings.TrimLeft(s.text[from:], " \t\r\n"))
	}
	if from >= len(s.text) || s.text[from] != '"' {
		return 0, 0, false
	}
	from++
	for to = from; to < len(s.text); to++ {
		switch s.text[to] {
		case '"':
			return from, to, true
		case '\\':
			to++
		}
	}
	return 0, 0, false
}

// unshift puts the columns of a tree back to those of the plan.
func unshift(n *yaml.Node, shifts []shift) {
	if len(shifts) == 0 {
		return
	}
	byLine := map[int][]shift{}
	for _, s := range shifts {
		byLine[s.line] = append(byLine[s.line], s)
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for _, s := range byLine[n.Line] {
			if n.Column > s.column {
				n.Column += s.less
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(n)
}
