package runner

import (
	"math/rand/v2"
	"time"

	"iothub-runner/spec"
)

// backoff returns how long to wait after the nth attempt that did not work:
// exponential with full jitter, so that a fleet which failed together does not
// come back together. No wait is shorter than what the hub asked for.
func backoff(r spec.Retry, n int, hint time.Duration, random func(time.Duration) time.Duration) time.Duration {
	ceiling := r.MaxBackoff
	if shift := n - 1; r.Backoff <= ceiling>>shift { // shifted the other way it could overflow
		ceiling = r.Backoff << shift
	}
	return max(random(ceiling), hint)
}

// jitter returns a random duration up to and including d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}
