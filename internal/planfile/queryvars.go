package planfile

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/internal/twinquery"
	"iothub-runner/spec"
)

// queryText fills variables into a query. Each value becomes one literal: a
// text is quoted, or escaped if it stands inside quotes already, so that no
// value can change the structure of the query. The function maps an offset in
// the result back to one in the text of the plan.
func (p *parser) queryText(n *yaml.Node) (text string, origin func(int) int, ok bool) {
	v := deref(n)
	if !spec.HasPlaceholder(v.Value) {
		return v.Value, func(offset int) int { return offset }, true
	}
	pieces, ok := p.pieces(v)
	if !ok {
		return "", nil, false
	}
	var b strings.Builder
	starts := make([]int, len(pieces)) // of each piece in the result
	var at queryPlace
	for i, pc := range pieces {
		starts[i] = b.Len()
		if pc.Literal() {
			b.WriteString(pc.Text)
			at.advance(pc.Text)
			continue
		}
		next := ""
		if i+1 < len(pieces) {
			next = pieces[i+1].Text
		}
		literal, ok := p.queryValue(n, pc, at, next)
		if !ok {
			return "", nil, false
		}
		b.WriteString(literal)
		at.last = ')'
	}
	return b.String(), func(offset int) int { return pieceOrigin(pieces, starts, offset) }, true
}

// queryValue returns the literal that a placeholder becomes.
func (p *parser) queryValue(n *yaml.Node, pc spec.Piece, at queryPlace, next string) (string, bool) {
	if pc.OfDevice() {
		p.inText(n, pc.Offset, pc.End, "a target cannot use values of a device", "it is what selects the devices")
		return "", false
	}
	if !at.takesValue(next) {
		p.inText(n, pc.Offset, pc.End, "a variable stands for a whole value here", "set it off with spaces, or put it inside the quotes of a text")
		return "", false
	}
	value, ok := p.lookupVar(n, pc)
	if !ok {
		return "", false
	}
	if v := p.vars[pc.Path[0]]; v.sensitive() { // what selects devices is shown wherever a job is
		p.inText(n, pc.Offset, pc.End, fmt.Sprintf("variable %q is sensitive, and a target is shown", v.name), "use it in payload, desired or tags")
		return "", false
	}
	if v := p.vars[pc.Path[0]]; value.Value == "" && !v.mayBeEmpty() { // STARTSWITH(x, '') is the whole hub
		p.inText(n, pc.Offset, pc.End, fmt.Sprintf("variable %q is empty here, which can select far more than is meant", v.name), "give it a value, or say allowEmpty: true in its declaration")
		return "", false
	}
	switch {
	case at.quote != 0:
		return twinquery.Escape(value.Value), true
	case value.Tag == "!!str":
		return twinquery.Quote(value.Value), true
	}
	if number, problem := jsonNumber(value.Value); problem == "" && value.Tag != "!!bool" {
		return number, true // YAML takes .5 and 5. as well
	}
	return value.Value, true
}

// queryPlace is where in a query the text that was read ends.
type queryPlace struct {
	quote   byte // the quote that is open, or 0
	escaped bool // a backslash waits for its character
	bracket bool // inside [[ ]]
	last    byte
}

func (q *queryPlace) advance(text string) {
	for i := range len(text) {
		c := text[i]
		switch {
		case q.escaped:
			q.escaped = false
		case q.quote != 0 && c == '\\':
			q.escaped = true
		case q.quote != 0 && c == q.quote:
			q.quote = 0
		case q.quote != 0:
		case q.bracket:
			q.bracket = c != ']' || q.last != ']'
		case c == '\'' || c == '"':
			q.quote = c
		case c == '[' && q.last == '[':
			q.bracket = true
		}
		q.last = c
	}
}

// takesValue tells whether a value can stand here without growing together
// with what is around it.
func (q *queryPlace) takesValue(next string) bool {
	if q.quote != 0 {
		return !q.escaped
	}
	return !q.bracket && !namePart(q.last) && (next == "" || !namePart(next[0]))
}

func namePart(c byte) bool {
	return spec.Alphanumeric(c) || c >= 0x80 || c == '_' || c == '.' || c == '\'' || c == '"'
}

func pieceOrigin(pieces []spec.Piece, starts []int, offset int) int {
	i, exact := slices.BinarySearch(starts, offset)
	if !exact {
		i--
	}
	if i < 0 || i >= len(pieces) {
		return 0
	}
	if !pieces[i].Literal() {
		return pieces[i].Offset
	}
	return min(pieces[i].Offset+offset-starts[i], pieces[i].End)
}
