// Package rollout puts a cohort into the order of its rollout and cuts it into
// waves. It is pure: the same plan and the same devices give the same waves, in
// a run, a preview and a run that is resumed on another machine.
package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"iothub-runner/internal/cohort"
	"iothub-runner/spec"
)

// Waves is a cohort in the order in which its targets have their turn.
type Waves struct {
	Order []uint32 // indexes of the cohort
	Ends  []int    // of each wave, in Order
}

// Cut cuts a cohort whose listing is whole. Members are the targets of each wave
// that names them; those in no wave, and those that a wave before has, do not
// count.
func Cut(plan string, c *cohort.Cohort, rules []spec.Wave, members [][]uint32) Waves {
	w := Waves{Order: shuffled(plan, c), Ends: make([]int, 0, len(rules))}
	if !slices.ContainsFunc(rules, spec.Wave.Names) {
		for _, r := range rules {
			w.Ends = append(w.Ends, max(w.end(), r.Size.Of(c.Size())))
		}
		return w
	}
	place := make([]uint32, c.Size()) // in the order of the hash, by index
	for i, index := range w.Order {
		place[index] = uint32(i)
	}
	cut := cutter{from: w.Order, taken: make([]bool, c.Size()), to: make([]uint32, 0, c.Size())}
	for i, r := range rules {
		if r.Names() {
			chosen := slices.Clone(members[i])
			slices.SortFunc(chosen, func(a, b uint32) int { return cmp.Compare(place[a], place[b]) })
			cut.take(chosen)
		} else {
			cut.fill(r.Size.Of(c.Size()))
		}
		w.Ends = append(w.Ends, len(cut.to))
	}
	w.Order = cut.to
	return w
}

// end is that of the last wave so far.
func (w Waves) end() int {
	if len(w.Ends) == 0 {
		return 0
	}
	return w.Ends[len(w.Ends)-1]
}

// Span returns where a wave begins and ends in Order.
func (w Waves) Span(i int) (from, to int) {
	if i > 0 {
		from = w.Ends[i-1]
	}
	return from, w.Ends[i]
}

// cutter takes targets out of one order and into another.
type cutter struct {
	from  []uint32
	next  int // of from
	taken []bool
	to    []uint32
}

func (c *cutter) take(indexes []uint32) {
	for _, index := range indexes {
		if !c.taken[index] {
			c.taken[index] = true
			c.to = append(c.to, index)
		}
	}
}

// fill takes the next ones until there are so many.
func (c *cutter) fill(size int) {
	for ; len(c.to) < size && c.next < len(c.from); c.next++ {
		c.take(c.from[c.next : c.next+1])
	}
}

// shuffled returns the targets of a cohort in an order that depends on the
// names of the plan and of each target, and on nothing else: by the first eight
// bytes of the SHA-256 of plan, device and module, each ended by a zero byte.
func shuffled(plan string, c *cohort.Cohort) []uint32 {
	hashes, order := make([]uint64, c.Size()), make([]uint32, c.Size())
	var text []byte
	for i := range order {
		t := c.Target(uint32(i))
		text = append(append(text[:0], plan...), 0)
		text = append(append(text, t.DeviceID...), 0)
		text = append(append(text, t.ModuleID...), 0)
		sum := sha256.Sum256(text)
		hashes[i], order[i] = binary.BigEndian.Uint64(sum[:8]), uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(hashes[a], hashes[b]), c.Compare(a, b))
	})
	return order
}
