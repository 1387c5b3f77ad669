package twinquery

import (
	"slices"
	"strings"
)

// Contradiction returns what makes the condition match no twin at all, or nil:
// a property that would have to equal two different values at once. It sees
// what AND joins, which is where the mistake is made; that it returns nil
// proves nothing.
func (c *Condition) Contradiction() *Error {
	allowed := map[string][]literal{}
	for _, t := range conjuncts(c.root, nil) {
		path, values := equalTo(t)
		if path == nil {
			continue
		}
		key := strings.Join(path.path.Segments, "\x00")
		before, seen := allowed[key]
		if !seen {
			allowed[key] = values
			continue
		}
		allowed[key] = common(before, values)
		if len(allowed[key]) == 0 {
			return &Error{
				Offset: path.path.Offset, End: path.path.End,
				Message: "nothing matches: " + path.path.String() + " cannot be " + oneOf(before) + " and " + oneOf(values) + " at once",
				Hint:    "join alternatives by OR, or list them as in " + path.path.String() + " IN [...]",
			}
		}
	}
	return nil
}

// conjuncts lists what must hold all at once.
func conjuncts(n node, list []node) []node {
	chain, ok := n.(*logic)
	if !ok || chain.isOr {
		return append(list, n)
	}
	for _, t := range chain.terms {
		list = conjuncts(t, list)
	}
	return list
}

// equalTo returns the path and the values of a term that asks a property to
// equal one of them, or nil.
func equalTo(n node) (*pathNode, []literal) {
	switch n := n.(type) {
	case *membership:
		if !n.negated {
			return n.path, n.items
		}
	case *comparison:
		if n.op != opEqual {
			return nil, nil
		}
		if path, value, ok := pathAndLiteral(n.left, n.right); ok {
			return path, []literal{*value}
		}
		if path, value, ok := pathAndLiteral(n.right, n.left); ok {
			return path, []literal{*value}
		}
	}
	return nil, nil
}

func pathAndLiteral(a, b node) (*pathNode, *literal, bool) {
	path, isPath := a.(*pathNode)
	value, isLiteral := b.(*literal)
	return path, value, isPath && isLiteral && value.list == nil
}

func common(a, b []literal) []literal {
	var both []literal
	for _, x := range a {
		if slices.ContainsFunc(b, func(y literal) bool {
			cmp, ok := order(x.v, y.v)
			return ok && cmp == 0
		}) {
			both = append(both, x)
		}
	}
	return both
}

// oneOf writes the first of some values.
func oneOf(values []literal) string {
	var b strings.Builder
	if len(values) == 0 {
		return "in []"
	}
	values[0].write(&b)
	if len(values) > 1 {
		b.WriteString(" or another")
	}
	return b.String()
}
