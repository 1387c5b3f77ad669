package spec_test

import (
	"testing"

	"iothub-runner/spec"
)

// A share is met exactly at its limit, also when it has no exact form in
// binary; what it stands for is rounded up, what it holds is not.
func TestShare(t *testing.T) {
	share := func(percent float64) spec.Share { return spec.Share{Percent: percent, Relative: true} }
	tests := []struct {
		share spec.Share
		total int
		of    int // devices of a wave
		holds int // the most that are tolerated
	}{
		{spec.Share{Count: 0}, 10, 0, 0},
		{spec.Share{Count: 3}, 10, 3, 3},
		{share(0), 10, 0, 0},
		{share(10), 10, 1, 1},
		{share(10), 19, 2, 1},
		{share(10), 20, 2, 2},
		{share(2.3), 1000, 23, 23},
		{share(4.1), 1_000_000, 41_000, 41_000},
		{share(16.1), 1000, 161, 161},
		{share(0.1), 1_000_000, 1000, 1000},
		{share(33.3), 3, 1, 0},
		{share(99.9999), 1_000_000, 999_999, 999_999},
		{share(100), 7, 7, 7},
		{share(50), 0, 0, 0},
	}
	for _, tt := range tests {
		if got := tt.share.Of(tt.total); got != tt.of {
			t.Errorf("%s of %d is %d, want %d", tt.share, tt.total, got, tt.of)
		}
		if !tt.share.Holds(tt.holds, tt.total) || tt.share.Holds(tt.holds+1, tt.total) {
			t.Errorf("%s of %d holds %d: %t, and %d: %t; want true and false", tt.share, tt.total,
				tt.holds, tt.share.Holds(tt.holds, tt.total), tt.holds+1, tt.share.Holds(tt.holds+1, tt.total))
		}
	}
}
