package planfile

import (
	"hash/maphash"

	"iothub-runner/spec"
)

// idTable finds where a device stands in a list, which it fills. It takes five to six
// bytes a device.
type idTable struct {
	list  spec.DeviceList
	seed  maphash.Seed
	table []uint32 // places in the list by the hash of their ids, each plus one; 0 is free
}

func newIDTable() *idTable { return &idTable{seed: maphash.MakeSeed(), table: make([]uint32, 64)} }

// slot is that of a device, or the free one where it belongs.
func (t *idTable) slot(id spec.DeviceID) int {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.WriteString(id.Device) // never returns an error
	_ = h.WriteByte('/')
	_, _ = h.WriteString(id.Module)
	slot := int(h.Sum64() % uint64(len(t.table))) //nolint:gosec // below the table's length
	for found := t.table[slot]; found != 0 && !t.list.Has(int(found-1), id); found = t.table[slot] {
		if slot++; slot == len(t.table) {
			slot = 0
		}
	}
	return slot
}

// find returns the place of a device in the list.
func (t *idTable) find(id spec.DeviceID) (at int, ok bool) {
	found := t.table[t.slot(id)]
	return int(found) - 1, found != 0
}

// add puts a device at the end of the list; false if it is there already.
func (t *idTable) add(id spec.DeviceID) bool {
	if t.list.Len()*5 >= len(t.table)*4 {
		t.table = make([]uint32, len(t.table)+len(t.table)/4)
		for i := range t.list.Len() {
			t.table[t.slot(t.list.At(i))] = uint32(i + 1) //nolint:gosec // their number is bounded
		}
	}
	slot := t.slot(id)
	if t.table[slot] != 0 {
		return false
	}
	t.list.Add(id)
	t.table[slot] = uint32(t.list.Len()) //nolint:gosec // their number is bounded
	return true
}
