package twinquery

import (
	"math"
	"strconv"
	"strings"
)

// node is one part of a condition. Evaluation recurses as deep as the text
// nests, which maxDepth bounds.
type node interface {
	eval(d Doc) Value
	write(b *strings.Builder)
	// level is how tightly the node binds when printed; see the constants.
	level() int
}

const (
	levelOr = iota + 1
	levelAnd
	levelNot
	levelCompare
	levelSum
	levelProduct
	levelPrimary
)

// printAt prints n, in parentheses if it binds less tightly than level.
func printAt(b *strings.Builder, n node, level int) {
	if n.level() >= level {
		n.write(b)
		return
	}
	b.WriteByte('(')
	n.write(b)
	b.WriteByte(')')
}

// literal is a constant; list is set for one in square brackets.
type literal struct {
	v    Value
	list []literal
}

func (l *literal) level() int { return levelPrimary }

// eval gives an array without text for a list: all that can be done with it is
// to find that it is no primitive.
func (l *literal) eval(Doc) Value {
	if l.list != nil {
		return Value{kind: KindArray}
	}
	return l.v
}

func (l *literal) write(b *strings.Builder) {
	switch {
	case l.list != nil:
		printList(b, l.list)
	case l.v.kind == KindUndefined:
		b.WriteString("undefined")
	case l.v.kind == KindString:
		b.WriteString(Quote(l.v.text))
	case l.v.kind == KindNumber:
		b.WriteString(strconv.FormatFloat(l.v.num, 'f', -1, 64))
	default:
		b.Write(l.v.AppendJSON(nil))
	}
}

func printList(b *strings.Builder, items []literal) {
	b.WriteByte('[')
	for i := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		items[i].write(b)
	}
	b.WriteByte(']')
}

type pathNode struct{ path Path }

func (n *pathNode) level() int               { return levelPrimary }
func (n *pathNode) eval(d Doc) Value         { return d.Lookup(n.path.Segments) }
func (n *pathNode) write(b *strings.Builder) { b.WriteString(n.path.String()) }

// logic is a chain of AND or of OR.
type logic struct {
	isOr  bool
	terms []node
}

func (n *logic) level() int {
	if n.isOr {
		return levelOr
	}
	return levelAnd
}

func (n *logic) write(b *strings.Builder) {
	for i, t := range n.terms {
		switch {
		case i > 0 && n.isOr:
			b.WriteString(" OR ")
		case i > 0:
			b.WriteString(" AND ")
		}
		printAt(b, t, n.level()+1)
	}
}

// eval settles AND at the first false and OR at the first true; short of that,
// a term that is no boolean makes the whole undefined.
func (n *logic) eval(d Doc) Value {
	unknown := false
	for _, t := range n.terms {
		v := t.eval(d)
		switch {
		case v.kind != KindBool:
			unknown = true
		case v.IsTrue() == n.isOr:
			return v
		}
	}
	if unknown {
		return Value{}
	}
	return BoolValue(!n.isOr)
}

type negation struct{ x node }

func (n *negation) level() int { return levelNot }

func (n *negation) write(b *strings.Builder) {
	b.WriteString("NOT ")
	printAt(b, n.x, levelNot)
}

func (n *negation) eval(d Doc) Value {
	v := n.x.eval(d)
	if v.kind != KindBool {
		return Value{}
	}
	return BoolValue(!v.IsTrue())
}

type compareOp uint8

const (
	opEqual compareOp = iota
	opUnequal
	opLess
	opAtMost
	opGreater
	opAtLeast
)

func (op compareOp) String() string {
	return [...]string{"=", "!=", "<", "<=", ">", ">="}[op]
}

type comparison struct {
	op          compareOp
	left, right node
}

func (n *comparison) level() int { return levelCompare }

func (n *comparison) write(b *strings.Builder) {
	printAt(b, n.left, levelSum)
	b.WriteString(" " + n.op.String() + " ")
	printAt(b, n.right, levelSum)
}

func (n *comparison) eval(d Doc) Value {
	cmp, ok := order(n.left.eval(d), n.right.eval(d))
	if !ok {
		return Value{}
	}
	switch n.op {
	case opEqual:
		return BoolValue(cmp == 0)
	case opUnequal:
		return BoolValue(cmp != 0)
	case opLess:
		return BoolValue(cmp < 0)
	case opAtMost:
		return BoolValue(cmp <= 0)
	case opGreater:
		return BoolValue(cmp > 0)
	case opAtLeast:
		return BoolValue(cmp >= 0)
	}
	return Value{}
}

// membership is IN or NIN.
type membership struct {
	path    *pathNode
	items   []literal
	negated bool
}

func (n *membership) level() int { return levelCompare }

func (n *membership) write(b *strings.Builder) {
	n.path.write(b)
	if n.negated {
		b.WriteString(" NIN ")
	} else {
		b.WriteString(" IN ")
	}
	printList(b, n.items)
}

func (n *membership) eval(d Doc) Value {
	v := n.path.eval(d)
	switch v.kind {
	case KindUndefined, KindObject, KindArray:
		return Value{}
	case KindNull, KindBool, KindNumber, KindString:
	}
	for i := range n.items {
		if cmp, ok := order(v, n.items[i].eval(d)); ok && cmp == 0 {
			return BoolValue(!n.negated)
		}
	}
	return BoolValue(n.negated)
}

// arithmetic is a chain of operators of one precedence, from left to right.
type arithmetic struct {
	first node
	steps []step
}

type step struct {
	op byte // one of + - * / %
	x  node
}

func (n *arithmetic) level() int {
	if op := n.steps[0].op; op == '+' || op == '-' {
		return levelSum
	}
	return levelProduct
}

func (n *arithmetic) write(b *strings.Builder) {
	printAt(b, n.first, n.level()+1)
	for _, s := range n.steps {
		b.WriteString(" " + string(s.op) + " ")
		printAt(b, s.x, n.level()+1)
	}
}

func (n *arithmetic) eval(d Doc) Value {
	result := n.first.eval(d)
	for _, s := range n.steps {
		x := s.x.eval(d)
		if result.kind != KindNumber || x.kind != KindNumber {
			return Value{}
		}
		result = NumberValue(calculate(s.op, result.num, x.num))
	}
	return result
}

// calculate gives NaN or an infinity where there is no result, which
// NumberValue turns into undefined.
func calculate(op byte, a, b float64) float64 {
	switch op {
	case '+':
		return a + b
	case '-':
		return a - b
	case '*':
		return a * b
	case '/':
		return a / b
	default:
		return math.Mod(a, b)
	}
}

type defined struct{ path pathNode }

func (n *defined) level() int { return levelPrimary }

func (n *defined) write(b *strings.Builder) {
	b.WriteString("IS_DEFINED(")
	n.path.write(b)
	b.WriteByte(')')
}

func (n *defined) eval(d Doc) Value {
	return BoolValue(n.path.eval(d).kind != KindUndefined)
}

// affix is STARTSWITH or ENDSWITH.
type affix struct {
	text, part node
	atEnd      bool
}

func (n *affix) name() string {
	if n.atEnd {
		return "ENDSWITH"
	}
	return "STARTSWITH"
}

func (n *affix) level() int { return levelPrimary }

func (n *affix) write(b *strings.Builder) {
	b.WriteString(n.name() + "(")
	printAt(b, n.text, levelSum)
	b.WriteString(", ")
	printAt(b, n.part, levelSum)
	b.WriteByte(')')
}

func (n *affix) eval(d Doc) Value {
	text, part := n.text.eval(d), n.part.eval(d)
	if text.kind != KindString || part.kind != KindString {
		return Value{}
	}
	if n.atEnd {
		return BoolValue(strings.HasSuffix(text.text, part.text))
	}
	return BoolValue(strings.HasPrefix(text.text, part.text))
}
