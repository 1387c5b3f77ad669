package twinquery

import (
	"slices"
	"strings"
)

// path reads a dotted path and checks its first name against the collection.
func (p *parser) path(what string) (Path, *Error) {
	var path Path
	p.paths++
	first, err := p.segment(what)
	if err != nil {
		return path, err
	}
	path.Offset, path.End = first.start, first.end
	path.typed = []string{first.text}
	for p.takeSign(".") {
		t, segErr := p.segment("the next segment of the path")
		if segErr != nil {
			return path, segErr
		}
		path.typed = append(path.typed, t.text)
		path.End = t.end
	}
	if t := p.peek(); t.is("[") {
		return path, at(t, "compare the whole property, or keep it in an object", "the elements of an array cannot be addressed")
	}
	return path, p.resolve(&path, first)
}

// segment reads one name, which may be in double brackets.
func (p *parser) segment(what string) (token, *Error) {
	t := p.take()
	switch {
	case t.kind == tokEscaped:
		return t, nil
	case t.kind == tokNumber && p.i > 1 && p.tokens[p.i-2].is("."):
		return t, at(t, "write [["+t.text+"]]", "a segment that starts with a digit needs brackets")
	case t.kind != tokName:
		return t, want(t, what, "")
	case isKeyword(t.text) && p.i > 1 && (p.tokens[p.i-2].is(".") || p.tokens[p.i-2].isWord("AS")):
		return t, at(t, "write [["+t.text+"]]", "%s is a word of the query language", t.text)
	case isKeyword(t.text):
		return t, want(t, what, "")
	}
	return t, nil
}

// resolve takes the collection off the front of a path and spells the system
// names as the hub does.
func (p *parser) resolve(path *Path, first token) *Error {
	if err := p.stripCollection(path); err != nil {
		return err
	}
	path.Segments = slices.Clone(path.typed)
	lookup := twinName
	if p.source == Jobs {
		lookup = jobName
	}
	canonical, known := lookup(path.typed[0])
	path.Segments[0] = canonical
	canonicalTail(path.Segments)
	if known {
		return nil
	}
	where := token{start: path.Offset, end: first.end}
	if path.prefix != "" {
		where.end = path.End
	}
	if p.source == Jobs {
		return at(where, "its properties are "+strings.Join(jobNames(), ", "), "a row of devices.jobs has no %q", path.typed[0])
	}
	p.warnings = append(p.warnings, at(where, unknownNameHint(path.typed[0], len(path.typed)),
		"a twin has no %q", path.typed[0]))
	return nil
}

func (p *parser) stripCollection(path *Path) *Error {
	if asciiUpper(path.typed[0]) != "DEVICES" {
		return nil
	}
	named, n := Devices, 1
	if len(path.typed) > 1 {
		switch asciiUpper(path.typed[1]) {
		case "MODULES":
			named, n = Modules, 2
		case "JOBS":
			named, n = Jobs, 2
		}
	}
	where := token{start: path.Offset, end: path.End}
	if n == 2 && p.source != 0 && named != p.source {
		return at(where, "the path may start with "+p.source.String(), "the query reads %s, the path %s", p.source, named)
	}
	if len(path.typed) == n {
		return at(where, "name a property, such as deviceId", "%s is a collection, not a property", named)
	}
	path.prefix = named.String() + "."
	path.typed = path.typed[n:]
	return nil
}

// checkSelection holds the rules that need the whole query.
func (p *parser) checkSelection(q *Query) *Error {
	whole := func(hint, message string) *Error {
		return at(p.tokens[0], hint, "%s", message)
	}
	if q.Source == Jobs && (len(q.Items) > 0 || q.GroupBy != nil) {
		return whole("write SELECT * FROM devices.jobs", "devices.jobs can only be selected as a whole")
	}
	if !q.Aggregates() {
		return nil
	}
	if len(q.Items) == 0 {
		return whole("select the grouped path and aggregates", "SELECT * cannot be grouped")
	}
	for i := range q.Items {
		it := &q.Items[i]
		if it.Aggregate != NoAggregate || q.GroupBy != nil && slices.Equal(it.Path.Segments, q.GroupBy.Segments) {
			continue
		}
		where := token{start: it.Path.Offset, end: it.Path.End}
		return at(where, "add GROUP BY "+it.Path.String()+", or select aggregates only",
			"%s is not what the rows are grouped by", it.Path)
	}
	return nil
}
