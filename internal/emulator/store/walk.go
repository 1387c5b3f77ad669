package store

import (
	"slices"

	"iothub-runner/internal/twinquery"
)

// Walk is a way through the slots: all of them, or only those whose devices a
// query can match.
type Walk struct {
	end  int
	only []int // sorted; nil for all
}

// Walk looks whether a query names its devices. A hub would use an index; a
// list of ids must not cost a look at a million devices. While queries lag
// that is not done: they still see devices that the registry has no more.
func (s *Store) Walk(q *twinquery.Query) Walk {
	w := Walk{end: s.Slots()}
	if q.Where == nil || s.Lag.Load() > 0 {
		return w
	}
	ids, ok := q.Where.Pinned("deviceId")
	if !ok {
		return w
	}
	w.only = make([]int, 0, len(ids))
	for _, id := range ids {
		if n, known := s.place(id); known {
			w.only = append(w.only, n)
		}
	}
	slices.Sort(w.only)
	w.only = slices.Compact(w.only)
	return w
}

// From returns the first slot to look at, from n on.
func (w Walk) From(n int) (int, bool) {
	if w.only == nil {
		return n, n < w.end
	}
	i, _ := slices.BinarySearch(w.only, n)
	if i == len(w.only) {
		return 0, false
	}
	return w.only[i], true
}
