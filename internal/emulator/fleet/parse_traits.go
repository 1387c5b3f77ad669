package fleet

import (
	"encoding/json"
	"strconv"

	"gopkg.in/yaml.v3"
)

// traits reads the shares of a group that are not healthy.
func (p *parser) traits(n *yaml.Node, key string, g *group) traits {
	t := traits{
		who:    newStream(p.fleet.seed, key, "trait"),
		delays: newStream(p.fleet.seed, key, "trait delay"),
		status: 500,
	}
	if n == nil {
		return t
	}
	m, ok := p.mapping(n, p.sections["shares"])
	if !ok {
		return t
	}
	simple := map[string]trait{
		"offline": offline, "hanging": hanging, "garbage": garbled, "disconnecting": disconnecting,
	}
	sum := 0.0
	for _, k := range m.keys {
		val := m.vals[k.Value]
		if val == nil {
			continue
		}
		which, ok := simple[k.Value]
		if ok {
			t.shares[which] = p.share(val, k.Value)
			sum += t.shares[which]
			continue
		}
		sum += p.trait(k.Value, val, key, g, &t)
	}
	if sum > 1+1e-9 {
		p.find(m.node, "shares: they add up to %s%%; a device has one trait at most", percent(sum))
	}
	t.any = sum > 0
	return t
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 6, 64) }

// trait reads a trait that has settings of its own, and returns its share.
func (p *parser) trait(name string, n *yaml.Node, key string, g *group, t *traits) float64 {
	settings := map[string][]Key{
		"late":      {{Name: "share"}, {Name: "after"}},
		"flapping":  {{Name: "share"}, {Name: "every"}, {Name: "away"}},
		"rejecting": {{Name: "share"}, {Name: "status"}, {Name: "payload"}},
		"slow":      {{Name: "share"}, {Name: "latency"}},
	}[name]
	if name == "rejecting" && p.resolve(n).Kind != yaml.MappingNode {
		t.shares[rejecting] = p.share(n, name)
		return t.shares[rejecting]
	}
	m, ok := p.mapping(n, Section{Name: name, Keys: settings})
	if !ok || m.missing("share") {
		return 0
	}
	for _, k := range settings {
		if name != "rejecting" {
			m.missing(k.Name)
		}
	}
	share := p.share(m.vals["share"], "share")
	switch name {
	case "late":
		t.shares[late] = share
		p.optional(m, "after", func(n *yaml.Node) { t.late = p.delay(n, "after") })
	case "flapping":
		t.shares[flapping] = share
		p.flapping(m, t)
	case "rejecting":
		t.shares[rejecting] = share
		p.optional(m, "status", func(n *yaml.Node) { t.status = p.status(n) })
		p.optional(m, "payload", func(n *yaml.Node) { t.payload = p.payload(n, g, key+"/rejecting") })
	case "slow":
		t.shares[slow] = share
		p.optional(m, "latency", func(n *yaml.Node) { t.slow = p.delay(n, "latency") })
	}
	return share
}

func (p *parser) optional(m *mapping, key string, read func(*yaml.Node)) {
	if n := m.vals[key]; n != nil {
		read(n)
	}
}

func (p *parser) flapping(m *mapping, t *traits) {
	p.optional(m, "every", func(n *yaml.Node) { t.every = p.period(n, "every") })
	p.optional(m, "away", func(n *yaml.Node) { t.away = p.period(n, "away") })
	if t.every > 0 && t.away > t.every {
		p.find(m.vals["away"], "away: %v is longer than the period of %v", t.away, t.every)
	}
}

// follow reads how reported properties follow: a word, a delay, an entry, or a
// list of entries.
func (p *parser) follow(n *yaml.Node, key string) follow {
	f := follow{
		who:     newStream(p.fleet.seed, key, "follow"),
		howLong: newStream(p.fleet.seed, key, "follow delay"),
	}
	if n == nil {
		return f
	}
	entries := []*yaml.Node{n}
	switch at := p.resolve(n); {
	case at.Kind == yaml.ScalarNode && at.Value == "never":
		f.shares, f.parts = []float64{1}, []followPart{{kind: FollowNever}}
		return f
	case at.Kind == yaml.ScalarNode:
		d, ok := parseDuration(at.Value)
		if ok != nil || d < 0 || d > maxDelay {
			p.find(n, "follow: %s is neither never, nor a duration, nor a mapping with %s", shown(at), "share, after, never or wrong")
		}
		f.shares, f.parts = []float64{1}, []followPart{{kind: FollowFaithfully, delay: delay{a: float64(d)}}}
		return f
	case at.Kind == yaml.SequenceNode:
		entries = p.list(n, "follow")
	}
	sum := 0.0
	for _, entry := range entries {
		share, part := p.followPart(entry)
		sum += share
		f.shares, f.parts = append(f.shares, share), append(f.parts, part)
	}
	if sum > 1+1e-9 {
		p.find(n, "follow: the shares add up to %s%%", percent(sum))
	}
	return f
}

func (p *parser) followPart(n *yaml.Node) (float64, followPart) {
	share, part := 1.0, followPart{kind: FollowFaithfully}
	m, ok := p.mapping(n, p.sections["follow"])
	if !ok {
		return 0, part
	}
	p.optional(m, "share", func(n *yaml.Node) { share = p.share(n, "share") })
	p.optional(m, "after", func(n *yaml.Node) { part.delay = p.delay(n, "after") })
	switch m.exclusive("never", "wrong") {
	case "never":
		part.kind = FollowNever
		if at := p.resolve(m.vals["never"]); at.Kind != yaml.ScalarNode || at.Tag != "!!bool" || at.Value != "true" {
			p.find(m.vals["never"], "never: %s is not true; leave it out otherwise", shown(at))
		}
		if n := m.vals["after"]; n != nil {
			p.find(n, "after: says nothing where nothing is ever reported")
		}
	case "wrong":
		part.kind = FollowWrongly
		part.wrong = p.wrong(m.vals["wrong"])
	}
	return share, part
}

// wrong reads true, which spoils every value, or the values reported instead.
func (p *parser) wrong(n *yaml.Node) json.RawMessage {
	if at := p.resolve(n); at.Kind != yaml.MappingNode {
		if at.Kind != yaml.ScalarNode || at.Tag != "!!bool" || at.Value != "true" {
			p.find(n, "wrong: %s is neither true nor a mapping of properties", shown(at))
		}
		return nil
	}
	c := &compiler{reader: p.reader, twin: true, plain: true}
	t := c.compile(n, "wrong")
	text, ok := t.static()
	if !ok {
		return nil
	}
	return text
}
