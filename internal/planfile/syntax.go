package planfile

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// syntax turns an error of the YAML library into a finding. The library names
// a line at best, and not always the right one; how far it had read when it
// gave up shows the place better.
func (p *parser) syntax(text string, err error) {
	f := fault{problem: strings.TrimPrefix(err.Error(), "yaml: "), text: p.src.text, read: readUntilError(text)}
	if rest, ok := strings.CutPrefix(f.problem, "line "); ok {
		number, problem, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			f.line, f.problem = line, problem
		}
	}
	e := f.explain()
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
	rule          spec.Rule
	summary, hint string
}

// syntaxForm says in a plan author's words what a problem of the library is,
// and where to look for it.
type syntaxForm struct {
	problems      []string // parts of the library's texts
	place         func(fault) int
	summary, hint string
}

func syntaxForms() []syntaxForm {
	return []syntaxForm{
		{[]string{"mapping values are not allowed"}, lastOf(":"), `":" is not allowed here`, "put a value that holds a colon and a space in quotes, and check the indentation"},
		{[]string{"alphabetic or numeric character"}, lastOf("*", "&"), "a plain value cannot start with * or &", "put the value in quotes"},
		{[]string{"could not find expected ':'"}, fault.namedLine, `a key without ":"`, `a mapping takes one "key: value" a line`},
		{[]string{"expected ',' or"}, fault.openBracket, "this bracket or brace is not closed", "close it, or separate the values by commas"},
		{[]string{"expected key", "expected '-' indicator"}, fault.token, "this does not fit what stands around it", "check the indentation, and the quotes and brackets above"},
		{[]string{"end of stream", "document indicator"}, fault.openQuote, "this quote is not closed", "close it, and double a quote inside a value in single quotes"},
		{[]string{"escape"}, lastOf(`\`), "unknown escape in a double-quoted string", `use single quotes, or \\ for a backslash`},
		{[]string{"block sequence entries"}, lastOf("-"), "a list cannot start on the line of its key", "start it on the next line, or write it in [brackets]"},
		{[]string{"<document start>"}, fault.lastWord, "nothing may follow the end of the plan", ""},
		{[]string{"incompatible YAML document"}, lastOf("%"), "the plan asks for a version of YAML that is not supported", "remove the %YAML line"},
	}
}

func (f fault) explain() explanation {
	e := explanation{offset: f.token(), rule: spec.RuleSyntax, summary: "not YAML: " + f.problem}
	switch {
	case strings.Contains(f.problem, "cannot start any token"), strings.Contains(f.problem, "tab character"):
		e.offset, e.summary, e.hint = f.badStart()
		return e
	case strings.Contains(f.problem, "unknown anchor"):
		name := strings.Trim(strings.TrimSuffix(strings.TrimPrefix(f.problem, "unknown anchor "), " referenced"), "'")
		e.offset, e.summary = lastOf("*"+name)(f), fmt.Sprintf("there is no anchor &%s before this alias", spec.Clip(name))
		e.hint = "put a value that starts with * in quotes"
		return e
	case strings.Contains(f.problem, "expected ',' or") && f.reference() >= 0:
		e.offset, e.summary = f.reference(), "a ${...} between brackets or braces needs quotes"
		e.hint = `write "${var.floor}": YAML takes a bare { there for a mapping`
		return e
	case strings.Contains(f.problem, "exceeded max depth"):
		e.rule, e.summary = spec.RuleNesting, fmt.Sprintf("nested more than %d levels deep", maxDepth)
		return e
	}
	for _, form := range syntaxForms() {
		if slices.ContainsFunc(form.problems, func(p string) bool { return strings.Contains(f.problem, p) }) {
			e.offset, e.summary, e.hint = form.place(f), form.summary, form.hint
			break
		}
	}
	return e
}

// lastOf returns a place that is the last one of some words before the reader.
func lastOf(words ...string) func(fault) int {
	return func(f fault) int {
		at := 0
		for _, w := range words {
			at = max(at, strings.LastIndex(f.text[:f.read], w))
		}
		return at
	}
}

// namedLine returns the first word of the line that the library named.
func (f fault) namedLine() int {
	at := 0
	for range f.line - 1 {
		at += strings.IndexByte(f.text[at:], '\n') + 1
	}
	return at + len(f.text[at:]) - len(strings.TrimLeft(f.text[at:], " "))
}

func (f fault) lastWord() int {
	return max(len(strings.TrimRight(f.text[:f.read], " \t\r\n"))-1, 0)
}

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

// reference finds a ${ outside quotes that the reader stumbled over, or
// returns -1. The brace could open a key, so the reader looks on for its colon,
// to the end of the line and into the next.
func (f fault) reference() int {
	end := len(strings.TrimRight(f.text[:f.read], " \t\r\n"))
	for range 2 {
		start := strings.LastIndexByte(f.text[:end], '\n') + 1
		if at := bareReference(f.text[start:end]); at >= 0 {
			return start + at
		}
		end = max(start-1, 0)
	}
	return -1
}

func bareReference(line string) int {
	var quote byte
	for i := range len(line) - 1 {
		switch c := line[i]; {
		case quote == 0 && strings.HasPrefix(line[i:], "${"):
			return i
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	return -1
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
