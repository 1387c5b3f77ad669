package twinquery

// Groups makes the rows of a query with aggregates from a stream of documents.
// Its memory grows with the number of groups, not of documents. It is for one
// goroutine.
type Groups struct {
	query *Query
	rule  KeyRule
	index map[string]int // place in groups by the JSON of the grouped value
	order []*group
}

type group struct {
	by   Value
	accs []accumulator // one for each item
}

// accumulator is the state of one aggregate. Only numbers count, except for
// COUNT, which counts documents.
type accumulator struct {
	count    int
	sum      float64
	min, max float64
}

// NewGroups starts the aggregation of q.
func NewGroups(q *Query, rule KeyRule) *Groups {
	g := &Groups{query: q, rule: rule, index: make(map[string]int)}
	if q.GroupBy == nil {
		g.find(Value{}) // without GROUP BY there is one row, for no documents too
	}
	return g
}

// Add takes d into account. The caller has seen that the query matches it.
func (g *Groups) Add(d Doc) {
	var by Value
	if g.query.GroupBy != nil {
		by = d.Lookup(g.query.GroupBy.Segments)
	}
	found := g.find(by)
	for i := range g.query.Items {
		it := &g.query.Items[i]
		switch it.Aggregate {
		case NoAggregate:
		case Count:
			found.accs[i].count++
		case Avg, Sum, Min, Max:
			if v := d.Lookup(it.Path.Segments); v.kind == KindNumber {
				found.accs[i].add(v.num)
			}
		}
	}
}

func (g *Groups) find(by Value) *group {
	key := string(groupKey(by))
	if i, ok := g.index[key]; ok {
		return g.order[i]
	}
	made := &group{by: by, accs: make([]accumulator, len(g.query.Items))}
	g.index[key] = len(g.order)
	g.order = append(g.order, made)
	return made
}

// groupKey tells values apart as = does, where 1 equals 1.0.
func groupKey(v Value) []byte {
	if v.kind == KindNumber {
		return appendNumber(nil, v.num)
	}
	return v.AppendJSON(nil)
}

func (a *accumulator) add(f float64) {
	if a.count == 0 {
		a.min, a.max = f, f
	}
	a.count++
	a.sum += f
	a.min = min(a.min, f)
	a.max = max(a.max, f)
}

func (a *accumulator) result(f Aggregate) Value {
	if f == Count {
		return NumberValue(float64(a.count))
	}
	if a.count == 0 {
		return Value{}
	}
	switch f {
	case Avg:
		return NumberValue(a.sum / float64(a.count))
	case Sum:
		return NumberValue(a.sum)
	case Min:
		return NumberValue(a.min)
	case Max:
		return NumberValue(a.max)
	case NoAggregate, Count:
	}
	return Value{}
}

// Len returns the number of rows, at most TOP n.
func (g *Groups) Len() int {
	if top := g.query.Top; top > 0 {
		return min(top, len(g.order))
	}
	return len(g.order)
}

// AppendRow appends row i, counted from 0 in the order in which the groups
// were first met, as a JSON object. A result that does not exist, such as the
// average of nothing, is left out.
func (g *Groups) AppendRow(dst []byte, i int) []byte {
	row := object{dst: append(dst, '{')}
	for n := range g.query.Items {
		it := &g.query.Items[n]
		v := g.order[i].by
		if it.Aggregate != NoAggregate {
			v = g.order[i].accs[n].result(it.Aggregate)
		}
		row.member(it.key(n, g.rule), v)
	}
	return append(row.dst, '}')
}
