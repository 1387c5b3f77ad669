package fleet

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// generator appends the pick that a mapping with a $ key describes.
func (c *compiler) generator(m *mapping) {
	key := m.keys[0]
	if c.plain {
		c.find(key, "%s: no generator here; give the value", c.what())
		return
	}
	for _, more := range m.keys[1:] {
		c.find(more, "%s: %s stands alone in its mapping", c.what(), key.Value)
	}
	p := &pick{draws: newStream(c.seed, c.key, c.what())}
	n := m.vals[key.Value]
	switch key.Value {
	case "$cycle", "$oneOf":
		p.cycle = key.Value == "$cycle"
		h := c.choices()
		for i, item := range c.list(n, key.Value) {
			p.add(c.option(item, i), 1)
			h.next(c, true)
		}
		h.end(c)
	case "$weighted":
		c.weighted(n, p)
	case "$random":
		p.random = c.random(n)
		c.out.size += 16
		c.addNumber()
	default:
		names := generatorSection().names()
		hint := nearest(key.Value, names)
		if hint == "" {
			hint = "; known are " + strings.Join(names, ", ") + ", and $$ stands for a $ in a payload"
		}
		c.find(key, "%s: unknown generator %q%s", c.what(), key.Value, hint)
	}
	if len(p.options) == 0 && p.random == nil {
		return // found wrong above
	}
	c.out.pieces = append(c.out.pieces, piece{pick: p})
}

func (p *pick) add(t template, weight float64) {
	p.options = append(p.options, t)
	p.weights = append(p.weights, weight)
	p.total += weight
}

// option compiles value number i of those to choose from.
func (c *compiler) option(n *yaml.Node, i int) template {
	outer := c.out
	c.out = &template{}
	if c.twin && c.level == 0 && c.resolve(n).Kind != yaml.MappingNode {
		c.find(n, "%s: want a mapping of properties, got %s", c.what(), kindOf(c.resolve(n)))
	}
	c.path = append(c.path, strconv.Itoa(i))
	c.value(n)
	c.path = c.path[:len(c.path)-1]
	t := *c.out
	c.out = outer
	c.out.size += t.size / 2 // about: one of the options will be rendered
	return t
}

func (c *compiler) weighted(n *yaml.Node, p *pick) {
	h := c.choices()
	defer h.end(c)
	for i, item := range c.list(n, "$weighted") {
		m, ok := c.mapping(item, Section{Name: "$weighted", Keys: []Key{{Name: "weight"}, {Name: "value"}}})
		if !ok || m.missing("weight") || m.missing("value") {
			continue
		}
		w, ok := c.float(m.vals["weight"], "weight")
		if ok && (w < 0 || w > 1e9) {
			c.find(m.vals["weight"], "weight: %s is out of range; want 0 to 1000000000", shown(c.resolve(m.vals["weight"])))
		}
		p.add(c.option(m.vals["value"], i), w)
		h.next(c, w > 0)
	}
	if len(p.options) > 0 && p.total <= 0 {
		c.find(n, "$weighted: nothing has a weight")
	}
}

func (c *compiler) random(n *yaml.Node) *numberRange {
	r := &numberRange{}
	m, ok := c.mapping(n, Section{Name: "$random", Keys: []Key{{Name: "from"}, {Name: "to"}, {Name: "digits"}}})
	if !ok || m.missing("from") || m.missing("to") {
		return r
	}
	from, fok := c.float(m.vals["from"], "from")
	to, tok := c.float(m.vals["to"], "to")
	if !fok || !tok {
		return r
	}
	if d := m.vals["digits"]; d != nil {
		digits, _ := c.reader.integer(d, "digits", 0, 9)
		r.digits = int(digits)
	}
	const most = 1e15 // beyond it a float64 skips whole numbers
	if from > to || math.Abs(from)*math.Pow10(r.digits) > most || math.Abs(to)*math.Pow10(r.digits) > most {
		c.find(n, "$random: want from not above to, and fewer than 15 digits in all")
	}
	r.from, r.to = from, to
	return r
}

// parseExpression reads what stands between ${ and }: a name, then arithmetic
// with whole numbers, then a colon and a width. It returns what is wrong.
func parseExpression(text string, inCall bool) (*expression, string) {
	body, format, hasFormat := strings.Cut(text, ":")
	tokens := strings.Fields(spaced(body))
	if strings.HasPrefix(strings.TrimSpace(body), "request.") { // its keys may hold operators
		body, format, hasFormat = text, "", false
		tokens = []string{strings.TrimSpace(body)}
	}
	if len(tokens) == 0 {
		return nil, "nothing in it; want a name such as id or index"
	}
	name, path, _ := strings.Cut(tokens[0], ".")
	e := &expression{name: name}
	if name == "request" && path != "" {
		e.path = strings.Split(path, ".")
	}
	names := []string{"id", "index", "number", "module"}
	if inCall {
		names = append(names, "method", "nth", "request")
	}
	if !slices.Contains(names, name) || name != "request" && path != "" {
		return nil, fmt.Sprintf("unknown name %q; known here are %s", tokens[0], strings.Join(names, ", "))
	}
	number := slices.Contains([]string{"index", "number", "nth"}, name)
	if (len(tokens) > 1 || hasFormat) && !number {
		return nil, name + " is not a number"
	}
	if problem := e.arithmetic(tokens[1:]); problem != "" {
		return nil, problem
	}
	if hasFormat {
		return e, e.format(strings.TrimSpace(format))
	}
	return e, ""
}

// spaced sets operators apart, so that index%5 reads like index % 5.
func spaced(s string) string {
	var b strings.Builder
	for _, c := range s {
		if strings.ContainsRune("*/%+-", c) {
			b.WriteString(" " + string(c) + " ")
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// arithmetic reads operator and number by turns. Products come before sums, so
// that reading from the left agrees with school.
func (e *expression) arithmetic(tokens []string) string {
	if len(tokens)%2 != 0 {
		return "want operators and numbers by turns, such as index / 50 % 6 + 1"
	}
	summed := false
	for i := 0; i < len(tokens); i += 2 {
		op := tokens[i]
		if !strings.Contains("*/%+-", op) || len(op) != 1 {
			return fmt.Sprintf("unknown operator %q; known are * / %% + -", op)
		}
		arg, err := strconv.ParseInt(tokens[i+1], 10, 32)
		if err != nil || arg < 0 {
			return fmt.Sprintf("%q is not a whole number up to 2147483647", tokens[i+1])
		}
		product := strings.Contains("*/%", op)
		switch {
		case product && summed:
			return "products come before sums"
		case arg == 0 && (op == "/" || op == "%"):
			return "division by zero"
		}
		summed = summed || !product
		e.ops = append(e.ops, operation{op: op[0], arg: arg})
	}
	return ""
}

// format reads a width such as 04, in hexadecimal with an x after it.
func (e *expression) format(s string) string {
	digits, hex := strings.CutSuffix(s, "x")
	e.hex = hex
	width, err := strconv.Atoi(digits)
	if hex && digits == "" {
		return ""
	}
	if err != nil || width < 1 || width > maxDigits || digits[0] != '0' {
		return fmt.Sprintf("%q is not a format; want 04 for four digits, 04x for hexadecimal ones", s)
	}
	e.width = width
	return ""
}
