// Package cohort holds who belongs to a job, in which order, and what became of
// each, in about thirty bytes a device.
package cohort

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// Cohort is the set of targets of one job, in the order in which they were
// listed, and what became of each. It is the only thing of a run that grows
// with the fleet, so it is laid out for that: about thirty bytes a device, in
// pieces that are never copied when they grow. It belongs to the goroutine that
// dispatches the job.
type Cohort struct {
	keys    [][]byte // the keys, one after the other, in chunks of keyChunk
	entries [][]Entry
	size    int

	// table finds a key's entry while the cohort is being listed; nil after.
	table []uint32 // 1 + index of an entry; 0 is free
	seed  maphash.Seed
}

// Entry is one target. Its row is a line of the journal; [NoLine] says that there
// is none, because nothing was ever done or recorded.
type Entry struct {
	key     uint32 // where the key begins: chunk and offset
	line    uint32 // low 32 bits of the row's position in the journal
	lineTop uint8  // the next 8 bits: journals of up to a terabyte
	state   entryState
	length  uint8 // of the key, less than 256: two ids and a separator may be longer
	more    uint8
}

// entryState is where a target stands: an outcome once it is settled.
type entryState uint8

const (
	// statePending: listed and not settled. Listing moves a target in, its
	// outcome out. Whether anything was sent meanwhile is for the journal to tell.
	statePending entryState = iota
	// stateBegun: an intent without a result. Only reading a journal moves a
	// target in; a crash is what left it so. The entry's line is the intent.
	stateBegun
	// stateReopened and above: settled by an earlier run, in the order of
	// spec.Outcomes, and to be done again by this one. The entry's line is the row
	// of before, which stands until there is a newer one.
	stateReopened
	// stateSettled and above: an outcome, in the order of spec.Outcomes.
	stateSettled = stateReopened + entryState(Outcomes)
)

// Outcomes is how many there are.
const Outcomes = 9

// NoLine is the position of a row that there is none of.
const NoLine = journal.Position(1<<40 - 1)

const (
	keyChunk   = 1 << 20
	entryChunk = 1 << 12
)

// New returns an empty cohort.
func New() *Cohort {
	return &Cohort{table: make([]uint32, 64), seed: maphash.MakeSeed()}
}

// Key is a target of one hub of the plan.
type Key struct {
	Pool int
	hub.Target
}

// appendKey makes the bytes that a target is sorted and found by: device,
// module, hub, as far as there is something to say. Ids hold no NUL.
func appendKey(b []byte, t Key) []byte {
	b = append(b, t.DeviceID...)
	if t.ModuleID == "" && t.Pool == 0 {
		return b
	}
	b = append(append(b, 0), t.ModuleID...)
	if t.Pool == 0 {
		return b
	}
	return append(b, 0, byte(t.Pool))
}

func parseKey(key []byte) Key {
	device, rest, _ := bytes.Cut(key, []byte{0})
	module, pool, several := bytes.Cut(rest, []byte{0})
	t := Key{Target: hub.Target{DeviceID: string(device), ModuleID: string(module)}}
	if several {
		t.Pool = int(pool[0])
	}
	return t
}

// KeyOf returns the target of a line of the journal.
func KeyOf(t journal.Target) Key {
	return Key{Pool: t.Hub, Target: hub.Target{DeviceID: t.Device, ModuleID: t.Module}}
}

// Journal returns the target as the journal has it.
func (t Key) Journal() journal.Target {
	return journal.Target{Hub: t.Pool, Device: t.DeviceID, Module: t.ModuleID}
}

// Target returns the target at an index.
func (c *Cohort) Target(index uint32) Key { return parseKey(c.key(index)) }

// Pool returns the hub of the target at an index.
func (c *Cohort) Pool(index uint32) int {
	key := c.key(index)
	if n := len(key); n > 2 && key[n-2] == 0 && bytes.IndexByte(key, 0) < n-2 {
		return int(key[n-1])
	}
	return 0
}

// Size returns how many targets there are.
func (c *Cohort) Size() int { return c.size }

// Add puts a target in and returns its index; known tells that it was there.
func (c *Cohort) Add(t Key) (index uint32, known bool) {
	var scratch [288]byte
	key := appendKey(scratch[:0], t)
	if c.table == nil {
		c.rebuild()
	}
	hash := maphash.Bytes(c.seed, key)
	slot := c.find(hash, key)
	if found := c.table[slot]; found != 0 {
		return c.indexIn(found), true
	}
	index = uint32(c.size)
	c.push(key)
	c.table[slot] = c.slotOf(hash, index)
	if full(c.size, len(c.table)) {
		c.grow()
	}
	return index, false
}

// Lookup returns the index of a target. It may be used by several goroutines as
// long as nobody adds to the cohort, which must not be frozen.
func (c *Cohort) Lookup(t Key) (index uint32, known bool) {
	var scratch [288]byte
	key := appendKey(scratch[:0], t)
	found := c.table[c.find(maphash.Bytes(c.seed, key), key)]
	return c.indexIn(found), found != 0
}

// A slot holds an index plus one and, as long as there is room beside it, the low
// bits of the key's hash: most keys that are not the one are told apart by them,
// without a look at where they stand.
const (
	indexBits = 24
	indexMask = 1<<indexBits - 1
)

// wide tells whether indexes need all bits of a slot.
func (c *Cohort) wide() bool { return len(c.table)*4/5 >= indexMask }

func (c *Cohort) slotOf(hash uint64, index uint32) uint32 {
	if c.wide() {
		return index + 1
	}
	return uint32(hash)<<indexBits | (index + 1)
}

func (c *Cohort) indexIn(slot uint32) uint32 {
	if !c.wide() {
		slot &= indexMask
	}
	return slot - 1
}

// find returns the slot of key, or the free one where it belongs.
func (c *Cohort) find(hash uint64, key []byte) int {
	slot, wide := c.home(hash), c.wide()
	for {
		found := c.table[slot]
		switch {
		case found == 0:
			return slot
		case !wide && found>>indexBits != uint32(hash)&0xff: // another one
		case bytes.Equal(c.key(c.indexIn(found)), key):
			return slot
		}
		slot = c.after(slot)
	}
}

// home is the slot of a key in a table without others.
func (c *Cohort) home(hash uint64) int {
	// The high bits of hash times size are a slot, whatever the size.
	high, _ := bits.Mul64(hash, uint64(len(c.table)))
	return int(high)
}

func (c *Cohort) after(slot int) int {
	if slot++; slot == len(c.table) {
		return 0
	}
	return slot
}

// full tells whether a table of so many slots should grow before it holds more.
func full(size, slots int) bool { return size*5 > slots*4 }

func (c *Cohort) grow() {
	c.table = make([]uint32, len(c.table)+len(c.table)/2)
	c.fill()
}

// rebuild makes the table anew, for a cohort whose listing goes on after all.
func (c *Cohort) rebuild() {
	c.table = make([]uint32, max(64, 2*c.size))
	c.fill()
}

func (c *Cohort) fill() {
	for i := range uint32(c.size) {
		hash := maphash.Bytes(c.seed, c.key(i))
		slot := c.home(hash)
		for c.table[slot] != 0 { // of another key: each is there once
			slot = c.after(slot)
		}
		c.table[slot] = c.slotOf(hash, i)
	}
}

// Freeze ends the listing: nothing is looked up by key from here on.
func (c *Cohort) Freeze() { c.table = nil }

func (c *Cohort) push(key []byte) {
	last := len(c.keys) - 1
	if last < 0 || len(c.keys[last])+len(key) > keyChunk {
		c.keys = append(c.keys, make([]byte, 0, c.chunkSize()))
		last++
	}
	chunk := c.keys[last]
	if len(chunk)+len(key) > cap(chunk) {
		chunk = slices.Grow(chunk, keyChunk-len(chunk))
	}
	at := uint32(last)*keyChunk + uint32(len(chunk))
	c.keys[last] = append(chunk, key...)
	if c.size%entryChunk == 0 {
		c.entries = append(c.entries, make([]Entry, 0, min(entryChunk, max(16, c.size))))
	}
	block := &c.entries[c.size/entryChunk]
	if len(*block) == cap(*block) {
		*block = slices.Grow(*block, min(entryChunk, 2*len(*block))-len(*block))
	}
	e := Entry{key: at, state: statePending, length: uint8(len(key)), more: uint8(len(key) >> 8)}
	e.setLine(NoLine)
	*block = append(*block, e)
	c.size++
}

// chunkSize keeps small cohorts small: their first chunk grows to full size.
func (c *Cohort) chunkSize() int {
	if len(c.keys) == 0 {
		return 1 << 10
	}
	return keyChunk
}

// At returns the target at an index, to look at.
func (c *Cohort) At(index uint32) *Entry {
	return &c.entries[index/entryChunk][index%entryChunk]
}

func (c *Cohort) key(index uint32) []byte {
	e := c.At(index)
	offset := e.key % keyChunk
	return c.keys[e.key/keyChunk][offset : offset+uint32(e.length)+uint32(e.more)<<8]
}

func (e *Entry) setLine(p journal.Position) {
	e.line, e.lineTop = uint32(p), uint8(p>>32)
}

// Position returns where its row stands, or its intent while it is begun.
func (e *Entry) Position() journal.Position {
	return journal.Position(e.line) | journal.Position(e.lineTop)<<32
}

// Settle records a target's outcome and the line that holds its row.
func (c *Cohort) Settle(index uint32, o spec.Outcome, line journal.Position) {
	e := c.At(index)
	e.state = stateSettled + entryState(OutcomeIndex(o))
	e.setLine(line)
}

// Wait notes the line that tells what is known so far of a target that has not
// ended; NoLine if nothing is.
func (c *Cohort) Wait(index uint32, line journal.Position) { c.At(index).setLine(line) }

// Pending tells whether nothing is known of a target but that it was listed.
func (e *Entry) Pending() bool { return e.state == statePending }

// Begun tells whether an attempt was begun whose result is not known.
func (e *Entry) Begun() bool { return e.state == stateBegun }

// Settled tells whether a target has an outcome that stands.
func (e *Entry) Settled() bool { return e.state >= stateSettled }

// Begin notes that an attempt was begun, in the line at p.
func (c *Cohort) Begin(index uint32, p journal.Position) {
	e := c.At(index)
	e.state = stateBegun
	e.setLine(p)
}

// Reopen makes a settled target one that is still to be done.
func (c *Cohort) Reopen(index uint32) {
	c.At(index).state -= stateSettled - stateReopened
}

// Reopened returns how a target ended before it was reopened, and false if it
// was not.
func (e *Entry) Reopened() (spec.Outcome, bool) {
	if e.state < stateReopened || e.state >= stateSettled {
		return "", false
	}
	return spec.Outcomes()[e.state-stateReopened], true
}

// Outcome returns how a target ended, and false while it has not.
func (e *Entry) Outcome() (spec.Outcome, bool) {
	if e.state < stateSettled {
		return "", false
	}
	return spec.Outcomes()[e.state-stateSettled], true
}

// OutcomeIndex returns the place of an outcome in spec.Outcomes.
func OutcomeIndex(o spec.Outcome) int {
	i := slices.Index(spec.Outcomes(), o)
	if i < 0 {
		panic("outcome outside the closed set: " + string(o))
	}
	return i
}

// Compare orders two targets by device, module and hub.
func (c *Cohort) Compare(a, b uint32) int { return bytes.Compare(c.key(a), c.key(b)) }

// Sorted returns the indexes of all targets by device, module and hub.
func (c *Cohort) Sorted() []uint32 {
	order := make([]uint32, c.size)
	ascending := true
	for i := range order {
		order[i] = uint32(i)
		ascending = ascending && (i == 0 || bytes.Compare(c.key(uint32(i-1)), c.key(uint32(i))) < 0)
	}
	if !ascending { // most hubs list in order
		slices.SortFunc(order, func(a, b uint32) int {
			return cmp.Or(bytes.Compare(c.key(a), c.key(b)), cmp.Compare(a, b))
		})
	}
	return order
}
