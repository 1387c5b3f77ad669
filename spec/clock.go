package spec

import "time"

// LocalKind says how often a clock on the wall shows a time.
type LocalKind int

// The kinds. Clocks that are put forward skip an hour, clocks that are put back
// show one twice.
const (
	LocalOnce LocalKind = iota
	LocalSkipped
	LocalTwice
)

// Local returns the instant at which a clock in a place shows the date and the
// time of day of wall. Of two such instants it is the first; a time that is
// skipped is later by as much as the clocks are put forward.
func Local(wall time.Time, in *time.Location) (time.Time, LocalKind) {
	y, m, d := wall.Date()
	utc := time.Date(y, m, d, wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), time.UTC)
	// Within a day the clocks are changed once at most, so these are all the
	// offsets that there may be.
	_, before := utc.Add(-24 * time.Hour).In(in).Zone()
	_, after := utc.Add(24 * time.Hour).In(in).Zone()
	var shown []time.Time
	for _, offset := range []int{before, after} {
		at := utc.Add(-time.Duration(offset) * time.Second).In(in)
		if _, is := at.Zone(); is == offset {
			shown = append(shown, at)
		}
	}
	switch {
	case len(shown) == 0:
		return utc.Add(-time.Duration(before) * time.Second).In(in), LocalSkipped
	case len(shown) == 2 && !shown[0].Equal(shown[1]):
		if shown[1].Before(shown[0]) {
			shown[0] = shown[1]
		}
		return shown[0], LocalTwice
	}
	return shown[0], LocalOnce
}
