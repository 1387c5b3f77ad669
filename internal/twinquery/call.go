package twinquery

import "strings"

// containment is ARRAY_CONTAINS(path, value): whether an array has an element
// that equals the value.
type containment struct {
	array node
	item  node
}

func (n *containment) level() int { return levelPrimary }

func (n *containment) write(b *strings.Builder) {
	writeCall(b, "ARRAY_CONTAINS", n.array, n.item)
}

func (n *containment) eval(d Doc) Value {
	array, item := n.array.eval(d), n.item.eval(d)
	if array.kind != KindArray || item.kind == KindUndefined {
		return Value{}
	}
	return BoolValue(array.hasElement(item))
}

// unknownCall is a function that this package cannot evaluate. The hub may know
// it: nobody publishes a list that is whole.
type unknownCall struct {
	name string
	args []node
}

func (n *unknownCall) level() int               { return levelPrimary }
func (n *unknownCall) eval(Doc) Value           { return Value{} }
func (n *unknownCall) write(b *strings.Builder) { writeCall(b, n.name, n.args...) }

func writeCall(b *strings.Builder, name string, args ...node) {
	b.WriteString(name + "(")
	for i, a := range args {
		if i > 0 {
			b.WriteString(", ")
		}
		printAt(b, a, levelSum)
	}
	b.WriteByte(')')
}

// containment reads the rest of ARRAY_CONTAINS(.
func (p *parser) containment() (node, *Error) {
	const usage = "ARRAY_CONTAINS takes the path of an array and a constant: ARRAY_CONTAINS(parentScopes, 'ab')"
	c := &containment{}
	var err *Error
	if c.array, err = p.sum(); err != nil {
		return nil, err
	}
	if !p.takeSign(",") {
		return nil, want(p.peek(), "a comma", usage)
	}
	if c.item, err = p.sum(); err != nil {
		return nil, err
	}
	return c, p.closeCall(usage)
}

// unknown reads the rest of a call of a function that is not known here.
func (p *parser) unknown(name token) (node, *Error) {
	warning := at(name, acceptedFunctions, "no function %s is documented for twins; the hub may refuse the query", name.text)
	p.warnings = append(p.warnings, warning)
	if p.unknownCall == nil {
		p.unknownCall = warning
	}
	c := &unknownCall{name: name.text}
	if p.takeSign(")") {
		return c, nil
	}
	for {
		arg, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, arg)
		if !p.takeSign(",") {
			return c, p.closeCall("")
		}
	}
}
