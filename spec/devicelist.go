package spec

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strings"
)

// DeviceList is a list of devices and modules. A plan may list a million, so they
// stand one behind the other, at their length and four bytes each.
type DeviceList struct {
	text []byte
	ends []uint32 // where each ends in text
}

// ListDevices returns a list of these.
func ListDevices(ids ...DeviceID) DeviceList {
	var l DeviceList
	for _, id := range ids {
		l.Add(id)
	}
	return l
}

// Add puts a device at the end. All of them together may have four gigabytes.
func (l *DeviceList) Add(id DeviceID) {
	l.text = append(l.text, id.Device...)
	if id.Module != "" {
		l.text = append(append(l.text, '/'), id.Module...)
	}
	l.ends = append(l.ends, uint32(len(l.text))) //nolint:gosec // a plan is far smaller
}

// Clip gives back what room there is for more.
func (l *DeviceList) Clip() { l.text, l.ends = bytes.Clone(l.text), slices.Clip(slices.Clone(l.ends)) }

// Len returns how many there are.
func (l *DeviceList) Len() int { return len(l.ends) }

func (l *DeviceList) at(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = l.ends[i-1]
	}
	return l.text[start:l.ends[i]]
}

// At returns the device at an index.
func (l *DeviceList) At(i int) DeviceID {
	device, module, _ := strings.Cut(string(l.at(i)), "/")
	return DeviceID{Device: device, Module: module}
}

// Has tells whether a device stands at an index.
func (l *DeviceList) Has(i int, id DeviceID) bool {
	text, n := l.at(i), len(id.Device)
	switch {
	case len(text) < n || string(text[:n]) != id.Device:
		return false
	case id.Module == "":
		return len(text) == n
	}
	return len(text) > n && text[n] == '/' && string(text[n+1:]) == id.Module
}

// All yields each, in order.
func (l *DeviceList) All() iter.Seq[DeviceID] {
	return func(yield func(DeviceID) bool) {
		for i := range l.ends {
			if !yield(l.At(i)) {
				return
			}
		}
	}
}

// Chunks yields all, so many at once.
func (l *DeviceList) Chunks(n int) iter.Seq[[]DeviceID] {
	return func(yield func([]DeviceID) bool) {
		for from := 0; from < len(l.ends); from += n {
			some := make([]DeviceID, 0, n)
			for i := from; i < min(from+n, len(l.ends)); i++ {
				some = append(some, l.At(i))
			}
			if !yield(some) {
				return
			}
		}
	}
}

// Equal tells whether two lists are the same.
func (l DeviceList) Equal(other DeviceList) bool {
	return string(l.text) == string(other.text) && slices.Equal(l.ends, other.ends)
}

// MarshalJSON writes the list as an array; null if it is empty.
func (l DeviceList) MarshalJSON() ([]byte, error) {
	return json.Marshal(slices.Collect(l.All())) //nolint:wrapcheck // a list always has a JSON form
}
