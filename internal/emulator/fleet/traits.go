package fleet

import (
	"encoding/json"
	"time"
)

// A trait is what sets a device apart from the healthy ones of its group. A
// device has one at most: the shares of a group are parts of a whole.
type trait int

// The traits, in the order in which shares are laid side by side.
const (
	offline       trait = iota // never online
	late                       // online only after a while
	flapping                   // offline for a part of every period
	rejecting                  // answers every method with the same refusal
	slow                       // answers, but with another latency
	hanging                    // never answers
	garbled                    // answers what is not JSON
	disconnecting              // closes its connection instead of answering
	healthy                    // none of these; also the number of traits before it
)

// traits says how large a share of a group has which trait.
type traits struct {
	who     stream
	shares  [healthy]float64
	any     bool
	delays  stream // of late devices, slow answers and the phase of flapping ones
	late    delay  // when a late device comes online
	every   time.Duration
	away    time.Duration // how long of every period a flapping device is offline
	status  int           // of a rejecting device
	payload *template     // of a rejecting device
	slow    delay
}

func (t *traits) of(g *group, k int) trait {
	if !t.any {
		return healthy
	}
	return trait(cut(t.who.place(k, g.count), 1, t.shares[:]))
}

// Online reports whether device i is connected, and listens for methods, at
// the given time after the start. It allocates nothing.
func (f *Fleet) Online(i int, since time.Duration) bool {
	g, k := f.locate(i)
	t := &g.traits
	switch t.of(g, k) {
	case offline:
		return false
	case late:
		return since >= t.late.at(t.delays.place(k, g.count))
	case flapping:
		phase := time.Duration(t.delays.unit(k, 0) * float64(t.every))
		return (since+phase)%t.every >= t.away
	case rejecting, slow, hanging, garbled, disconnecting, healthy:
	}
	return true
}

// bend turns what the handler would have done into what the device's trait
// makes of it.
func (t *traits) bend(r Reaction, sc *scene) Reaction {
	switch t.of(sc.group, sc.index) {
	case rejecting:
		r.Kind, r.Status, r.Payload = Answers, t.status, t.payload.value(sc)
	case slow:
		r.Latency = t.slow.at(t.delays.unit(sc.index, sc.nth))
	case hanging:
		r = Reaction{Kind: Hangs}
	case garbled:
		r.Kind, r.Status, r.Payload = Garbage, 200, json.RawMessage(garbage)
	case disconnecting:
		r = Reaction{Kind: Disconnects, Latency: r.Latency}
	case offline, late, flapping, healthy:
	}
	return r
}
