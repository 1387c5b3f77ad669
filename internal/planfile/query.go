package planfile

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"iothub-runner/internal/twinquery"
	"iothub-runner/spec"
)

// query checks the query of a target and notes what it asks for.
func (p *parser) query(t *targetSection) {
	n := t.query
	text, origin, ok := p.queryText(n)
	if !ok {
		return
	}
	t.found.text, t.found.origin = strings.TrimSpace(text), origin
	switch trimmed := strings.TrimSpace(text); {
	case trimmed == "":
		p.at(n, spec.RuleTarget, "the query is empty", "write a condition, or all: true in the long form for the whole hub")
	case trimmed == "*":
		p.at(n, spec.RuleTarget, "* does not select devices here", "write target: {all: true} for the whole hub")
	case twinquery.IsSelect(text):
		p.selectQuery(t, text)
	default:
		c, err := twinquery.ParseCondition(text)
		if err != nil {
			p.queryError(t, err)
			return
		}
		t.found.where = trimmed
		p.condition(t, c)
	}
}

// selectQuery takes a whole SELECT, of which a target uses the source, TOP and
// the condition.
func (p *parser) selectQuery(t *targetSection, text string) {
	q, err := twinquery.Parse(text)
	if err != nil {
		p.queryError(t, err)
		return
	}
	t.found.top = q.Top
	switch q.Source {
	case twinquery.Devices:
	case twinquery.Modules:
		t.found.source = spec.SourceModules
	case twinquery.Jobs:
		p.at(t.query, spec.RuleTarget, "a target cannot select from devices.jobs", "select from devices or devices.modules")
		return
	}
	if q.GroupBy != nil || selectsValues(q) {
		p.at(t.query, spec.RuleTarget, "a target selects devices, not values", "write SELECT * FROM "+q.Source.String()+" WHERE ...")
		return
	}
	if q.Where == nil {
		if !t.selectsAll() {
			p.at(t.query, spec.RuleTarget, "the query selects the whole hub", "add a WHERE, or say so with all: true in the long form")
		}
		return
	}
	t.found.where = strings.TrimSpace(q.WhereText)
	p.condition(t, q.Where)
}

// selectsValues tells whether a projection asks for more than ids.
func selectsValues(q *twinquery.Query) bool {
	for _, item := range q.Items {
		if item.Aggregate != twinquery.NoAggregate || len(item.Path.Segments) != 1 {
			return true
		}
		if name := item.Path.Segments[0]; name != "deviceId" && name != "moduleId" {
			return true
		}
	}
	return false
}

func (p *parser) queryError(t *targetSection, err error) {
	var at *twinquery.Error
	if !errors.As(err, &at) {
		p.at(t.query, spec.RuleQuery, err.Error(), "")
		return
	}
	p.inQuery(t.query, spec.RuleQuery, t.found.place(at))
}

// condition finds what a condition that the hub takes can hardly mean.
func (p *parser) condition(t *targetSection, c *twinquery.Condition) {
	if c.Constant() { // such as 1 = 1, which would select the whole hub unseen
		hint := "compare a property, as in tags.building = 43, or say all: true in the long form for the whole hub"
		if spec.HasPlaceholder(deref(t.query).Value) {
			hint = "a variable stands for one value, never for a condition: write tags.building = ${var.building}"
		}
		p.at(t.query, spec.RuleTarget, "the condition looks at no property of a device", hint)
	} else if c.Always() {
		p.at(t.query, spec.RuleTarget, "the condition is true of every device", "say all: true in the long form for the whole hub")
	}
	for _, w := range c.Warnings() {
		p.inQuery(t.query, spec.RuleQueryName, t.found.place(w))
	}
	if never := c.Contradiction(); never != nil {
		p.inQuery(t.query, spec.RuleQueryNever, t.found.place(never))
	}
}

// place moves an error from the query as it is sent to the text of the plan.
func (q queryTarget) place(e *twinquery.Error) *twinquery.Error {
	moved := *e
	moved.Offset, moved.End = q.origin(e.Offset), q.origin(e.End)
	return &moved
}

// inQuery reports a finding inside the text of a query.
func (p *parser) inQuery(n *yaml.Node, rule spec.Rule, e *twinquery.Error) {
	v := deref(n)
	from, ok := p.src.inside(v, e.Offset)
	if !ok {
		p.at(n, rule, e.Message, e.Hint)
		return
	}
	d := p.report(from, rule, e.Message, e.Hint)
	if to, ok := p.src.inside(v, e.End); ok && to.Line == from.Line && to.Column > from.Column {
		d.EndColumn = to.Column
	}
}

// inside returns where in the file the character at a byte offset of a
// scalar's value stands. Quotes, escapes, folding and indentation make value
// and file differ; the two are walked side by side.
func (s *source) inside(n *yaml.Node, offset int) (spec.Pos, bool) {
	at := s.offset(s.nodePos(n))
	raw := s.text[at:]
	skipped := len(raw)
	for strings.HasPrefix(raw, "&") || strings.HasPrefix(raw, "!") { // anchor and tag
		raw = strings.TrimLeft(raw[len(firstWord(raw)):], " ")
	}
	value := n.Value
	a := alignment{raw: raw, quote: n.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle)}
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		a.pos = strings.IndexByte(raw, '\n') + 1
		a.skipSpace()
		body := strings.TrimLeft(value, " \n")
		offset = max(offset-(len(value)-len(body)), 0)
		value = body
	case a.quote != 0:
		a.pos = 1
	}
	if !a.advance(value[:min(offset, len(value))]) {
		return spec.Pos{}, false
	}
	return s.pos(at + skipped - len(raw) + a.pos), true
}

func firstWord(s string) string {
	if i := strings.IndexAny(s, " \t\r\n"); i >= 0 {
		return s[:i]
	}
	return s
}

// alignment walks the raw text of a scalar along its value.
type alignment struct {
	raw   string
	pos   int
	quote yaml.Style
}

// advance steps past the raw form of value; false if the two do not agree.
func (a *alignment) advance(value string) bool {
	for i := 0; i < len(value); {
		if value[i] == ' ' || value[i] == '\n' {
			if !a.atSpace() && !a.escape() {
				return false
			}
			i += len(value[i:]) - len(strings.TrimLeft(value[i:], " \n"))
			a.skipSpace()
			continue
		}
		r, n := utf8.DecodeRuneInString(value[i:])
		if !a.step(r) {
			return false
		}
		i += n
	}
	return true
}

// step moves past one character that is not white space.
func (a *alignment) step(r rune) bool {
	if a.quote == yaml.DoubleQuotedStyle && a.pos < len(a.raw) && a.raw[a.pos] == '\\' {
		return a.escape()
	}
	got, n := utf8.DecodeRuneInString(a.raw[a.pos:])
	if got != r {
		return false
	}
	a.pos += n
	if r == '\'' && a.quote == yaml.SingleQuotedStyle {
		a.pos++ // the second of a pair
	}
	return a.pos <= len(a.raw)
}

// escape moves past an escape of a double-quoted text.
func (a *alignment) escape() bool {
	if a.quote != yaml.DoubleQuotedStyle || a.pos+1 >= len(a.raw) || a.raw[a.pos] != '\\' {
		return false
	}
	width := 2
	switch a.raw[a.pos+1] {
	case 'x':
		width = 4
	case 'u':
		width = 6
	case 'U':
		width = 10
	}
	a.pos += width
	return a.pos <= len(a.raw)
}

func (a *alignment) atSpace() bool {
	return a.pos < len(a.raw) && strings.IndexByte(" \t\r\n", a.raw[a.pos]) >= 0
}

func (a *alignment) skipSpace() {
	for a.atSpace() {
		a.pos++
	}
}

// checkQueryLength measures the query as it is sent: the hub counts what comes
// before the condition, too.
func (p *parser) checkQueryLength(t *targetSection, j *spec.Job) {
	if n := utf8.RuneCountInString(j.Target.Query(j.Columns())); n > twinquery.MaxLength {
		p.at(t.query, spec.RuleQueryLength, "the query has "+strconv.Itoa(n)+" characters as it is sent, with its SELECT",
			"the hub takes "+strconv.Itoa(twinquery.MaxLength)+"; split the job, or list devices by id")
	}
}
