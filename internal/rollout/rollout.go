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

// Cut cuts targets into waves that are in the order of their turns. Members are the
// targets of each wave that names them; those in no wave, those of other orders, and
// those that a wave before has, do not count.
func Cut(order []uint32, rules []spec.Wave, members [][]uint32) Waves {
	w := Waves{Order: order, Ends: make([]int, 0, len(rules))}
	if !slices.ContainsFunc(rules, spec.Wave.Names) {
		for _, r := range rules {
			w.Ends = append(w.Ends, max(w.end(), r.Size.Of(len(order))))
		}
		return w
	}
	all := 0
	if len(order) > 0 {
		all = int(slices.Max(order)) + 1
	}
	place := make([]uint32, all) // in the order and from 1, by index
	for i, index := range w.Order {
		place[index] = uint32(i) + 1
	}
	cut := cutter{from: w.Order, taken: make([]bool, all), to: make([]uint32, 0, len(order))}
	for i, r := range rules {
		if r.Names() {
			chosen := slices.DeleteFunc(slices.Clone(members[i]), func(index uint32) bool { return int(index) >= all || place[index] == 0 })
			slices.SortFunc(chosen, func(a, b uint32) int { return cmp.Compare(place[a], place[b]) })
			cut.take(chosen)
		} else {
			cut.fill(r.Size.Of(len(order)))
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

// Shuffled returns the targets of a cohort in an order that depends on the
// names of the plan and of each target, and on nothing else: by the first eight
// bytes of the SHA-256 of plan, device and module, each ended by a zero byte.
func Shuffled(plan string, c *cohort.Cohort) []uint32 {
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
