package twinquery

import "slices"

// Pinned returns the strings of which a document must have one under name, at
// its top, for the condition to match it. It returns false when the condition
// does not say. Who keeps documents by that name need not look at the others.
func (c *Condition) Pinned(name string) ([]string, bool) { return pinned(c.root, name) }

func pinned(n node, name string) ([]string, bool) {
	switch n := n.(type) {
	case *comparison:
		if n.op != opEqual {
			return nil, false
		}
		if values, ok := pinnedTo(n.left, n.right, name); ok {
			return values, true
		}
		return pinnedTo(n.right, n.left, name)
	case *membership:
		if n.negated || !n.path.names(name) {
			return nil, false
		}
		values := []string{}
		for i := range n.items {
			if v := n.items[i].v; n.items[i].list == nil && v.kind == KindString {
				values = append(values, v.text)
			}
		}
		return values, true
	case *logic:
		return n.pinned(name)
	}
	return nil, false
}

func pinnedTo(path, value node, name string) ([]string, bool) {
	p, ok := path.(*pathNode)
	if !ok || !p.names(name) {
		return nil, false
	}
	l, ok := value.(*literal)
	if !ok || l.list != nil || l.v.kind != KindString {
		return nil, false
	}
	return []string{l.v.text}, true
}

func (n *pathNode) names(name string) bool {
	return len(n.path.Segments) == 1 && n.path.Segments[0] == name
}

// pinned takes the shortest list of an AND, and all lists of an OR.
func (n *logic) pinned(name string) ([]string, bool) {
	var all []string
	found := false
	for _, t := range n.terms {
		values, ok := pinned(t, name)
		switch {
		case !ok && n.isOr:
			return nil, false
		case !ok:
		case n.isOr:
			all, found = append(all, values...), true
		case !found || len(values) < len(all):
			all, found = values, true
		}
	}
	return slices.Clip(all), found
}
