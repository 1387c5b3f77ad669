package twinquery

// enter counts one level of nesting; the caller leaves it with p.depth--.
func (p *parser) enter(t token) *Error {
	if p.depth++; p.depth > maxDepth {
		return at(t, "", "the condition is nested more than %d levels deep", maxDepth)
	}
	return nil
}

// or reads terms joined by OR. Chains become one node, not a tower of nodes,
// so that their length does not deepen the recursion of eval and print.
func (p *parser) or() (node, *Error) { return p.chain("OR", p.and) }

func (p *parser) and() (node, *Error) { return p.chain("AND", p.not) }

func (p *parser) chain(word string, operand func() (node, *Error)) (node, *Error) {
	first, err := operand()
	if err != nil || !p.peek().isWord(word) {
		return first, err
	}
	terms := []node{first}
	for p.takeWord(word) {
		term, termErr := operand()
		if termErr != nil {
			return nil, termErr
		}
		terms = append(terms, term)
	}
	return &logic{isOr: word == "OR", terms: terms}, nil
}

func (p *parser) not() (node, *Error) {
	t := p.peek()
	if !p.takeWord("NOT") {
		return p.comparison()
	}
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	x, err := p.not()
	if err != nil {
		return nil, err
	}
	return &negation{x}, nil
}

func (p *parser) comparison() (node, *Error) {
	start := p.peek()
	left, err := p.sum()
	if err != nil {
		return nil, err
	}
	t := p.peek()
	switch {
	case t.isWord("IN"), t.isWord("NIN"):
		return p.membership(left, start)
	case t.isWord("NOT") && p.peekSecond().isWord("IN"):
		return nil, at(token{start: t.start, end: p.peekSecond().end}, "write NIN, or NOT path IN [...]", "there is no NOT IN")
	}
	op, ok := comparisonOf(t)
	if !ok {
		return left, nil
	}
	p.take()
	right, err := p.sum()
	if err != nil {
		return nil, err
	}
	if _, again := comparisonOf(p.peek()); again {
		return nil, at(p.peek(), "join two comparisons with AND", "a comparison cannot be compared again")
	}
	return &comparison{op: op, left: left, right: right}, nil
}

func comparisonOf(t token) (compareOp, bool) {
	if t.kind != tokSign {
		return 0, false
	}
	switch t.text {
	case "=":
		return opEqual, true
	case "!=", "<>":
		return opUnequal, true
	case "<":
		return opLess, true
	case "<=":
		return opAtMost, true
	case ">":
		return opGreater, true
	case ">=":
		return opAtLeast, true
	}
	return 0, false
}

func (p *parser) membership(left node, start token) (node, *Error) {
	word := p.take()
	path, ok := left.(*pathNode)
	if !ok {
		return nil, at(start, "write path IN ['a', 'b']", "%s needs the path of a property on its left", asciiUpper(word.text))
	}
	t := p.peek()
	if t.is("(") {
		return nil, at(t, "write IN ['a', 'b']", "the list of %s stands in square brackets, not in parentheses", asciiUpper(word.text))
	}
	if !t.is("[") {
		return nil, want(t, "a list in square brackets", "write IN ['a', 'b']")
	}
	items, err := p.list()
	if err != nil {
		return nil, err
	}
	return &membership{path: path, items: items, negated: word.isWord("NIN")}, nil
}

// list reads [constant, ...].
func (p *parser) list() ([]literal, *Error) {
	open := p.take()
	if err := p.enter(open); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if t := p.peek(); t.is("]") {
		return nil, at(token{start: open.start, end: t.end}, "name at least one value", "the list is empty")
	}
	var items []literal
	for {
		item, err := p.constant("a constant")
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if p.takeSign("]") {
			return items, nil
		}
		if !p.takeSign(",") {
			return nil, want(p.peek(), ", or ] in the list", "")
		}
	}
}

func (p *parser) sum() (node, *Error) { return p.arithmetic("+-", p.product) }

func (p *parser) product() (node, *Error) { return p.arithmetic("*/%", p.primary) }

func (p *parser) arithmetic(operators string, operand func() (node, *Error)) (node, *Error) {
	first, err := operand()
	if err != nil {
		return nil, err
	}
	var steps []step
	for {
		op, ok := operatorOf(p.peek(), operators)
		if !ok {
			break
		}
		p.take()
		x, stepErr := operand()
		if stepErr != nil {
			return nil, stepErr
		}
		steps = append(steps, step{op: op, x: x})
	}
	if steps == nil {
		return first, nil
	}
	return &arithmetic{first: first, steps: steps}, nil
}

func operatorOf(t token, operators string) (byte, bool) {
	if t.kind != tokSign || len(t.text) != 1 {
		return 0, false
	}
	for i := range len(operators) {
		if operators[i] == t.text[0] {
			return t.text[0], true
		}
	}
	return 0, false
}

func (p *parser) primary() (node, *Error) {
	t := p.peek()
	switch {
	case t.is("("):
		return p.parenthesised()
	case t.kind == tokName && p.peekSecond().is("(") && !isKeyword(t.text):
		return p.call()
	case t.kind == tokName && !isKeyword(t.text):
		path, err := p.path("a value")
		if err != nil {
			return nil, err
		}
		return &pathNode{path: path}, nil
	case t.isWord("NOT"):
		return nil, at(t, "put parentheses around NOT and what it negates", "NOT cannot stand here")
	}
	c, err := p.constant("a property, a constant or (")
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (p *parser) parenthesised() (node, *Error) {
	open := p.take()
	if err := p.enter(open); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	switch t := p.peek(); {
	case t.is(")"):
		p.take()
		return x, nil
	case t.kind == tokEnd:
		return nil, at(open, "close it with )", "this parenthesis is never closed")
	case t.is(","):
		return nil, at(t, "a list stands in square brackets", "unexpected comma")
	default:
		return nil, want(t, ")", "")
	}
}

func (p *parser) constant(what string) (literal, *Error) {
	t := p.peek()
	switch {
	case t.is("["):
		items, err := p.list()
		return literal{list: items}, err
	case t.is("-"):
		p.take()
		n := p.take()
		if n.kind != tokNumber {
			return literal{}, want(n, "a number after the minus sign", "to negate a property write 0 - path")
		}
		return literal{v: NumberValue(-n.num)}, nil
	case t.kind == tokNumber:
		p.take()
		return literal{v: NumberValue(t.num)}, nil
	case t.kind == tokString:
		p.take()
		return literal{v: StringValue(t.text)}, nil
	}
	if v, ok := wordValue(t); ok {
		p.take()
		return literal{v: v}, nil
	}
	return literal{}, want(t, what, constantHint(t))
}

func wordValue(t token) (Value, bool) {
	switch {
	case t.isWord("TRUE"):
		return BoolValue(true), true
	case t.isWord("FALSE"):
		return BoolValue(false), true
	case t.isWord("NULL"):
		return NullValue(), true
	case t.isWord("UNDEFINED"):
		return Value{}, true
	}
	return Value{}, false
}

func constantHint(t token) string {
	if t.kind == tokName && !isKeyword(t.text) {
		return "a string stands in quotes: " + Quote(t.text)
	}
	return ""
}

// call reads a function.
func (p *parser) call() (node, *Error) {
	name := p.take()
	open := p.take()
	if err := p.enter(open); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	switch asciiUpper(name.text) {
	case "IS_DEFINED":
		path, err := p.path("the path of a property in IS_DEFINED")
		if err != nil {
			return nil, err
		}
		return &defined{pathNode{path: path}}, p.closeCall("IS_DEFINED takes one path")
	case "STARTSWITH":
		return p.affix(false)
	case "ENDSWITH":
		return p.affix(true)
	case "ARRAY_CONTAINS":
		return p.containment()
	}
	if aggregateNamed(name.text) != NoAggregate {
		return nil, at(name, "aggregates stand between SELECT and FROM", "%s is an aggregate, not a function", name.text)
	}
	if hint := functionHint(name.text); hint != "" {
		return nil, at(name, hint, "the hub has no function %s for twins", name.text)
	}
	return p.unknown(name)
}

func (p *parser) affix(atEnd bool) (node, *Error) {
	f := &affix{atEnd: atEnd}
	usage := f.name() + " takes a path and a string: " + f.name() + "(tags.site, 'ab')"
	var err *Error
	if f.text, err = p.sum(); err != nil {
		return nil, err
	}
	if !p.takeSign(",") {
		return nil, want(p.peek(), "a comma", usage)
	}
	if f.part, err = p.sum(); err != nil {
		return nil, err
	}
	return f, p.closeCall(usage)
}

func (p *parser) closeCall(usage string) *Error {
	if p.takeSign(")") {
		return nil
	}
	return want(p.peek(), ")", usage)
}
