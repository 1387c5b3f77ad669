package fleet

import (
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A compiler turns a YAML value into a template.
type compiler struct {
	*reader
	twin   bool // the hub's rules for twin properties apply; there is no call to speak of
	plain  bool // no moving parts
	group  *group
	seed   uint64
	key    string // names the streams of chance, with the path of the value
	depth  int    // of recursion
	level  int    // how many objects and lists of the value stand around
	inList int    // how many of them are lists
	path   []string
	out    *template
	module string // of which the twin is; empty for a device's
	weight int    // of what was compiled so far, at most
	length int    // of the string that is being compiled, at most
}

// twinDepth is how many levels the hub allows below a section of a twin.
const twinDepth = 10

// The hub takes no greater integers in a twin, whichever way they are written.
const (
	minInteger int64 = -4503599627370496
	maxInteger int64 = 4503599627370495
)

// compile returns the template of a value; name is the key it stands under.
func (c *compiler) compile(n *yaml.Node, name string) *template {
	c.path = []string{name}
	c.out = &template{}
	if c.twin && c.resolve(n).Kind != yaml.MappingNode {
		c.find(n, "%s: want a mapping of properties, got %s", name, kindOf(c.resolve(n)))
		return c.out
	}
	c.value(n)
	if c.twin {
		c.weigh(n, name)
	}
	return c.out
}

func (c *compiler) what() string { return strings.Join(c.path, ".") }

// value appends the template of a node.
func (c *compiler) value(n *yaml.Node) {
	at := c.resolve(n)
	if c.exhausted() {
		return
	}
	c.depth++
	defer func() { c.depth-- }()
	if c.depth > maxDepth {
		c.find(n, "%s: nested deeper than %d levels", shorten(c.what()), maxDepth)
		return
	}
	switch at.Kind {
	case yaml.ScalarNode:
		c.scalar(at, n)
	case yaml.SequenceNode:
		c.sequence(at)
	case yaml.MappingNode:
		c.object(n)
	case yaml.DocumentNode, yaml.AliasNode:
		c.find(n, "%s: want a value, got %s", c.what(), kindOf(at))
	}
}

func (c *compiler) sequence(n *yaml.Node) {
	c.out.literal("[")
	c.level++
	c.inList++
	defer func() { c.level--; c.inList-- }()
	for i, item := range n.Content {
		if i > 0 {
			c.out.literal(",")
		}
		c.path = append(c.path, strconv.Itoa(i))
		c.value(item)
		c.path = c.path[:len(c.path)-1]
	}
	c.out.literal("]")
}

func (c *compiler) object(n *yaml.Node) {
	m, ok := c.anyMapping(n, c.what())
	if !ok {
		return
	}
	if len(m.keys) > 0 && isGenerator(m.keys[0].Value) {
		c.generator(m)
		return
	}
	if c.twin && c.level > twinDepth {
		c.find(n, "%s: the hub takes at most %d levels of properties", shorten(c.what()), twinDepth)
		return
	}
	c.level++
	defer func() { c.level-- }()
	c.out.literal("{")
	for i, k := range m.keys {
		if i > 0 {
			c.out.literal(",")
		}
		name := k.Value
		switch {
		case isGenerator(name):
			c.find(k, "%s: %s stands alone in its mapping", c.what(), name)
			continue
		case strings.HasPrefix(name, "$$"):
			name = name[1:]
		}
		c.name(k, name)
		c.addText(name)
		c.out.literal(quote(name) + ":")
		c.path = append(c.path, name)
		c.value(m.vals[k.Value])
		c.path = c.path[:len(c.path)-1]
	}
	c.out.literal("}")
}

// isGenerator reports whether a key starts a generator: one $ and something
// else. Twin properties cannot start with $; payloads write $$ for a $.
func isGenerator(key string) bool {
	return strings.HasPrefix(key, "$") && !strings.HasPrefix(key, "$$")
}

// name finds property names that the hub would refuse.
func (c *compiler) name(at *yaml.Node, name string) {
	if !c.twin {
		return
	}
	const most = 1024
	bad := strings.IndexFunc(name, func(r rune) bool {
		return r < ' ' || r == 0x7f || strings.ContainsRune(".$# ", r)
	})
	switch {
	case name == "":
		c.find(at, "%s: a property has no name", c.what())
	case len(name) > most:
		c.find(at, "%s: a property's name has %d bytes; the hub takes %d", c.what(), len(name), most)
	case bad >= 0:
		c.find(at, "%s: the hub takes no %q in a property's name: %q", c.what(), name[bad:bad+1], name)
	}
}

func (c *compiler) scalar(at, n *yaml.Node) {
	switch at.Tag {
	case "!!null":
		c.null(n)
	case "!!bool":
		var v bool
		if at.Decode(&v) != nil {
			c.find(n, "%s: %s is neither true nor false", c.what(), shown(at))
		}
		c.out.literal(strconv.FormatBool(v))
		c.addWord()
	case "!!int":
		c.integer(at, n)
	case "!!float":
		v, ok := c.float(n, c.what())
		if ok && c.twin && v == math.Trunc(v) && (v < float64(minInteger) || v > float64(maxInteger)) {
			c.find(n, "%s: %s is out of range; the hub takes whole numbers from %d to %d", c.what(), shown(at), minInteger, maxInteger)
		}
		c.out.literal(strconv.FormatFloat(v, 'g', -1, 64))
		c.addNumber()
	case "!!binary":
		c.find(n, "%s: JSON has no binary values; write it as a string", c.what())
	default:
		c.length = 0
		c.text(at.Value, n)
		c.weighString(n)
	}
}

// null in a list, at any depth, is nothing that the hub takes into a twin.
func (c *compiler) null(n *yaml.Node) {
	if c.twin && c.inList > 0 {
		c.find(n, "%s: the hub takes no null in a list", c.what())
	}
	c.out.literal("null")
	c.addWord()
}

func (c *compiler) integer(at, n *yaml.Node) {
	var v int64
	if at.Decode(&v) != nil {
		c.find(n, "%s: %s is too large for a whole number", c.what(), shown(at))
		return
	}
	if c.twin && (v < minInteger || v > maxInteger) {
		c.find(n, "%s: %d is out of range; the hub takes %d to %d", c.what(), v, minInteger, maxInteger)
	}
	c.out.literal(strconv.FormatInt(v, 10))
	c.addNumber()
}

// text appends a string, with its ${...} as expressions.
func (c *compiler) text(s string, n *yaml.Node) {
	before, rest, found := strings.Cut(s, "${")
	if !found || c.plain {
		c.out.literal(quote(s))
		c.addText(s)
		return
	}
	if inner, after, ok := strings.Cut(rest, "}"); ok && before == "" && after == "" {
		c.expression(inner, n, false)
		return
	}
	c.out.literal(`"`)
	for found {
		if lead, escaped := strings.CutSuffix(before, "$"); escaped { // $${ is ${
			c.inner(lead + "${")
		} else {
			c.inner(before)
			inner, after, ok := strings.Cut(rest, "}")
			if !ok {
				c.find(n, "%s: a ${ without its }; write $${ for the characters themselves", c.what())
				return
			}
			c.expression(inner, n, true)
			rest = after
		}
		before, rest, found = strings.Cut(rest, "${")
	}
	c.inner(before)
	c.out.literal(`"`)
}

// inner appends a part of a string.
func (c *compiler) inner(s string) {
	if s != "" {
		quoted := quote(s)
		c.out.literal(quoted[1 : len(quoted)-1])
		c.addText(s)
	}
}

func (c *compiler) expression(text string, n *yaml.Node, inText bool) {
	e, problem := parseExpression(text, !c.twin)
	if problem != "" {
		c.find(n, "%s: ${%s}: %s", c.what(), shorten(text), problem)
		return
	}
	e.inText = inText
	c.addExpression(e)
	c.out.size += 24
	c.out.pieces = append(c.out.pieces, piece{expr: e})
}
