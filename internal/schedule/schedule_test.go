package schedule

import (
	"testing"
	"time"
	_ "time/tzdata" // for the places below

	"iothub-runner/spec"
)

func TestNextOpening(t *testing.T) {
	const h, m = time.Hour, time.Minute
	weekend := []time.Weekday{time.Saturday, time.Sunday}
	tests := []struct {
		name     string
		w        spec.Window
		in       string
		at       string
		from, to string
	}{
		{name: "before it", w: spec.Window{From: 2 * h, To: 4*h + 30*m}, at: "2026-12-01T01:00:00Z", from: "2026-12-01T02:00:00Z", to: "2026-12-01T04:30:00Z"},
		{name: "within it", w: spec.Window{From: 2 * h, To: 4 * h}, at: "2026-12-01T03:00:00Z", from: "2026-12-01T02:00:00Z", to: "2026-12-01T04:00:00Z"},
		{name: "at its end", w: spec.Window{From: 2 * h, To: 4 * h}, at: "2026-12-01T04:00:00Z", from: "2026-12-02T02:00:00Z", to: "2026-12-02T04:00:00Z"},
		{name: "over midnight", w: spec.Window{From: 22 * h, To: 2 * h}, at: "2026-12-01T01:00:00Z", from: "2026-11-30T22:00:00Z", to: "2026-12-01T02:00:00Z"},
		{name: "another day", w: spec.Window{From: 2 * h, To: 4 * h, Days: weekend}, at: "2026-12-01T03:00:00Z", from: "2026-12-05T02:00:00Z", to: "2026-12-05T04:00:00Z"},
		{name: "opened yesterday", w: spec.Window{From: 22 * h, To: 2 * h, Days: weekend}, at: "2026-12-07T01:00:00Z", from: "2026-12-06T22:00:00Z", to: "2026-12-07T02:00:00Z"},
		{name: "elsewhere", w: spec.Window{From: 2 * h, To: 4 * h}, in: "America/New_York", at: "2026-12-01T03:00:00Z", from: "2026-12-01T07:00:00Z", to: "2026-12-01T09:00:00Z"},
		{name: "into summer time", w: spec.Window{From: 1 * h, To: 4 * h}, in: "Europe/Paris", at: "2026-03-28T12:00:00Z", from: "2026-03-29T00:00:00Z", to: "2026-03-29T02:00:00Z"},
		{name: "out of summer time", w: spec.Window{From: 1 * h, To: 4 * h}, in: "Europe/Paris", at: "2026-10-24T12:00:00Z", from: "2026-10-24T23:00:00Z", to: "2026-10-25T03:00:00Z"},
		{name: "from an hour that comes twice", w: spec.Window{From: 2*h + 30*m, To: 4 * h}, in: "Europe/Paris", at: "2026-10-24T12:00:00Z", from: "2026-10-25T00:30:00Z", to: "2026-10-25T03:00:00Z"},
		{name: "to an hour that comes twice", w: spec.Window{From: 1 * h, To: 2*h + 30*m}, in: "Europe/Paris", at: "2026-10-24T12:00:00Z", from: "2026-10-24T23:00:00Z", to: "2026-10-25T00:30:00Z"},
		{name: "closed again when it comes the second time", w: spec.Window{From: 1 * h, To: 2*h + 30*m}, in: "Europe/Paris", at: "2026-10-25T01:00:00Z", from: "2026-10-26T00:00:00Z", to: "2026-10-26T01:30:00Z"},
		{name: "to an hour that is left out", w: spec.Window{From: 1 * h, To: 2*h + 30*m}, in: "Europe/Paris", at: "2026-03-28T12:00:00Z", from: "2026-03-29T00:00:00Z", to: "2026-03-29T01:30:00Z"},
		{name: "all of it left out", w: spec.Window{From: 2*h + 30*m, To: 3*h + 15*m}, in: "Europe/Paris", at: "2026-03-28T12:00:00Z", from: "2026-03-30T00:30:00Z", to: "2026-03-30T01:15:00Z"},
		{name: "an hour that is left out", w: spec.Window{From: 2*h + 30*m, To: 4 * h}, in: "Europe/Paris", at: "2026-03-28T12:00:00Z", from: "2026-03-29T01:30:00Z", to: "2026-03-29T02:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			place, err := time.LoadLocation(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			tt.w.Location = place
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			from, to := NextOpening(&tt.w, at)
			if f, e := from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339); f != tt.from || e != tt.to {
				t.Errorf("NextOpening = %s to %s, want %s to %s", f, e, tt.from, tt.to)
			}
		})
	}
}
