package fleet

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// methods reads a mapping of names to methods.
func (p *parser) methods(m *mapping, g *group, key string) map[string]*handler {
	n := m.vals["methods"]
	if n == nil {
		return nil
	}
	named, ok := p.anyMapping(n, "methods")
	if !ok {
		return nil
	}
	all := make(map[string]*handler, len(named.keys))
	for _, name := range named.keys {
		if name.Value == "" || len(name.Value) > maxMethodName {
			p.find(name, "methods: a method's name has 1 to %d characters", maxMethodName)
			continue
		}
		all[name.Value] = p.method(named.vals[name.Value], g, key+"/"+name.Value)
	}
	return all
}

// maxMethodName is longer than any MQTT topic that could carry the name.
const maxMethodName = 1024

func (p *parser) method(n *yaml.Node, g *group, key string) *handler {
	h := &handler{
		which:   newStream(p.fleet.seed, key, "outcome"),
		howLong: newStream(p.fleet.seed, key, "latency"),
	}
	if r := p.resolve(n); r.Kind == yaml.ScalarNode && r.Tag == "!!null" {
		h.outcomes = []outcome{{weight: 1, kind: Answers, status: 200}}
		return h
	}
	m, ok := p.mapping(n, p.sections["method"])
	if !ok {
		return h
	}
	list := m.vals["outcomes"]
	if list == nil {
		h.outcomes = []outcome{p.outcome(m, g, key)}
		return h
	}
	for _, k := range m.keys {
		if k.Value != "outcomes" && m.vals[k.Value] != nil {
			p.find(k, "method: %q goes into the outcomes where there are some", k.Value)
		}
	}
	for i, entry := range p.list(list, "outcomes") {
		if m, ok := p.mapping(entry, p.sections["outcome"]); ok {
			h.outcomes = append(h.outcomes, p.outcome(m, g, key+"/"+strconv.Itoa(i)))
		}
	}
	p.drawable(h, list)
	return h
}

// drawable sees to it that there is an outcome for every call.
func (p *parser) drawable(h *handler, at *yaml.Node) {
	if len(h.outcomes) == 0 {
		return
	}
	others := func(o outcome) bool { return o.calls.any() && o.weight > 0 }
	if !slices.ContainsFunc(h.outcomes, others) {
		p.find(at, "outcomes: none is left for other calls; one must have a weight and name no calls")
	}
}

func (p *parser) outcome(m *mapping, g *group, key string) outcome {
	o := outcome{weight: 1, kind: Answers, status: 200}
	if n := m.vals["weight"]; n != nil {
		o.weight = p.weight(n)
	}
	if n := m.vals["calls"]; n != nil {
		o.calls = p.calls(n, "calls")
		if o.weight == 0 {
			p.find(n, "outcome: without weight it is never drawn, so calls says nothing")
		}
	}
	if n := m.vals["does"]; n != nil {
		word, _ := p.word(n, "does", []string{"answers", "hangs", "garbage", "disconnects"})
		switch word {
		case "hangs":
			o.kind = Hangs
		case "garbage":
			o.kind = Garbage
		case "disconnects":
			o.kind = Disconnects
		}
	}
	if n := m.vals["status"]; n != nil {
		o.status = p.status(n)
	}
	if n := m.vals["payload"]; n != nil {
		if o.kind != Answers {
			p.find(n, "payload: only goes with a device that answers")
		}
		o.payload = p.payload(n, g, key)
	}
	if n := m.vals["latency"]; n != nil {
		o.latency = p.delay(n, "latency")
	}
	return o
}

func (p *parser) payload(n *yaml.Node, g *group, key string) *template {
	c := &compiler{reader: p.reader, group: g, seed: p.fleet.seed, key: key}
	return c.compile(n, "payload")
}

// weight reads a weight: not negative, and small enough to be added up.
func (p *parser) weight(n *yaml.Node) float64 {
	w, ok := p.float(n, "weight")
	if ok && (w < 0 || w > 1e9) {
		p.find(n, "weight: %s is out of range; want 0 to 1000000000", shown(p.resolve(n)))
	}
	return w
}

func (p *parser) status(n *yaml.Node) int {
	s, _ := p.integer(n, "status", math.MinInt32, math.MaxInt32)
	return int(s)
}

// delay reads a distribution of durations, or one duration.
func (p *parser) delay(n *yaml.Node, what string) delay {
	if p.resolve(n).Kind != yaml.MappingNode {
		d, _ := p.duration(n, what)
		return delay{a: float64(d)}
	}
	m, ok := p.mapping(n, p.sections["delay"])
	if !ok {
		return delay{}
	}
	shape := m.exclusive("uniform", "normal", "lognormal", "percentiles")
	switch shape {
	case "":
		p.find(m.node, "%s: want a duration or one of uniform, normal, lognormal and percentiles", what)
		return delay{}
	case "percentiles":
		return p.percentiles(m.vals[shape])
	}
	return p.curve(m.vals[shape], shape)
}

// curve reads a distribution of two durations.
func (p *parser) curve(n *yaml.Node, shape string) delay {
	keys := map[string][2]string{
		"uniform": {"from", "to"}, "normal": {"mean", "deviation"}, "lognormal": {"median", "p99"},
	}[shape]
	m, ok := p.mapping(n, Section{Name: shape, Keys: []Key{{Name: keys[0]}, {Name: keys[1]}}})
	if !ok || m.missing(keys[0]) || m.missing(keys[1]) {
		return delay{}
	}
	a, aok := p.duration(m.vals[keys[0]], keys[0])
	b, bok := p.duration(m.vals[keys[1]], keys[1])
	if !aok || !bok {
		return delay{}
	}
	d := delay{shape: uniformDelay, a: float64(a), b: float64(b)}
	switch shape {
	case "normal":
		d.shape = normalDelay
		return d
	case "lognormal":
		d.shape = lognormalDelay
		if a > 0 && b >= a {
			d.b = math.Log(d.b/d.a) / z99
		}
	}
	switch {
	case b < a:
		p.find(m.vals[keys[1]], "%s: %s is shorter than %s", shape, keys[1], keys[0])
	case shape == "lognormal" && a == 0:
		p.find(m.vals[keys[0]], "lognormal: want a median of more than nothing")
	}
	return d
}

// percentiles reads points that rise in both directions.
func (p *parser) percentiles(n *yaml.Node) delay {
	d := delay{shape: pointsDelay}
	m, ok := p.anyMapping(n, "percentiles")
	if !ok {
		return delay{}
	}
	for _, k := range m.keys {
		text, isP := strings.CutPrefix(k.Value, "p")
		share, err := strconv.ParseFloat(text, 64)
		if !isP || err != nil || !plainDecimal(text) || share > 100 {
			p.find(k, "percentiles: %q is not a percentile; want p0 to p100, such as p50 or p99.9", k.Value)
			return delay{}
		}
		v, ok := p.duration(m.vals[k.Value], k.Value)
		if !ok {
			return delay{}
		}
		if last := len(d.points) - 1; last >= 0 && (share/100 <= d.points[last].share || float64(v) < d.points[last].value) {
			p.find(k, "percentiles: %s must come after a smaller one with a shorter duration", k.Value)
			return delay{}
		}
		d.points = append(d.points, delayPoint{share: share / 100, value: float64(v)})
	}
	if len(d.points) < 2 {
		p.find(m.node, "percentiles: want at least two, such as p50 and p99")
		return delay{}
	}
	return d
}

// period reads a duration that must not be nothing.
func (p *parser) period(n *yaml.Node, what string) time.Duration {
	d, ok := p.duration(n, what)
	if ok && d == 0 {
		p.find(n, "%s: want more than nothing", what)
	}
	return d
}
