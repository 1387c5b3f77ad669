package fleet

import (
	"math"
	"testing"
	"time"
)

// The first numbers of the published splitmix64 sequence for the seed 0.
func TestMixIsSplitmix64(t *testing.T) {
	state := uint64(0)
	for _, want := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f} {
		if got := mix(state); got != want {
			t.Errorf("mix(%#x) = %#x, want %#x", state, got, want)
		}
		state += 0x9e3779b97f4a7c15
	}
}

func TestRankIsAPermutation(t *testing.T) {
	for n := 1; n < 200; n++ {
		for seed := range uint64(3) {
			s := newStream(seed, "who")
			seen := make([]bool, n)
			for i := range n {
				r := s.rank(i, n)
				if r < 0 || r >= n || seen[r] {
					t.Fatalf("rank(%d, %d) = %d, out of range or taken", i, n, r)
				}
				seen[r] = true
			}
		}
	}
}

// Ranks are shuffled well: the first tenth of the devices does not hold more
// than its part of the first tenth of the ranks.
func TestRankShuffles(t *testing.T) {
	const n = 100_000
	s := newStream(1, "who")
	low := 0
	for i := range n / 10 {
		if s.rank(i, n) < n/10 {
			low++
		}
	}
	if low < 850 || low > 1150 { // expected 1000, standard deviation about 29
		t.Errorf("%d of the first %d devices have one of the first %d ranks, want about %d", low, n/10, n/10, n/100)
	}
}

func TestStreamsDiffer(t *testing.T) {
	streams := map[stream]string{}
	for _, words := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"ab", "c", ""}, {""}, {}} {
		s := newStream(1, words...)
		if other, taken := streams[s]; taken {
			t.Errorf("newStream(%q) is that of %s", words, other)
		}
		streams[s] = "other words"
	}
	if newStream(1, "a") == newStream(2, "a") {
		t.Error("the seed makes no difference")
	}
}

func TestUnitIsEven(t *testing.T) {
	s := newStream(1, "latency")
	var buckets [10]int
	const n = 100_000
	for i := range n / 100 {
		for nth := range int64(100) {
			buckets[int(s.unit(i, nth)*10)]++
		}
	}
	for k, count := range buckets {
		if count < 9600 || count > 10400 { // expected 10000, standard deviation 95
			t.Errorf("%d of %d draws are in tenth %d", count, n, k)
		}
	}
}

func TestCutIsExact(t *testing.T) {
	parts := []float64{0.1, 0, 0.2, 0.7}
	for _, n := range []int{1, 7, 10, 200, 1001} {
		counts := make([]int, len(parts)+1)
		for r := range n {
			counts[cut((float64(r)+0.5)/float64(n), 1, parts)]++
		}
		edge, before := 0.0, 0
		for k, p := range parts {
			edge += p
			before += counts[k]
			if math.Abs(float64(before)-edge*float64(n)) > 0.5+1e-9 {
				t.Errorf("%d devices: parts up to %d hold %d, want %v rounded", n, k, before, edge*float64(n))
			}
		}
		if counts[1] != 0 || counts[4] != 0 {
			t.Errorf("%d devices: %v, but part 1 is empty and nothing is left over", n, counts)
		}
	}
}

func TestDelays(t *testing.T) {
	ms := func(n float64) float64 { return n * float64(time.Millisecond) }
	tests := []struct {
		name string
		d    delay
		u    float64
		want time.Duration
	}{
		{"nothing", delay{}, 0.5, 0},
		{"fixed", delay{a: ms(20)}, 0.9, 20 * time.Millisecond},
		{"uniform low", delay{shape: uniformDelay, a: ms(10), b: ms(30)}, 0, 10 * time.Millisecond},
		{"uniform middle", delay{shape: uniformDelay, a: ms(10), b: ms(30)}, 0.5, 20 * time.Millisecond},
		{"normal mean", delay{shape: normalDelay, a: ms(10), b: ms(30)}, 0.5, 10 * time.Millisecond},
		{"normal is cut off", delay{shape: normalDelay, a: ms(10), b: ms(30)}, 0.1, 0},
		{"normal is bounded below", delay{shape: normalDelay, a: ms(10), b: ms(30)}, 0, 0},
		{"lognormal median", delay{shape: lognormalDelay, a: ms(10), b: math.Log(5) / z99}, 0.5, 10 * time.Millisecond},
		{"lognormal p99", delay{shape: lognormalDelay, a: ms(10), b: math.Log(5) / z99}, 0.99, 50 * time.Millisecond},
		{"lognormal is bounded above", delay{shape: lognormalDelay, a: ms(1e9), b: 50}, 1, maxDelay},
		{"before the first point", delay{shape: pointsDelay, points: points(0.5, 10, 1, 30)}, 0.2, 10 * time.Millisecond},
		{"between points", delay{shape: pointsDelay, points: points(0.5, 10, 1, 30)}, 0.75, 20 * time.Millisecond},
		{"after the last point", delay{shape: pointsDelay, points: points(0.5, 10, 0.9, 30)}, 0.95, 30 * time.Millisecond},
	}
	for _, tt := range tests {
		if got := tt.d.at(tt.u); got != tt.want {
			t.Errorf("%s: at(%v) = %v, want %v", tt.name, tt.u, got, tt.want)
		}
	}
}

func points(share1, ms1, share2, ms2 float64) []delayPoint {
	return []delayPoint{{share1, ms1 * float64(time.Millisecond)}, {share2, ms2 * float64(time.Millisecond)}}
}

func TestIDPatterns(t *testing.T) {
	tests := []struct {
		pattern, id string
		number      int64
		ok          bool
	}{
		{"door-%03d", "door-007", 7, true},
		{"door-%03d", "door-1234", 1234, true},
		{"door-%03d", "door-7", 0, false},
		{"door-%03d", "door-0007", 0, false},
		{"door-%03d", "door-", 0, false},
		{"door-%03d", "door-0a7", 0, false},
		{"door-%03d", "door--07", 0, false},
		{"door-%d", "door-0", 0, true},
		{"door-%d", "door-00", 0, false},
		{"door-%d", "door-123456789012345678", 123456789012345678, true},
		{"door-%d", "door-1234567890123456789", 0, false},
		{"%d5", "15", 1, true},
		{"%d5", "5", 0, false},
		{"a%da", "a", 0, false},
		{"a%da", "aa", 0, false},
		{"a%%%d%%", "a%9%", 9, true},
		{"Door-%d", "door-1", 0, false},
	}
	for _, tt := range tests {
		p, problem := parsePattern(tt.pattern)
		if problem != "" {
			t.Fatalf("parsePattern(%q) %s", tt.pattern, problem)
		}
		n, ok := p.number([]byte(tt.id))
		if n != tt.number || ok != tt.ok {
			t.Errorf("%q: number(%q) = %d, %t, want %d, %t", tt.pattern, tt.id, n, ok, tt.number, tt.ok)
		}
		if ok && string(p.append(nil, n)) != tt.id {
			t.Errorf("%q: append(%d) = %q, want %q", tt.pattern, n, p.append(nil, n), tt.id)
		}
	}
}

func TestAppendPadded(t *testing.T) {
	tests := []struct {
		v           int64
		width, base int
		want        string
	}{
		{7, 3, 10, "007"},
		{1234, 3, 10, "1234"},
		{-7, 3, 10, "-007"},
		{255, 4, 16, "00ff"},
		{0, 0, 10, "0"},
		{math.MinInt64, 0, 10, "-9223372036854775808"},
	}
	for _, tt := range tests {
		if got := string(appendPadded(nil, tt.v, tt.width, tt.base)); got != tt.want {
			t.Errorf("appendPadded(%d, %d, %d) = %q, want %q", tt.v, tt.width, tt.base, got, tt.want)
		}
	}
}
