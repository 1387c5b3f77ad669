package twinquery

import (
	"strconv"

	"github.com/tidwall/gjson"
)

// KeyRule decides the key of a projected path that has neither an alias nor a
// single segment: the hub's own choice is not documented.
type KeyRule uint8

const (
	// LastSegment names tags.site.floor "floor", as the query engine that the
	// hub's language descends from does. It is the default.
	LastSegment KeyRule = iota
	// WholePath names it "tags.site.floor", as typed.
	WholePath
)

// key returns the item's key in a row. A path of one segment keeps the case it
// was typed in; an aggregate without alias is numbered by its place.
func (it *Item) key(place int, rule KeyRule) string {
	switch {
	case it.Alias != "":
		return it.Alias
	case it.Aggregate != NoAggregate:
		return "$" + strconv.Itoa(place+1)
	case rule == WholePath && len(it.Path.typed) > 1:
		return it.Path.String()
	}
	return it.Path.typed[len(it.Path.typed)-1]
}

// AppendRow appends what a query without aggregates selects of d, as one JSON
// object. A value that d does not have is left out. Two items of one key both
// stand in the row: name them apart with AS.
func (q *Query) AppendRow(dst []byte, d Doc, rule KeyRule) []byte {
	if len(q.Items) == 0 {
		return d.Lookup(nil).AppendJSON(dst)
	}
	row := object{dst: append(dst, '{')}
	for i := range q.Items {
		it := &q.Items[i]
		row.member(it.key(i, rule), d.Lookup(it.Path.Segments))
	}
	return append(row.dst, '}')
}

// object writes the members of a JSON object.
type object struct {
	dst   []byte
	wrote bool
}

func (o *object) member(key string, v Value) {
	if v.kind == KindUndefined {
		return
	}
	if o.wrote {
		o.dst = append(o.dst, ',')
	}
	o.wrote = true
	o.dst = gjson.AppendJSONString(o.dst, key)
	o.dst = append(o.dst, ':')
	o.dst = v.AppendJSON(o.dst)
}
