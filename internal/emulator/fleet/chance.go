package fleet

import (
	"math"
	"math/bits"
)

// A stream is a keyed source of numbers for one purpose, such as "who is
// offline in group doors" or "latency of lockDoor". Every number follows from
// the key and the arguments alone.
type stream uint64

// newStream derives a stream from the seed and the words that name its purpose.
func newStream(seed uint64, words ...string) stream {
	h := mix(seed)
	for _, w := range words {
		// FNV-1a over the word, then mixed in; the 0xff keeps "ab","c" and
		// "a","bc" apart.
		f := uint64(14695981039346656037)
		for i := range len(w) {
			f = (f ^ uint64(w[i])) * 1099511628211
		}
		f = (f ^ 0xff) * 1099511628211
		h = mix(h ^ f)
	}
	return stream(h)
}

// at returns the number of the stream for a device and a call.
func (s stream) at(device int, nth int64) uint64 {
	return mix(mix(uint64(s)^uint64(device)) + uint64(nth))
}

// unit returns the draw for a device and a call, in [0, 1).
func (s stream) unit(device int, nth int64) float64 {
	return float64(s.at(device, nth)>>11) * 0x1p-53
}

// rank returns the place of device i of n in an order that the stream shuffles:
// a permutation of 0..n-1. A share of the first ranks is therefore exact.
//
// It is a Feistel network over the next even power of two, walked along its
// cycle until it lands below n, which takes fewer than four steps on average.
func (s stream) rank(i, n int) int {
	if n <= 1 {
		return 0
	}
	half := uint(bits.Len64(uint64(n-1))+1) / 2
	mask := uint64(1)<<half - 1
	x := uint64(i)
	for {
		left, right := x>>half, x&mask
		for round := range uint64(4) {
			left, right = right, left^(mix(uint64(s)^(round<<56|right))&mask)
		}
		x = left<<half | right
		if x < uint64(n) {
			return int(x)
		}
	}
}

// place returns the rank of device i of n as the middle of its slot in [0, 1).
// Cutting it at a share p puts p*n devices below, rounded to the nearest.
func (s stream) place(i, n int) float64 {
	return (float64(s.rank(i, n)) + 0.5) / float64(n)
}

// mix is the output function of the splitmix64 generator by Steele, Lea and
// Flood, one step of its golden-ratio sequence included: every bit of the
// input reaches every bit of the output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// cut returns in which of the parts u falls, parts being weights that are laid
// side by side over [0, total). It returns len(parts) past the last one.
func cut(u, total float64, parts []float64) int {
	edge := 0.0
	for k, w := range parts {
		edge += w
		if u*total < edge && w > 0 {
			return k
		}
	}
	if edge >= total*(1-1e-12) { // u close to 1, and the sum lost its last bits
		return lastPositive(parts)
	}
	return len(parts)
}

func lastPositive(parts []float64) int {
	for k := len(parts) - 1; k > 0; k-- {
		if parts[k] > 0 {
			return k
		}
	}
	return 0
}

// normalQuantile returns the standard normal value below which a share u of
// draws falls.
func normalQuantile(u float64) float64 {
	return math.Sqrt2 * math.Erfinv(2*u-1)
}
