package fleet

import (
	"math"
	"time"
)

// maxDelay bounds what a distribution may yield: a normal tail or a fat
// lognormal must not overflow a duration.
const maxDelay = 365 * 24 * time.Hour

// A delay is a distribution of durations. The zero delay is no delay at all.
type delay struct {
	shape  delayShape
	a, b   float64 // nanoseconds; what they mean depends on the shape
	points []delayPoint
}

type delayShape int

const (
	fixedDelay     delayShape = iota // a
	uniformDelay                     // from a to b
	normalDelay                      // mean a, standard deviation b
	lognormalDelay                   // median a, standard deviation of the logarithm b
	pointsDelay                      // straight lines between percentiles
)

type delayPoint struct {
	share float64 // 0 to 1
	value float64
}

// z99 is the standard normal value below which 99 % of draws fall.
const z99 = 2.3263478740408408

// at returns the duration at the quantile u in [0, 1), rounded to microseconds:
// the last bits of a logarithm differ between processors.
func (d delay) at(u float64) time.Duration {
	v := d.a
	switch d.shape {
	case fixedDelay:
		return time.Duration(d.a)
	case uniformDelay:
		v = d.a + u*(d.b-d.a)
	case normalDelay:
		v = d.a + d.b*normalQuantile(clampUnit(u))
	case lognormalDelay:
		v = d.a * math.Exp(d.b*normalQuantile(clampUnit(u)))
	case pointsDelay:
		v = d.between(u)
	}
	if v <= 0 {
		return 0
	}
	return min(time.Duration(min(v, float64(maxDelay))), maxDelay).Round(time.Microsecond)
}

func (d delay) between(u float64) float64 {
	last := d.points[0]
	if u <= last.share {
		return last.value
	}
	for _, p := range d.points[1:] {
		if u < p.share {
			return last.value + (p.value-last.value)*(u-last.share)/(p.share-last.share)
		}
		last = p
	}
	return last.value
}

// clampUnit keeps a quantile function away from its two infinities.
func clampUnit(u float64) float64 {
	return min(max(u, 1e-12), 1-1e-12)
}
