package pace

import "testing"

func TestRates(t *testing.T) {
	tests := []struct {
		sku   string
		units int
		want  [Classes]float64 // queries, reads, updates, calls of 4 KB, calls to the Jobs service, all in a second
	}{
		{"F1", 1, [Classes]float64{20.0 / 60, 100, 50, 40, 100.0 / 60}},
		{"S1", 1, [Classes]float64{20.0 / 60, 100, 50, 40, 100.0 / 60}},
		{"S1", 3, [Classes]float64{1, 100, 50, 120, 5}},
		{"S1", 0, [Classes]float64{20.0 / 60, 100, 50, 40, 100.0 / 60}},
		{"S2", 1, [Classes]float64{20.0 / 60, 100, 50, 120, 100.0 / 60}},
		{"S2", 30, [Classes]float64{10, 300, 150, 3600, 50}},
		{"S3", 1, [Classes]float64{1000.0 / 60, 500, 250, 6000, 5000.0 / 60}},
		{"S3", 10, [Classes]float64{10_000.0 / 60, 5000, 2500, 60_000, 50_000.0 / 60}},
	}
	for _, tt := range tests {
		got, known := Rates(tt.sku, tt.units)
		if !known {
			t.Errorf("rates(%s, %d) are not known", tt.sku, tt.units)
		}
		for c := range got {
			if diff := got[c] - tt.want[c]; diff > 1e-9 || diff < -1e-9 {
				t.Errorf("rates(%s, %d): %v %v a second, want %v", tt.sku, tt.units, got[c], Class(c), tt.want[c])
			}
		}
	}
	if got, known := Rates("", 1); known || got != [Classes]float64{} {
		t.Errorf(`Rates("") = %v, %t, want nothing`, got, known)
	}
}

func TestDailyQuota(t *testing.T) {
	tests := []struct {
		sku            string
		units          int
		messages, size int
	}{
		{"F1", 1, 8_000, 512},
		{"S1", 2, 800_000, 4096},
		{"S2", 0, 6_000_000, 4096},
		{"S3", 10, 3_000_000_000, 4096},
		{"", 1, 0, 4096},
	}
	for _, tt := range tests {
		if n, size := DailyQuota(tt.sku, tt.units); n != tt.messages || size != tt.size {
			t.Errorf("dailyQuota(%q, %d) = %d of %d bytes, want %d of %d", tt.sku, tt.units, n, size, tt.messages, tt.size)
		}
	}
}

func TestJobDevices(t *testing.T) {
	for _, tt := range []struct {
		sku   string
		units int
		want  float64
	}{{"F1", 1, 10}, {"S1", 9, 10}, {"S2", 1, 10}, {"S2", 30, 30}, {"S3", 0, 50}, {"S3", 2, 100}, {"", 1, 0}} {
		if got := JobDevices(tt.sku, tt.units); got != tt.want {
			t.Errorf("JobDevices(%q, %d) = %v, want %v", tt.sku, tt.units, got, tt.want)
		}
	}
}
