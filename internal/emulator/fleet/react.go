package fleet

import (
	"encoding/json"
	"time"
)

// ReactionKind is what a device does with a method call.
type ReactionKind int

// The kinds of reaction.
const (
	// Answers: the device answers with Status and Payload.
	Answers ReactionKind = iota + 1
	// Hangs: the device takes the call and never answers.
	Hangs
	// Garbage: the device answers with Payload, which is not JSON.
	Garbage
	// Disconnects: the device closes its connection instead of answering.
	Disconnects
)

// Reaction is what a device does with one call, Latency after it received it.
type Reaction struct {
	Kind    ReactionKind
	Status  int             // for Answers and Garbage
	Payload json.RawMessage // for Answers any JSON value, nil for none; for Garbage anything else
	Latency time.Duration   // 0 for Hangs
}

// A handler is what a method does: one of its outcomes.
type handler struct {
	which    stream // which outcome a call draws
	howLong  stream // how long it takes
	outcomes []outcome
}

// An outcome is one way in which a call may go.
type outcome struct {
	weight  float64
	calls   calls
	kind    ReactionKind
	status  int
	payload *template
	latency delay
}

// calls is a range of call numbers, counted from 1; a last of 0 has no end and
// the zero calls stands for any call.
type calls struct{ first, last int64 }

func (c calls) any() bool { return c.first == 0 }

func (c calls) contain(nth int64) bool {
	return c.any() || nth >= c.first && (c.last == 0 || nth <= c.last)
}

// anyMethod is the name that stands for every method without a handler.
const anyMethod = "*"

// unknownMethod is the status of a device that has no handler for a method. It
// is the device's own answer, not the hub's: Microsoft's .NET client answers
// 501 with an empty body; other clients leave it to the program (404 and 500
// are seen too, and a handler named "*" can say so).
const unknownMethod = 501

// garbage is what a broken device answers: the start of a JSON object.
const garbage = `{"Response":"lock`

// Invoke returns what device i does with the nth call that it receives,
// counted from 1 over all methods. The payload is the JSON value of the call,
// nil if it has none. The payload of the reaction may be shared: it must not
// be written to.
func (f *Fleet) Invoke(i int, method string, nth int, payload []byte) Reaction {
	g, k := f.locate(i)
	return g.react(g.methods, &scene{group: g, index: k, method: method, nth: int64(nth), request: payload})
}

// InvokeModule is Invoke for the module at place m of Modules(i). A module
// shares the fate of its device: with a hanging one it hangs.
func (f *Fleet) InvokeModule(i, m int, method string, nth int, payload []byte) Reaction {
	g, k := f.locate(i)
	mod := &g.modules[m]
	return g.react(mod.methods, &scene{
		group: g, index: k, module: mod.id, method: method, nth: int64(nth), request: payload,
	})
}

func (g *group) react(methods map[string]*handler, sc *scene) Reaction {
	h := methods[sc.method]
	if h == nil {
		h = methods[anyMethod]
	}
	r := Reaction{Kind: Answers, Status: unknownMethod}
	if h != nil {
		r = h.react(sc)
	} else {
		r.Payload = json.RawMessage(`{"error":` + quote("no handler for method "+sc.method) + `}`)
	}
	return g.traits.bend(r, sc)
}

func (h *handler) react(sc *scene) Reaction {
	o := h.draw(sc)
	if o.kind == Hangs {
		return Reaction{Kind: Hangs}
	}
	r := Reaction{Kind: o.kind, Latency: o.latency.at(h.howLong.unit(sc.index, sc.nth))}
	switch o.kind {
	case Answers:
		r.Status, r.Payload = o.status, o.payload.value(sc)
	case Garbage:
		r.Status, r.Payload = o.status, json.RawMessage(garbage)
	case Hangs, Disconnects:
	}
	return r
}

// draw chooses an outcome by weight: among those that name this call, or, where
// none does, among those that name no calls.
func (h *handler) draw(sc *scene) *outcome {
	if len(h.outcomes) == 1 {
		return &h.outcomes[0]
	}
	named := false
	for i := range h.outcomes {
		o := &h.outcomes[i]
		named = named || !o.calls.any() && o.calls.contain(sc.nth)
	}
	total := 0.0
	for i := range h.outcomes {
		total += h.outcomes[i].stake(named, sc.nth)
	}
	u, edge := h.which.unit(sc.index, sc.nth)*total, 0.0
	last := &h.outcomes[0]
	for i := range h.outcomes {
		stake := h.outcomes[i].stake(named, sc.nth)
		if stake == 0 {
			continue
		}
		last = &h.outcomes[i]
		if edge += stake; u < edge {
			break
		}
	}
	return last
}

// stake is the outcome's weight in the draw for a call, 0 if it has no part in it.
func (o *outcome) stake(named bool, nth int64) float64 {
	if o.calls.any() == named || !o.calls.contain(nth) {
		return 0
	}
	return o.weight
}
