package planfile

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// MaxSize is the largest plan that is read.
const MaxSize = 5 << 20

// maxValues bounds the values of a plan, so that a hostile file of tiny ones
// is refused before it costs seconds. It leaves room for 30,000 jobs.
const maxValues = 500_000

// source is the text of a plan, by line. Lines end where YAML 1.1 ends them.
type source struct {
	name    string
	text    string
	starts  []int // offset of each line
	secrets foundSecrets
}

func newSource(name, text string) *source {
	s := &source{name: name, text: text, starts: []int{0}}
	for i := 0; i < len(text); {
		n := lineBreak(text[i:])
		if n == 0 {
			i++
			continue
		}
		i += n
		s.starts = append(s.starts, i)
	}
	return s
}

// lineBreak returns the length of the line break at the start of text, or 0.
func lineBreak(text string) int {
	switch {
	case strings.HasPrefix(text, "\r\n"):
		return 2
	case text[0] == '\n', text[0] == '\r':
		return 1
	case text[0] < utf8.RuneSelf:
		return 0
	case strings.HasPrefix(text, "\u0085"):
		return 2
	case strings.HasPrefix(text, "\u2028"), strings.HasPrefix(text, "\u2029"):
		return 3
	}
	return 0
}

// line returns line n, counted from 1, without its break.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.starts) {
		return ""
	}
	text := s.text[s.starts[n-1]:]
	if n < len(s.starts) {
		text = text[:s.starts[n]-s.starts[n-1]]
	}
	return strings.TrimRight(text, "\r\n\u0085\u2028\u2029")
}

// pos returns the position of a byte offset.
func (s *source) pos(offset int) spec.Pos {
	line := sort.SearchInts(s.starts, offset+1)
	return spec.Pos{Line: line, Column: utf8.RuneCountInString(s.text[s.starts[line-1]:offset]) + 1}
}

// offset returns the byte offset of a position, at most the end of its line.
func (s *source) offset(p spec.Pos) int {
	at := s.starts[p.Line-1]
	line := s.line(p.Line)
	for range p.Column - 1 {
		if line == "" {
			break
		}
		_, n := utf8.DecodeRuneInString(line)
		line, at = line[n:], at+n
	}
	return at
}

// clamp moves a position into the text. The YAML library is right in all cases
// we know; a caret outside the file is not worth trusting it.
func (s *source) clamp(p spec.Pos) spec.Pos {
	p.Line = min(max(p.Line, 1), len(s.starts))
	p.Column = min(max(p.Column, 1), utf8.RuneCountInString(s.line(p.Line))+1)
	return p
}

func (s *source) nodePos(n *yaml.Node) spec.Pos {
	return s.clamp(spec.Pos{Line: n.Line, Column: n.Column})
}

// nodeEnd returns the column after a scalar or alias that stands on one line,
// or 0.
func (s *source) nodeEnd(n *yaml.Node) int {
	p := s.nodePos(n)
	rest := s.text[s.offset(p):]
	switch {
	case n.Kind == yaml.AliasNode:
		return p.Column + 1 + utf8.RuneCountInString(n.Value)
	case n.Kind != yaml.ScalarNode:
		return 0
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		return s.quotedEnd(p, rest)
	case n.Style == 0 && n.Anchor == "" && strings.HasPrefix(rest, n.Value):
		return p.Column + utf8.RuneCountInString(n.Value)
	}
	return 0
}

// quotedEnd finds the closing quote of a quoted scalar on the line of p.
func (s *source) quotedEnd(p spec.Pos, rest string) int {
	line := rest[:min(len(rest), s.starts[p.Line-1]+len(s.line(p.Line))-(len(s.text)-len(rest)))]
	if line == "" || line[0] != '"' && line[0] != '\'' {
		return 0
	}
	column, escaped := p.Column, false
	for i, r := range line {
		column++
		switch {
		case i == 0:
		case escaped:
			escaped = false
		case line[0] == '"' && r == '\\':
			escaped = true
		case byte(r) == line[0] && r < utf8.RuneSelf:
			return column
		}
	}
	return 0
}

// checkBytes refuses what YAML does not allow in a stream, and what would cost
// too much to look at. It reports the first such byte.
func (p *parser) checkBytes(size int) bool {
	if size > MaxSize {
		p.report(spec.Pos{Line: 1, Column: 1}, spec.RuleFileSize, fmt.Sprintf("the plan has %d bytes", size),
			fmt.Sprintf("a plan may have %d bytes (5 MB); keep device lists in files of their own", MaxSize))
		return false
	}
	values := 0
	for i, r := range p.src.text {
		if r >= 0x7F || r < 0x20 && r != '\n' && r != '\t' {
			if !p.checkRune(i, r) {
				return false
			}
		} else if r == ',' || r == '\n' || r == '[' || r == '{' || r == ':' {
			values++
		}
	}
	if values > 2*maxValues {
		p.report(spec.Pos{Line: 1, Column: 1}, spec.RuleFileSize, "the plan has too many values",
			fmt.Sprintf("a plan may have about %d values; keep device lists in files of their own", maxValues))
		return false
	}
	return true
}

// checkRune looks at a character that is not plain ASCII and refuses one that
// must not stand in a plan.
func (p *parser) checkRune(i int, r rune) bool {
	const escape = "remove it, or write it as an escape in a double-quoted string"
	switch rest := p.src.text[i:]; {
	case r == utf8.RuneError && !strings.HasPrefix(rest, "\uFFFD"):
		p.report(p.src.pos(i), spec.RuleEncoding, fmt.Sprintf("byte 0x%02x is not UTF-8", rest[0]), "save the plan as UTF-8")
		return false
	case strings.HasPrefix(rest, "\r\n"):
		return true
	case lineBreak(rest) > 0: // for YAML 1.1, and not for most editors and reviews: what follows it in a comment would be sent
		p.report(p.src.pos(i), spec.RuleEncoding, fmt.Sprintf("character %U ends a line for YAML, and for few editors", r), escape+"; end lines with a line feed")
		return false
	case !allowedInYAML(r):
		p.report(p.src.pos(i), spec.RuleEncoding, fmt.Sprintf("control character %U", r), escape)
		return false
	case invisible(r):
		p.report(p.src.pos(i), spec.RuleHidden, fmt.Sprintf("character %U is invisible: the text may not be what it looks like", r), escape)
	}
	return true
}

func allowedInYAML(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7F && r < 0xA0, r == 0xFFFE, r == 0xFFFF, r == 0xFEFF:
		return false
	}
	return true
}

// invisible tells whether a character cannot be seen and changes how the text
// around it is read: directional marks, embeddings, overrides and isolates,
// spaces without width, fillers and tags. The joiners that scripts and emoji are
// written with are not among them.
func invisible(r rune) bool {
	switch r {
	case 0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x200B, 0x200E, 0x200F, 0x3164, 0xFFA0:
		return true
	}
	return r >= 0x202A && r <= 0x202E || r >= 0x2060 && r <= 0x206F || r >= 0xE0000 && r <= 0xE007F
}
