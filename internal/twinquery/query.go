package twinquery

import (
	"fmt"
	"strings"
)

// MaxLength is how long a query text may be on the hub, in characters. Parse
// does not check it: the limit is the service's to move.
const MaxLength = 8192

// Query is a parsed SELECT. It is not written to after [Parse].
type Query struct {
	Source  Source
	Top     int        // TOP n; 0 if not given
	Items   []Item     // what is selected, in order; empty for *
	Where   *Condition // nil if there is none
	GroupBy *Path      // nil if there is none
	// WhereText is the condition exactly as it stands in the text, empty if
	// there is none.
	WhereText string
}

// Item is one element of a projection: a path, or an aggregate over one.
type Item struct {
	Aggregate Aggregate
	Path      Path   // empty for COUNT()
	Alias     string // empty if not given
}

// Path names a property. Segments is what a [Doc] is asked for: without the
// name of the collection, system names spelled as in the hub's documents.
type Path struct {
	Segments []string
	Offset   int // of the path in the text
	End      int
	typed    []string
	prefix   string
}

// String returns the path as it was typed, with brackets where they are needed.
func (p Path) String() string {
	var b strings.Builder
	b.WriteString(p.prefix)
	for i, s := range p.typed {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(quoteSegment(s))
	}
	return b.String()
}

// Aggregate is a function over all rows or over a group of them.
type Aggregate uint8

// The aggregates. NoAggregate marks an item that is a path alone.
const (
	NoAggregate Aggregate = iota
	Count
	Avg
	Sum
	Min
	Max
)

// String returns the name of the function.
func (a Aggregate) String() string {
	switch a {
	case NoAggregate:
		return ""
	case Count:
		return "COUNT"
	case Avg:
		return "AVG"
	case Sum:
		return "SUM"
	case Min:
		return "MIN"
	case Max:
		return "MAX"
	}
	return ""
}

func aggregateNamed(name string) Aggregate {
	upper := asciiUpper(name)
	for a := Count; a <= Max; a++ {
		if a.String() == upper {
			return a
		}
	}
	return NoAggregate
}

// Aggregates tells whether the query gives groups instead of documents; then
// [NewGroups] makes its rows.
func (q *Query) Aggregates() bool {
	if q.GroupBy != nil {
		return true
	}
	for i := range q.Items {
		if q.Items[i].Aggregate != NoAggregate {
			return true
		}
	}
	return false
}

// Match tells whether d is among what the query selects. A query without
// WHERE selects everything.
func (q *Query) Match(d Doc) bool { return q.Where == nil || q.Where.Match(d) }

// String returns the query in a canonical form that parses to the same query.
func (q *Query) String() string {
	var b strings.Builder
	b.WriteString("SELECT ")
	if q.Top > 0 {
		fmt.Fprintf(&b, "TOP %d ", q.Top)
	}
	if len(q.Items) == 0 {
		b.WriteByte('*')
	}
	for i := range q.Items {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(q.Items[i].String())
	}
	b.WriteString(" FROM " + q.Source.String())
	if q.Where != nil {
		b.WriteString(" WHERE " + q.Where.String())
	}
	if q.GroupBy != nil {
		b.WriteString(" GROUP BY " + q.GroupBy.String())
	}
	return b.String()
}

// String returns the item as it stands in a query.
func (it Item) String() string {
	text := it.Path.String()
	if it.Aggregate != NoAggregate {
		text = it.Aggregate.String() + "(" + text + ")"
	}
	if it.Alias != "" {
		text += " AS " + quoteSegment(it.Alias)
	}
	return text
}

// Condition is a parsed WHERE part.
type Condition struct {
	root     node
	warnings []*Error
	constant bool
	unknown  *Error
}

// Constant tells whether the condition looks at no property, so that it holds
// for all documents or for none.
func (c *Condition) Constant() bool { return c.constant }

// Unknown returns the first function of the condition that this package cannot
// evaluate, or nil. It gives undefined, which may not be what the hub makes of it.
func (c *Condition) Unknown() *Error { return c.unknown }

// Match tells whether the condition is exactly true for d.
func (c *Condition) Match(d Doc) bool { return c.root.eval(d).IsTrue() }

// String returns the condition in a canonical form that parses to the same
// condition.
func (c *Condition) String() string {
	var b strings.Builder
	c.root.write(&b)
	return b.String()
}

// Warnings returns what the hub takes and what can hardly be meant: names that
// no twin has at its top. The positions are in the text that was parsed.
func (c *Condition) Warnings() []*Error { return c.warnings }
