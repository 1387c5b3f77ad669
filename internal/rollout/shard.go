package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"iothub-runner/spec"
)

// Has tells whether a device, with all its modules, belongs to a shard. It depends on
// the device's id and on how many shards there are, and on nothing else: each device
// is in exactly one, on every machine.
func Has(s spec.Shard, device string) bool {
	if s.Of <= 1 {
		return true
	}
	sum := sha256.Sum256([]byte(device))
	place, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:8]), uint64(s.Of)) //nolint:gosec // it is positive
	return place == uint64(s.Index-1)                                      //nolint:gosec // so is this
}
