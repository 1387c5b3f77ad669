package fleet

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// members reads which devices a group has.
func (p *parser) members(m *mapping, g *group) bool {
	before := len(p.findings)
	switch m.exclusive("id", "ids", "idPattern") {
	case "id":
		p.listed(m.vals["id"], g)
	case "ids":
		for _, n := range p.list(m.vals["ids"], "ids") {
			p.listed(n, g)
		}
	case "idPattern":
		p.numbered(m, g)
	default:
		p.find(m.node, "group: want one of id, ids and idPattern")
	}
	if g.ids != nil || m.vals["idPattern"] == nil {
		for _, key := range []string{"count", "start"} {
			if n := m.vals[key]; n != nil {
				p.find(n, "%s: only goes with idPattern", key)
			}
		}
	}
	if p.fleet.devices+g.count > MaxDevices {
		p.find(m.node, "group: %d devices with those before it; a fleet has at most %d", p.fleet.devices+g.count, MaxDevices)
	}
	return len(p.findings) == before && g.count > 0
}

// listed adds one device by name.
func (p *parser) listed(n *yaml.Node, g *group) {
	id, ok := p.id(n, "id")
	if !ok {
		return
	}
	if _, twice := p.fleet.listed[id]; twice {
		p.find(n, "id: device %q is given twice", id)
		return
	}
	p.fleet.listed[id] = p.fleet.devices + g.count
	g.ids = append(g.ids, id)
	g.count++
}

// numbered reads a pattern and how far it counts.
func (p *parser) numbered(m *mapping, g *group) {
	n := m.vals["idPattern"]
	text, ok := p.text(n, "idPattern")
	if !ok {
		return
	}
	pattern, problem := parsePattern(text)
	if problem != "" {
		p.find(n, "idPattern: %q %s; want something like door-%%06d", shorten(text), problem)
		return
	}
	g.pattern = pattern
	p.optional(m, "start", func(n *yaml.Node) { g.start, _ = p.integer(n, "start", 0, 1e15) })
	if m.missing("count") {
		return
	}
	count, ok := p.integer(m.vals["count"], "count", 1, MaxDevices)
	if !ok {
		return
	}
	g.count = int(count)
	if id := pattern.append(nil, g.start+count-1); len(id) > maxID {
		p.find(n, "idPattern: its last id has %d characters; the hub takes %d", len(id), maxID)
	}
	if len(p.fleet.patterns) == maxPatterns {
		p.find(n, "idPattern: a fleet has at most %d groups with one; let tags vary within a group instead", maxPatterns)
	}
}

// parsePattern reads a pattern such as door-%06d, or says what is wrong with it.
func parsePattern(text string) (idPattern, string) {
	var p idPattern
	var part strings.Builder
	seen := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c != '%' {
			if !idChar(c) {
				return p, "has a character that the hub does not take in an id"
			}
			part.WriteByte(c)
			continue
		}
		verb, width, ok := parseVerb(text[i+1:])
		switch {
		case !ok:
			return p, "has a % that begins neither %d, %06d nor %%"
		case verb == "%":
			part.WriteByte('%')
		case seen:
			return p, "has two numbers"
		default:
			seen = true
			p.prefix, p.width = part.String(), width
			part.Reset()
		}
		i += len(verb)
	}
	if !seen {
		return p, "has no number"
	}
	p.suffix = part.String()
	return p, ""
}

// parseVerb reads what follows a percent sign: %, d or 0<width>d.
func parseVerb(s string) (verb string, width int, ok bool) {
	if strings.HasPrefix(s, "%") {
		return "%", 0, true
	}
	digits, _, found := strings.Cut(s, "d")
	if !found || len(digits) > 3 {
		return "", 0, false
	}
	if digits == "" {
		return "d", 0, true
	}
	width, err := strconv.Atoi(digits)
	if err != nil || digits[0] != '0' || width < 1 || width > maxDigits {
		return "", 0, false
	}
	return digits + "d", width, true
}

// id reads a device or module id.
func (p *parser) id(n *yaml.Node, what string) (string, bool) {
	s, ok := p.text(n, what)
	if !ok {
		return "", false
	}
	if s == "" || len(s) > maxID {
		p.find(n, "%s: an id has 1 to %d characters, this one %d", what, maxID, len(s))
		return "", false
	}
	for i := range len(s) {
		if !idChar(s[i]) {
			p.find(n, "%s: %q has the character %q; want letters, digits and - : . + %% _ # * ? ! ( ) , = @ ; $ '", what, s, s[i:i+1])
			return "", false
		}
	}
	return s, true
}

// overlaps finds devices that two groups describe, and says it of the later one.
func (p *parser) overlaps() {
	var lists, patterns []int // groups before the one looked at
	for i, g := range p.fleet.groups {
		p.overlap(i, patterns)
		if g.ids != nil {
			lists = append(lists, i)
			continue
		}
		p.overlap(i, lists)
		patterns = append(patterns, i)
	}
}

func (p *parser) overlap(i int, others []int) {
	for _, k := range others {
		if p.exhausted() {
			return
		}
		if id, ok := p.fleet.groups[i].shared(p.fleet.groups[k]); ok {
			p.find(p.places[i], "group: device %q is already in the group in line %d", id, p.places[k].Line)
		}
	}
}

func (g *group) holds(n int64) bool { return n >= g.start && n-g.start < int64(g.count) }

// shared returns an id that both groups have. One of them has a pattern: what
// two lists share was found when they were read.
func (g *group) shared(h *group) (string, bool) {
	if h.ids != nil || g.ids == nil && g.count > h.count {
		g, h = h, g // g is the list, or the shorter pattern
	}
	if g.ids == nil && g.apart(h) {
		return "", false
	}
	buf := make([]byte, 0, maxID+maxDigits)
	for k := range g.count {
		id := g.appendID(buf, k)
		if n, ok := h.pattern.number(id); ok && h.holds(n) {
			return string(id), true
		}
	}
	return "", false
}
