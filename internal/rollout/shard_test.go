package rollout_test

import (
	"fmt"
	"testing"

	"iothub-runner/internal/rollout"
	"iothub-runner/spec"
)

// Each device is in exactly one shard, and shards are of about one size.
func TestShards(t *testing.T) {
	const devices, of = 10_000, 7
	var sizes [of]int
	for i := range devices {
		in := 0
		for shard := range of {
			if rollout.Has(spec.Shard{Index: shard + 1, Of: of}, fmt.Sprintf("door-%d", i)) {
				sizes[shard]++
				in++
			}
		}
		if in != 1 {
			t.Fatalf("door-%d is in %d shards", i, in)
		}
	}
	for shard, n := range sizes {
		if n < devices/of*9/10 || n > devices/of*11/10 {
			t.Errorf("shard %d has %d of %d devices", shard+1, n, devices)
		}
	}
	if !rollout.Has(spec.Shard{}, "door-1") {
		t.Error("the whole has not every device")
	}
	// What another program computes from the same hash.
	for device, want := range map[string]int{"door-0": 3, "door-1": 1, "door-2": 1} {
		if !rollout.Has(spec.Shard{Index: want, Of: of}, device) {
			t.Errorf("%s is not in shard %d", device, want)
		}
	}
}
