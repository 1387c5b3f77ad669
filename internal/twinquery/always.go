package twinquery

import "strings"

// Always tells whether the condition is true of every device, as far as that
// can be seen in its text: because a part of it is true of whatever value there
// is, such as x = x or STARTSWITH(x, ”). A property that some devices lack
// counts as one that all have: nobody writes x = x to find those. That it
// returns false proves nothing.
func (c *Condition) Always() bool { return always(c.root) }

func always(n node) bool {
	switch n := n.(type) {
	case *literal:
		return n.v.IsTrue()
	case *negation:
		return never(n.x)
	case *logic:
		return n.always()
	case *comparison:
		return n.always()
	case *affix:
		part, ok := n.part.(*literal)
		return same(n.text, n.part) || ok && part.v.kind == KindString && part.v.text == ""
	case *defined:
		return everywhere(&pathNode{path: n.path.path})
	}
	return false
}

func never(n node) bool {
	switch n := n.(type) {
	case *literal:
		return n.list != nil || !n.v.IsTrue()
	case *negation:
		return always(n.x)
	case *logic:
		return n.never()
	case *comparison:
		if isConstant(n.left) && isConstant(n.right) {
			return !n.eval(nil).IsTrue()
		}
		return same(n.left, n.right) && (n.op == opUnequal || n.op == opLess || n.op == opGreater)
	}
	return false
}

// always: an AND of which every term is; an OR of which one term is, or of which
// two terms leave nothing out.
func (n *logic) always() bool {
	for i, t := range n.terms {
		is := always(t)
		switch {
		case !n.isOr && !is:
			return false
		case n.isOr && (is || leavesNothing(t, n.terms[i+1:])):
			return true
		}
	}
	return !n.isOr
}

func (n *logic) never() bool {
	for _, t := range n.terms {
		if never(t) != n.isOr {
			return !n.isOr
		}
	}
	return n.isOr
}

// leavesNothing tells whether one of the others is true wherever t is false.
func leavesNothing(t node, others []node) bool {
	opposite := text(&negation{t})
	if not, ok := t.(*negation); ok {
		opposite = text(not.x)
	}
	for _, o := range others {
		if text(o) == opposite || complement(t, o) {
			return true
		}
	}
	return false
}

// complement tells whether two comparisons of the same things share all values
// among them, as x = 1 and x != 1 do, or x < 2 and x >= 1.
func complement(a, b node) bool {
	x, isX := a.(*comparison)
	y, isY := b.(*comparison)
	if isX && isY && text(x.left) == text(y.left) && text(x.right) == text(y.right) {
		opposites := map[compareOp]compareOp{
			opEqual: opUnequal, opUnequal: opEqual, opLess: opAtLeast, opAtLeast: opLess, opGreater: opAtMost, opAtMost: opGreater,
		}
		return opposites[x.op] == y.op || x.op == opAtLeast && y.op == opAtMost || x.op == opAtMost && y.op == opAtLeast
	}
	m, isM := a.(*membership)
	n, isN := b.(*membership)
	if !isM || !isN || m.negated == n.negated {
		return false
	}
	flipped := *m
	flipped.negated = n.negated
	return text(&flipped) == text(n)
}

func (n *comparison) always() bool {
	if isConstant(n.left) && isConstant(n.right) {
		return n.eval(nil).IsTrue()
	}
	if same(n.left, n.right) {
		return n.op == opEqual || n.op == opAtMost || n.op == opAtLeast
	}
	return n.beyondEmpty(n.left, n.right, n.op) || n.beyondEmpty(n.right, n.left, mirrored(n.op))
}

// beyondEmpty tells whether a name that is never empty is compared with an
// empty text so that it passes.
func (n *comparison) beyondEmpty(name, value node, op compareOp) bool {
	path, isPath := name.(*pathNode)
	empty, isLiteral := value.(*literal)
	if !isPath || !isLiteral || !everywhere(path) || empty.list != nil {
		return false
	}
	switch empty.v.kind {
	case KindString:
		return empty.v.text == "" && (op == opUnequal || op == opGreater || op == opAtLeast)
	case KindNull:
		return op == opUnequal
	case KindUndefined, KindBool, KindNumber, KindObject, KindArray:
	}
	return false
}

// mirrored is the operator for operands that change places.
func mirrored(op compareOp) compareOp {
	switch op {
	case opLess:
		return opGreater
	case opAtMost:
		return opAtLeast
	case opGreater:
		return opLess
	case opAtLeast:
		return opAtMost
	case opEqual, opUnequal:
	}
	return op
}

// everywhere tells whether every twin has a property, and not an empty one.
func everywhere(n *pathNode) bool {
	if len(n.path.Segments) != 1 {
		return false
	}
	switch n.path.Segments[0] {
	case "deviceId", "etag", "version", "status", "connectionState", "authenticationType":
		return true
	}
	return false
}

func isConstant(n node) bool {
	switch n := n.(type) {
	case *literal:
		return n.list == nil
	case *arithmetic:
		for _, s := range n.steps {
			if !isConstant(s.x) {
				return false
			}
		}
		return isConstant(n.first)
	}
	return false
}

// same tells whether two parts are the same expression over properties.
func same(a, b node) bool { return !isConstant(a) && text(a) == text(b) }

// text is a node in its canonical form, with the names of properties as the hub
// spells them.
func text(n node) string {
	if p, ok := n.(*pathNode); ok {
		return strings.Join(p.path.Segments, "\x00")
	}
	var b strings.Builder
	n.write(&b)
	return b.String()
}
