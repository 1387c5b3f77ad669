package spec

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// syntax turns an error of the YAML library into a finding. The library names
// a line at best, and not always the right one; how far it had read when it
// gave up shows the place better.
func (p *parser) syntax(err error) {
	f := fault{problem: strings.TrimPrefix(err.Error(), "yaml: "), text: p.src.text, read: readUntilError(p.src.text)}
	if rest, ok := strings.CutPrefix(f.problem, "line "); ok {
		number, problem, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			f.line, f.problem = line, problem
		}
	}
	e := f.explain(p.src)
	p.report(p.src.pos(min(e.offset, len(p.src.text))), e.rule, e.summary, e.hint)
}

// oneByte hands a text out byte by byte and counts: what was read when the
// library gave up is the fault and the few characters it looks ahead.
type oneByte struct {
	text string
	read int
}

func (r *oneByte) Read(b []byte) (int, error) {
	if r.read == len(r.text) {
		return 0, io.EOF
	}
	b[0] = r.text[r.read]
	r.read++
	return 1, nil
}

func readUntilError(text string) int {
	r := &oneByte{text: text}
	dec := yaml.NewDecoder(r)
	for {
		if _, err := decode(dec); err != nil {
			return r.read
		}
	}
}

// fault is what is known of a syntax error.
type fault struct {
	problem string // in the library's words
	text    string
	read    int // how much of the text it had read
	line    int // that it named, or 0
}

type explanation struct {
	offset        int
	rule          Rule
	summary, hint string
}

// explain says in a plan author's words what the problem is, and where.
func (f fault) explain(src *source) explanation {
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(f.problem, w) {
				return true
			}
		}
		return false
	}
	e := explanation{offset: f.token(), rule: RuleSyntax}
	switch {
	case says("cannot start any token", "tab character"):
		e.offset, e.summary, e.hint = f.badStart()
	case says("mapping values are not allowed"):
		e.offset = f.last(":")
		e.summary, e.hint = `":" is not allowed here`, "put a value that holds a colon and a space in quotes, and check the indentation"
	case says("unknown anchor"):
		name := strings.Trim(strings.TrimSuffix(strings.TrimPrefix(f.problem, "unknown anchor "), " referenced"), "'")
		e.offset = f.last("*" + name)
		e.summary, e.hint = fmt.Sprintf("there is no anchor &%s before this alias", clip(name)), "put a value that starts with * in quotes"
	case says("alphabetic or numeric character"):
		e.offset = max(f.last("*"), f.last("&"))
		e.summary, e.hint = "a plain value cannot start with * or &", "put the value in quotes"
	case says("could not find expected ':'"):
		e.offset = src.offset(src.clamp(Pos{max(f.line, 1), 1}))
		e.offset += len(src.text[e.offset:]) - len(strings.TrimLeft(src.text[e.offset:], " "))
		e.summary, e.hint = `a key without ":"`, `a mapping takes one "key: value" a line`
	case says("expected ',' or"):
		e.offset = f.openBracket()
		e.summary, e.hint = "this bracket or brace is not closed", "close it, or separate the values by commas"
	case says("did not find expected key", "expected '-' indicator"):
		e.summary, e.hint = "this does not fit what stands around it", "check the indentation, and the quotes and brackets above"
	case says("unexpected end of stream", "unexpected document indicator"):
		e.offset = f.openQuote()
		e.summary, e.hint = "this quote is not closed", "close it, and double a quote inside a value in single quotes"
	case says("exceeded max depth"):
		e.rule, e.summary = RuleNesting, fmt.Sprintf("nested more than %d levels deep", maxDepth)
	case says("escape"):
		e.offset = f.last("\\")
		e.summary, e.hint = "unknown escape in a double-quoted string", `use single quotes, or \\ for a backslash`
	case says("block sequence entries"):
		e.offset = f.last("-")
		e.summary, e.hint = "a list cannot start on the line of its key", "start it on the next line, or write it in [brackets]"
	case says("<document start>"):
		e.offset = max(len(strings.TrimRight(f.text[:f.read], " \t\r\n"))-1, 0)
		e.summary = "nothing may follow the end of the plan"
	case says("incompatible YAML document"):
		e.offset = f.last("%")
		e.summary, e.hint = "the plan asks for a version of YAML that is not supported", "remove the %YAML line"
	default:
		e.summary = "not YAML: " + f.problem
	}
	return e
}

// last returns the last place of a word before the reader.
func (f fault) last(word string) int { return max(strings.LastIndex(f.text[:f.read], word), 0) }

// badStart finds the character that no plain value starts with; the reader
// looks at most four characters ahead of it.
func (f fault) badStart() (offset int, summary, hint string) {
	from := max(f.read-5, 0)
	at := from + strings.IndexAny(f.text[from:f.read], "\t@`%")
	if at < from {
		return f.token(), "a plain value cannot start with this character", "put the value in quotes"
	}
	if f.text[at] == '\t' {
		return at, "a tab stands where YAML wants spaces", "indent with spaces"
	}
	r, _ := utf8.DecodeRuneInString(f.text[at:])
	return at, fmt.Sprintf("a plain value cannot start with %q", r), "put the value in quotes"
}

// token returns the first word of the line that the reader was in.
func (f fault) token() int {
	end := len(strings.TrimRight(f.text[:f.read], " \t\r\n"))
	start := strings.LastIndexByte(f.text[:max(end-1, 0)], '\n') + 1
	return start + len(f.text[start:end]) - len(strings.TrimLeft(f.text[start:end], " "))
}

// openBracket finds the innermost bracket or brace that is open where the
// reader was. Brackets in quotes are not told apart: this guides the eye.
func (f fault) openBracket() int {
	closed := 0
	for i := f.read - 1; i >= 0; i-- {
		switch f.text[i] {
		case ']', '}':
			closed++
		case '[', '{':
			if closed == 0 {
				return i
			}
			closed--
		}
	}
	return f.token()
}

// openQuote guesses the quote that is still open where the reader was: the
// last one that follows what can come before a value.
func (f fault) openQuote() int {
	for i := f.read - 1; i > 0; i-- {
		if (f.text[i] == '"' || f.text[i] == '\'') && strings.IndexByte(" [{,", f.text[i-1]) >= 0 {
			return i
		}
	}
	return 0
}
