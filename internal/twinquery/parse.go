package twinquery

import (
	"math"
	"strings"
)

// maxDepth bounds how deep parentheses, lists and NOT may nest, so that a
// hostile text cannot exhaust the stack.
const maxDepth = 100

type parser struct {
	text     string
	tokens   []token
	i        int
	depth    int
	source   Source // 0 while a bare condition is read
	warnings []*Error
	paths    int // how many were read

	unknownCall *Error // the first call of a function that is not known
}

// Parse reads a whole SELECT. The error is an [*Error].
func Parse(text string) (*Query, error) {
	p := &parser{text: text, tokens: lex(text)}
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	return q, nil
}

// ParseCondition reads the part of a query that follows WHERE. The error is an
// [*Error].
func ParseCondition(text string) (*Condition, error) {
	p := &parser{text: text, tokens: lex(text)}
	c, err := p.bareCondition()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// IsSelect tells whether text is meant as a whole query rather than as a
// condition.
func IsSelect(text string) bool { return lex(text)[0].isWord("SELECT") }

func (p *parser) peek() token { return p.tokens[p.i] }

func (p *parser) peekSecond() token { return p.tokens[min(p.i+1, len(p.tokens)-1)] }

// take returns the token and steps past it; the end is never passed.
func (p *parser) take() token {
	t := p.tokens[p.i]
	if t.kind != tokEnd {
		p.i++
	}
	return t
}

func (p *parser) takeSign(sign string) bool {
	if p.peek().is(sign) {
		p.i++
		return true
	}
	return false
}

func (p *parser) takeWord(keyword string) bool {
	if p.peek().isWord(keyword) {
		p.i++
		return true
	}
	return false
}

// want reports that something else should stand where t is. A token that is
// none has its own story to tell.
func want(t token, what, hint string) *Error {
	if t.kind == tokBad {
		return t.err
	}
	if hint == "" && t.kind == tokName {
		hint = wordHint(t.text)
	}
	return at(t, hint, "expected %s, found %s", what, t.describe())
}

func (p *parser) bareCondition() (*Condition, *Error) {
	switch t := p.peek(); {
	case t.kind == tokEnd:
		return nil, at(t, "write a condition such as tags.building = 43", "the condition is empty")
	case t.isWord("WHERE"):
		return nil, at(t, "leave the word WHERE out", "a condition is the part after WHERE")
	case t.isWord("SELECT"), t.isWord("FROM"):
		return nil, at(t, "write only the part after WHERE", "a condition was expected, not a whole query")
	case t.is("*"):
		return nil, at(t, "", "* is not a condition")
	}
	c, err := p.condition()
	if err != nil {
		return nil, err
	}
	return c, p.end("AND, OR or the end of the condition")
}

func (p *parser) condition() (*Condition, *Error) {
	before := p.paths
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	return &Condition{root: root, warnings: p.warnings, constant: p.paths == before, unknown: p.unknownCall}, nil
}

func (p *parser) end(what string) *Error {
	t := p.peek()
	if t.kind == tokEnd {
		return nil
	}
	if t.is(")") {
		return at(t, "", "this parenthesis was never opened")
	}
	return want(t, what, "")
}

func (p *parser) query() (*Query, *Error) {
	if !p.takeWord("SELECT") {
		return nil, want(p.peek(), "SELECT", "a query is SELECT ... FROM devices WHERE ...")
	}
	q := &Query{}
	// Paths are read with the rules of the collection, which stands behind the
	// projection.
	p.source = p.findSource()
	if err := p.projection(q); err != nil {
		return nil, err
	}
	if !p.takeWord("FROM") {
		return nil, want(p.peek(), "FROM", "")
	}
	var err *Error
	if q.Source, err = p.collection(); err != nil {
		return nil, err
	}
	if err = p.where(q); err != nil {
		return nil, err
	}
	if err = p.groupBy(q); err != nil {
		return nil, err
	}
	if err = p.end("WHERE, GROUP BY or the end"); err != nil {
		return nil, err
	}
	return q, p.checkSelection(q)
}

// findSource looks ahead for FROM; 0 if there is none or it is not understood,
// which is reported when the parser gets there.
func (p *parser) findSource() Source {
	for i := range p.tokens {
		if p.tokens[i].isWord("FROM") {
			ahead := &parser{text: p.text, tokens: p.tokens, i: i + 1}
			source, err := ahead.collection()
			if err != nil {
				return 0
			}
			return source
		}
	}
	return 0
}

func (p *parser) projection(q *Query) *Error {
	if p.peek().isWord("TOP") {
		if err := p.top(q); err != nil {
			return err
		}
	}
	if star := p.peek(); p.takeSign("*") {
		if p.peek().is(",") {
			return at(star, "select * alone, or list the properties", "* cannot stand beside other items")
		}
		return nil
	}
	for {
		item, err := p.item()
		if err != nil {
			return err
		}
		q.Items = append(q.Items, item)
		if !p.takeSign(",") {
			return nil
		}
	}
}

func (p *parser) top(q *Query) *Error {
	p.take()
	n := p.take()
	const hint = "write SELECT TOP 10 ..."
	if n.kind == tokNumber && n.num >= 1 && n.num <= math.MaxInt32 && allDigits(n.text) {
		q.Top = int(n.num)
		return nil
	}
	if n.kind == tokNumber {
		return at(n, hint, "TOP takes a whole number from 1, not %s", n.text)
	}
	return want(n, "a whole number after TOP", hint)
}

func (p *parser) item() (Item, *Error) {
	var it Item
	t := p.peek()
	switch {
	case (t.isWord("DISTINCT") || t.isWord("VALUE")) && p.peekSecond().kind == tokName && !isKeyword(p.peekSecond().text):
		return it, at(t, "list the properties to select", "there is no SELECT %s", asciiUpper(t.text))
	case t.is("*"):
		return it, at(t, "select * alone, or list the properties", "* cannot stand beside other items")
	case t.kind == tokName && p.peekSecond().is("(") && !isKeyword(t.text):
		if err := p.aggregate(&it); err != nil {
			return it, err
		}
	default:
		path, err := p.path("a property, an aggregate or *")
		if err != nil {
			return it, err
		}
		it.Path = path
	}
	if !p.takeWord("AS") {
		return it, nil
	}
	name, err := p.segment("a name after AS")
	it.Alias = name.text
	return it, err
}

func (p *parser) aggregate(it *Item) *Error {
	const known = "the aggregates are COUNT(), AVG(path), SUM(path), MIN(path) and MAX(path)"
	name := p.take()
	it.Aggregate = aggregateNamed(name.text)
	if it.Aggregate == NoAggregate {
		return at(name, known, "%s is not an aggregate, and only aggregates may be selected", name.text)
	}
	p.take() // the parenthesis that the caller has seen
	if it.Aggregate == Count {
		if !p.takeSign(")") {
			return want(p.peek(), ") right after COUNT(", "COUNT() takes no argument on the hub")
		}
		return nil
	}
	path, err := p.path("the path of a property")
	if err != nil {
		return err
	}
	it.Path = path
	if !p.takeSign(")") {
		return want(p.peek(), ")", known)
	}
	return nil
}

func (p *parser) collection() (Source, *Error) {
	const hint = "the collections are devices, devices.modules and devices.jobs"
	t := p.take()
	if !t.isWord("DEVICES") {
		return 0, want(t, "a collection after FROM", hint)
	}
	if !p.takeSign(".") {
		return Devices, nil
	}
	switch t = p.take(); {
	case t.isWord("MODULES"):
		return Modules, nil
	case t.isWord("JOBS"):
		return Jobs, nil
	}
	return 0, want(t, "modules or jobs", hint)
}

func (p *parser) where(q *Query) *Error {
	if !p.takeWord("WHERE") {
		return nil
	}
	if t := p.peek(); t.kind == tokEnd || t.isWord("GROUP") {
		return at(t, "leave WHERE out to select everything", "the condition is empty")
	}
	start := p.peek().start
	c, err := p.condition()
	if err != nil {
		return err
	}
	q.Where = c
	q.WhereText = strings.TrimSpace(p.text[start:p.tokens[p.i-1].end])
	return nil
}

func (p *parser) groupBy(q *Query) *Error {
	group := p.peek()
	if !p.takeWord("GROUP") {
		return nil
	}
	if !p.takeWord("BY") {
		return want(p.peek(), "BY after GROUP", "")
	}
	path, err := p.path("the path of a property after GROUP BY")
	if err != nil {
		return err
	}
	if t := p.peek(); t.is(",") {
		return at(t, "group by one property", "GROUP BY takes one path")
	}
	if q.Source == Jobs {
		return at(group, "", "devices.jobs has no GROUP BY")
	}
	q.GroupBy = &path
	return nil
}
