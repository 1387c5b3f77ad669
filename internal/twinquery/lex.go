package twinquery

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd     tokenKind = iota
	tokName              // a keyword, a function or a segment of a path
	tokEscaped           // [[segment]]; text is what stands between
	tokNumber
	tokString // text is the string it stands for
	tokSign   // an operator or a bracket
	tokBad    // not a token; err says why
)

type token struct {
	kind       tokenKind
	start, end int
	text       string
	num        float64
	err        *Error
}

func (t token) is(sign string) bool { return t.kind == tokSign && t.text == sign }

func (t token) isWord(keyword string) bool {
	return t.kind == tokName && asciiUpper(t.text) == keyword
}

// describe names a token for messages.
func (t token) describe() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokString:
		return "the string " + Quote(t.text)
	case tokNumber:
		return "the number " + t.text
	case tokEscaped:
		return "[[" + t.text + "]]"
	case tokName, tokSign, tokBad:
	}
	return fmt.Sprintf("%q", t.text)
}

// lexer cuts a text into tokens. A fault becomes a tokBad, the last token
// before the end, so that a fault of grammar further left is reported first.
type lexer struct {
	text   string
	pos    int
	tokens []token
}

func lex(text string) []token {
	l := lexer{text: text}
	for l.skipSpace(); l.pos < len(text); l.skipSpace() {
		t := l.next()
		l.tokens = append(l.tokens, t)
		if t.kind == tokBad {
			break
		}
		l.pos = t.end
	}
	return append(l.tokens, token{kind: tokEnd, start: len(text), end: len(text)})
}

func (l *lexer) skipSpace() {
	for l.pos < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.pos]) >= 0 {
		l.pos++
	}
}

func (l *lexer) next() token {
	rest := l.text[l.pos:]
	r, size := utf8.DecodeRuneInString(rest)
	switch {
	case r == utf8.RuneError && size == 1:
		return l.bad(1, "", "the text is not UTF-8 here")
	case r == '\'' || r == '"':
		return l.str()
	case isDigit(r):
		return l.number()
	case isNameRune(r):
		n := nameLength(rest)
		return token{kind: tokName, start: l.pos, end: l.pos + n, text: rest[:n]}
	case strings.HasPrefix(rest, "[[") && l.atSegment():
		return l.escaped()
	}
	return l.sign(rest, size)
}

// atSegment tells whether a name is due here: after a dot or AS. Elsewhere
// "[[" opens a list in a list.
func (l *lexer) atSegment() bool {
	if len(l.tokens) == 0 {
		return false
	}
	last := l.tokens[len(l.tokens)-1]
	return last.is(".") || last.isWord("AS")
}

func (l *lexer) escaped() token {
	inner := l.text[l.pos+2:]
	n := strings.Index(inner, "]]")
	if n < 0 {
		return l.bad(2, "close it with ]]", "[[ opens a segment that is never closed")
	}
	if n == 0 {
		return l.bad(4, "write the key between the brackets", "[[]] is an empty segment")
	}
	if !utf8.ValidString(inner[:n]) {
		return l.bad(n+4, "", "the segment is not UTF-8")
	}
	return token{kind: tokEscaped, start: l.pos, end: l.pos + n + 4, text: inner[:n]}
}

func (l *lexer) sign(rest string, size int) token {
	for _, s := range [...]string{"<>", "!=", "<=", ">="} {
		if strings.HasPrefix(rest, s) {
			return token{kind: tokSign, start: l.pos, end: l.pos + 2, text: s}
		}
	}
	for _, wrong := range wrongSigns() {
		if strings.HasPrefix(rest, wrong.sign) {
			return l.bad(len(wrong.sign), wrong.hint, "%s is not part of the query language", wrong.sign)
		}
	}
	if strings.IndexByte("()[].,*+-/%=<>", rest[0]) >= 0 {
		return token{kind: tokSign, start: l.pos, end: l.pos + 1, text: rest[:1]}
	}
	return l.bad(size, "a key with other characters is written [[key]]", "unexpected character %q", rest[:size])
}

func (l *lexer) bad(length int, hint, format string, args ...any) token {
	t := token{kind: tokBad, start: l.pos, end: l.pos + length}
	t.text = l.text[t.start:t.end]
	t.err = at(t, hint, format, args...)
	return t
}

func (l *lexer) number() token {
	rest := l.text[l.pos:]
	n := nameLength(rest)
	word := rest[:n]
	if len(word) > 1 && (word[:2] == "0x" || word[:2] == "0X") {
		return l.hex(word)
	}
	if strings.HasPrefix(rest[n:], ".") {
		n += 1 + nameLength(rest[n+1:])
		word = rest[:n]
	}
	whole, fraction, point := strings.Cut(word, ".")
	if !allDigits(whole) || point && !allDigits(fraction) {
		return l.bad(n, "write digits with at most one point, such as 43 or 0.5; a key that starts with a digit is written [[key]]",
			"%s is not a number", word)
	}
	f, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return l.bad(n, "", "the number is too large")
	}
	return token{kind: tokNumber, start: l.pos, end: l.pos + n, text: word, num: f}
}

func (l *lexer) hex(word string) token {
	u, err := strconv.ParseUint(word[2:], 16, 64)
	if err != nil {
		return l.bad(len(word), "write 0x and up to 16 digits 0-9, a-f", "%s is not a hexadecimal number", word)
	}
	return token{kind: tokNumber, start: l.pos, end: l.pos + len(word), text: word, num: float64(u)}
}

func (l *lexer) str() token {
	quote := l.text[l.pos]
	var b strings.Builder
	for i := l.pos + 1; i < len(l.text); {
		switch l.text[i] {
		case quote:
			end := i + 1
			if end < len(l.text) && l.text[end] == quote {
				return l.doubled(i, quote)
			}
			return token{kind: tokString, start: l.pos, end: end, text: b.String()}
		case '\\':
			n, bad := l.escape(&b, i)
			if bad != nil {
				return *bad
			}
			i += n
		default:
			r, size := utf8.DecodeRuneInString(l.text[i:])
			if r == utf8.RuneError && size == 1 {
				return l.badAt(i, i+1, "", "the text is not UTF-8 here")
			}
			b.WriteRune(r)
			i += size
		}
	}
	return l.bad(1, fmt.Sprintf("close it with %c", quote), "the string that starts here is never closed")
}

func (l *lexer) doubled(i int, quote byte) token {
	return l.badAt(i, i+2, fmt.Sprintf(`inside a string write \%c`, quote), "a quote is not escaped by doubling it")
}

func (l *lexer) badAt(start, end int, hint, message string) token {
	t := token{kind: tokBad, start: start, end: end, text: l.text[start:end]}
	t.err = at(t, hint, "%s", message)
	return t
}

// escape reads the escape at offset i into b and returns its length.
func (l *lexer) escape(b *strings.Builder, i int) (int, *token) {
	const hint = `the escapes are \' \" \\ and \u with four hexadecimal digits`
	rest := l.text[i:]
	if len(rest) > 1 {
		switch rest[1] {
		case '\'', '"', '\\':
			b.WriteByte(rest[1])
			return 2, nil
		case 'u':
			if r, ok := hex4(rest[2:]); ok {
				return l.unicode(b, r, rest), nil
			}
		}
	}
	_, size := utf8.DecodeRuneInString(rest[1:])
	bad := l.badAt(i, i+1+size, hint, "unknown escape in a string")
	return 0, &bad
}

// unicode writes the rune of a \u escape; two of them may be one rune.
func (l *lexer) unicode(b *strings.Builder, r rune, rest string) int {
	if utf16.IsSurrogate(r) && strings.HasPrefix(rest[6:], `\u`) {
		if low, ok := hex4(rest[8:]); ok {
			if both := utf16.DecodeRune(r, low); both != unicode.ReplacementChar {
				b.WriteRune(both)
				return 12
			}
		}
	}
	b.WriteRune(r) // a lone surrogate becomes U+FFFD
	return 6
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	u, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(u), err == nil
}

func nameLength(s string) int {
	for i, r := range s {
		if !isNameRune(r) {
			return i
		}
	}
	return len(s)
}

func isNameRune(r rune) bool {
	if r < utf8.RuneSelf {
		return r == '_' || r == '$' || isDigit(r) || 'a' <= r|0x20 && r|0x20 <= 'z'
	}
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

func allDigits(s string) bool {
	for _, r := range s {
		if !isDigit(r) {
			return false
		}
	}
	return s != ""
}

// asciiUpper folds the letters that keywords are made of and no others, so
// that a dotless i never spells IN.
func asciiUpper(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}
