package cohort

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// known is what the model holds of a target.
type known struct {
	index   uint32
	outcome spec.Outcome // empty while pending
	line    journal.Position
}

// model is a cohort as one would write it without a care for memory.
type model struct {
	t       *testing.T
	cohort  *Cohort
	targets map[Key]*known
	order   []Key
}

func (m *model) add(key Key) {
	index, had := m.cohort.Add(key)
	k := m.targets[key]
	if had != (k != nil) {
		m.t.Fatalf("add(%v): known is %t, want %t", key, had, k != nil)
	}
	if k == nil {
		k = &known{index: uint32(len(m.order)), line: NoLine}
		m.targets[key] = k
		m.order = append(m.order, key)
	}
	if index != k.index {
		m.t.Fatalf("add(%v) = %d, want %d", key, index, k.index)
	}
}

func (m *model) settle(r *rand.Rand) {
	if len(m.order) == 0 {
		return
	}
	k := m.targets[m.order[r.IntN(len(m.order))]]
	k.outcome, k.line = spec.Outcomes()[r.IntN(len(spec.Outcomes()))], randomPosition(r)
	m.cohort.Settle(k.index, k.outcome, k.line)
}

// randomPosition returns a position of up to forty bits, of every magnitude.
func randomPosition(r *rand.Rand) journal.Position {
	return journal.Position(r.Uint64() & (1<<40 - 1) >> r.IntN(41))
}

func (m *model) check() {
	m.t.Helper()
	if m.cohort.size != len(m.order) {
		m.t.Fatalf("size = %d, want %d", m.cohort.size, len(m.order))
	}
	for i, key := range m.order {
		k, e := m.targets[key], m.cohort.At(uint32(i))
		if got := parseKey(m.cohort.key(uint32(i))); got != key {
			m.t.Fatalf("key %d = %v, want %v", i, got, key)
		}
		outcome, settled := e.Outcome()
		if outcome != k.outcome || settled != (k.outcome != "") || e.Position() != k.line {
			m.t.Fatalf("target %d: %q at %d, want %q at %d", i, outcome, e.Position(), k.outcome, k.line)
		}
	}
}

func (m *model) checkSorted() {
	m.t.Helper()
	want := slices.Clone(m.order)
	slices.SortFunc(want, func(a, b Key) int {
		if c := strings.Compare(a.DeviceID, b.DeviceID); c != 0 {
			return c
		}
		if c := strings.Compare(a.ModuleID, b.ModuleID); c != 0 {
			return c
		}
		return a.Pool - b.Pool
	})
	for i, index := range m.cohort.Sorted() {
		if got := parseKey(m.cohort.key(index)); got != want[i] {
			m.t.Fatalf("place %d of the sorted cohort = %v, want %v", i, got, want[i])
		}
	}
}

func randomKey(r *rand.Rand) Key {
	key := Key{Pool: r.IntN(3), Target: hub.Target{DeviceID: fmt.Sprintf("d%d", r.IntN(80_000))}}
	switch r.IntN(10) {
	case 0:
		key.ModuleID = fmt.Sprintf("m%d", r.IntN(5))
	case 1:
		key.DeviceID = strings.Repeat("d", 120) + fmt.Sprintf("%08d", r.IntN(3000))
		key.ModuleID = strings.Repeat("m", 127) + string(rune('a'+r.IntN(20)))
	case 2:
		key.DeviceID = key.DeviceID[:1+r.IntN(len(key.DeviceID))] // prefixes of others
	}
	return key
}

func TestCohortIsAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	m := &model{t: t, cohort: New(), targets: map[Key]*known{}}
	m.checkSorted()
	for n := range 250_000 {
		switch r.IntN(5) {
		case 0:
			m.settle(r)
		default:
			m.add(randomKey(r))
		}
		if n == 10 || n == 1000 || n == 50_000 {
			m.check()
		}
		if n%60_000 == 59_999 { // and go on listing all the same
			m.cohort.Freeze()
		}
	}
	if m.cohort.size < 80_000 {
		t.Fatalf("only %d targets, too few to prove anything", m.cohort.size)
	}
	m.check()
	m.checkSorted()
}

func TestCohortListedInOrder(t *testing.T) {
	m := &model{t: t, cohort: New(), targets: map[Key]*known{}}
	for i := range 10_000 {
		m.add(Key{Target: hub.Target{DeviceID: fmt.Sprintf("door-%05d", i)}})
	}
	m.check()
	m.checkSorted()
}

func TestCohortPositions(t *testing.T) {
	c := New()
	index, _ := c.Add(Key{Target: hub.Target{DeviceID: "d"}})
	if got := c.At(index).Position(); got != NoLine {
		t.Errorf("position of a new target = %d, want none", got)
	}
	for _, p := range []journal.Position{0, 1, 1<<32 - 1, 1 << 32, 1<<40 - 2} {
		for _, o := range spec.Outcomes() {
			c.Settle(index, o, p)
			if got, ok := c.At(index).Outcome(); got != o || !ok || c.At(index).Position() != p {
				t.Errorf("settled as %s at %d: %s at %d", o, p, got, c.At(index).Position())
			}
		}
	}
}

func TestCohortKnowsNoOtherOutcome(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an outcome outside the closed set did not panic")
		}
	}()
	c := New()
	c.Add(Key{Target: hub.Target{DeviceID: "d"}})
	c.Settle(0, "lost", 0)
}

// The cohort is what grows with the fleet: some forty bytes a device at most,
// while it is listed and after.
func TestCohortBytesPerDevice(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, n := range []int{100_000, 300_000} {
		before := heap()
		c := New()
		key := Key{}
		for i := range n {
			key.DeviceID = fmt.Sprintf("device-%07d", i) // 14 characters
			c.Add(key)
		}
		listing := float64(heap()-before) / float64(n)
		c.Freeze()
		frozen := float64(heap()-before) / float64(n)
		if listing > 44 || frozen > 34 {
			t.Errorf("%d devices: %.1f bytes a device while listing, %.1f after; want at most 44 and 34", n, listing, frozen)
		}
		t.Logf("%d devices: %.1f bytes a device while listing, %.1f after", n, listing, frozen)
		runtime.KeepAlive(c)
	}
}

func TestSmallCohortIsSmall(t *testing.T) {
	c := New()
	for i := range 10 {
		c.Add(Key{Target: hub.Target{DeviceID: fmt.Sprintf("door-%d", i)}})
	}
	if size := cap(c.keys[0]) + cap(c.table)*4 + cap(c.entries[0])*12; size > 4<<10 {
		t.Errorf("ten devices take %d bytes, want at most 4 KiB", size)
	}
}

func TestKeysSortAsTheirTargets(t *testing.T) {
	key := func(device, module string, pool int) []byte {
		return appendKey(nil, Key{Pool: pool, Target: hub.Target{DeviceID: device, ModuleID: module}})
	}
	ordered := [][]byte{
		key("a", "", 0), key("a", "", 1), key("a", "!", 0), key("a", "m", 0), key("a", "m", 2), key("a", "mm", 0),
		key("a!", "", 0), key("aa", "", 0), key("b", "", 0),
	}
	if !slices.IsSortedFunc(ordered, bytes.Compare) {
		t.Errorf("keys do not sort by device, module and hub: %q", ordered)
	}
}
