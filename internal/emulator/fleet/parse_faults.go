package fleet

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// fault reads entry number i of the list of faults.
func (p *parser) fault(n *yaml.Node, i int) {
	m, ok := p.mapping(n, p.sections["fault"])
	if !ok || m.missing("fault") {
		return
	}
	word, ok := p.word(m.vals["fault"], "fault", words(FaultKinds()))
	if !ok {
		return
	}
	key := "fault " + strconv.Itoa(i)
	r := faultRule{
		kind: FaultKind(word), share: 1,
		draws:   newStream(p.fleet.seed, key, word),
		howLong: newStream(p.fleet.seed, key, word, "latency"),
	}
	p.optional(m, "share", func(n *yaml.Node) { r.share = p.share(n, "share") })
	p.optional(m, "calls", func(n *yaml.Node) { r.calls = p.calls(n, "calls") })
	p.optional(m, "from", func(n *yaml.Node) { r.from, _ = p.duration(n, "from") })
	p.optional(m, "until", func(n *yaml.Node) { r.until = p.period(n, "until") })
	p.optional(m, "latency", func(n *yaml.Node) { r.latency = p.delay(n, "latency") })
	p.optional(m, "operations", func(n *yaml.Node) { r.operations = p.operations(n) })
	p.optional(m, "devices", func(n *yaml.Node) { r.ids = p.faulty(n, &r) })
	if r.kind == FaultThrottled {
		r.wait = 10 * time.Second
	}
	p.optional(m, "wait", func(n *yaml.Node) { r.wait, _ = p.duration(n, "wait") })
	p.agree(m, &r)
	p.fleet.faults = append(p.fleet.faults, r)
}

// agree finds entries that could never happen.
func (p *parser) agree(m *mapping, r *faultRule) {
	if n := m.vals["wait"]; n != nil && r.kind != FaultThrottled {
		p.find(n, "wait: only goes with throttled")
	}
	if r.until > 0 && r.until <= r.from {
		p.find(m.vals["until"], "until: %v is not after %v, where it starts", r.until, r.from)
	}
	if r.kind == FaultSlow {
		m.missing("latency")
	}
	if n := m.vals["devices"]; n != nil && r.kind == FaultEmptyPage {
		p.find(n, "devices: a query addresses no device")
	}
	for _, op := range r.operations {
		switch {
		case op.knows(r.kind):
		case r.kind == FaultEmptyPage:
			p.find(m.vals["operations"], "operations: only a query has pages, %s has none", op)
		default:
			p.find(m.vals["operations"], "operations: %s does not happen to %s", r.kind, op)
		}
	}
}

func (p *parser) operations(n *yaml.Node) []Operation {
	var ops []Operation
	for _, entry := range p.list(n, "operations") {
		if word, ok := p.word(entry, "operations", words(Operations())); ok {
			ops = append(ops, Operation(word))
		}
	}
	return ops
}

// faulty reads ids that a fault is meant for. Each must be a device's of the
// fleet, unless the fault is for devices that connect for real: these may be
// registered later.
func (p *parser) faulty(n *yaml.Node, r *faultRule) []string {
	real := slices.ContainsFunc(r.operations, Operation.OfDevice)
	var ids []string
	for _, entry := range p.list(n, "devices") {
		id, ok := p.id(entry, "devices")
		if !ok {
			continue
		}
		if _, known := p.fleet.Index(id); !known && !real && !strings.HasSuffix(id, "*") {
			p.find(entry, "devices: the fleet has no device %q", id)
		}
		ids = append(ids, id)
	}
	return ids
}

func words[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = string(w)
	}
	return out
}
