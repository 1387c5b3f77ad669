package target_test

import (
	"encoding/json"
	"testing"
	"time"

	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

const (
	before = "2026-12-01T02:00:00.1234566Z"
	change = "2026-12-01T02:00:00.1234567Z"
	later  = "2026-12-01T02:00:05.5Z"
)

func TestProve(t *testing.T) {
	since, err := time.Parse(time.RFC3339Nano, change)
	if err != nil {
		t.Fatal(err)
	}
	at := func(keys string) string {
		return `{"$metadata":{"$lastUpdated":"` + later + `"` + keys + `},"$version":8`
	}
	floor := func(when string) string { return `,"floor":{"$lastUpdated":"` + when + `"}` }
	tests := []struct {
		name             string
		reported, wanted string
		changed          []string
		was              string
		missing          string // empty if it is confirmed
	}{
		{name: "reported since", reported: at(floor(later)) + `,"floor":3}`, wanted: `{"floor":3}`},
		{name: "reported with the change", reported: at(floor(change)) + `,"floor":3.0}`, wanted: `{"floor":3}`},
		{name: "reported before", reported: at(floor(before)) + `,"floor":3}`, wanted: `{"floor":3}`, missing: "floor was reported before the change, not since"},
		{name: "another value", reported: at(floor(later)) + `,"floor":2}`, wanted: `{"floor":3}`, missing: "floor is reported as 2, not 3"},
		{name: "another type", reported: at(floor(later)) + `,"floor":"3"}`, wanted: `{"floor":3}`, missing: `floor is reported as "3", not 3`},
		{name: "nothing", reported: at("") + `}`, wanted: `{"floor":3}`, missing: "floor is not reported"},
		{name: "no section", reported: ``, wanted: `{"floor":3}`, missing: "floor is not reported"},
		{name: "gone", reported: at("") + `}`, wanted: `{"floor":null}`},
		{name: "not gone", reported: at(floor(before)) + `,"floor":3}`, wanted: `{"floor":null}`, missing: "floor is still reported"},
		{name: "no metadata", reported: `{"floor":3,"$version":8}`, wanted: `{"floor":3}`},
		{name: "no metadata and an old version", reported: `{"floor":3,"$version":7}`, wanted: `{"floor":3}`, missing: "nothing was reported since"},
		{
			name:     "nested",
			reported: at(`,"a":{"$lastUpdated":"`+before+`","b":{"$lastUpdated":"`+later+`"}}`) + `,"a":{"b":[1,{"c":2}],"old":1}}`, wanted: `{"a":{"b":[1,{"c":2}]}}`,
		},
		{
			name:     "nested and stale",
			reported: at(`,"a":{"$lastUpdated":"`+later+`","b":{"$lastUpdated":"`+before+`"}}`) + `,"a":{"b":1}}`, wanted: `{"a":{"b":1}}`,
			missing: "a.b was reported before the change, not since",
		},
		{name: "acknowledged", reported: at(floor(later)) + `,"floor":{"value":3,"ac":200,"av":4}}`, wanted: `{"floor":3}`},
		{name: "acknowledged for a later version", reported: at(floor(later)) + `,"floor":{"value":3,"ac":200,"av":9,"ad":"ok"}}`, wanted: `{"floor":3}`},
		{name: "acknowledged for an old version", reported: at(floor(later)) + `,"floor":{"value":3,"ac":200,"av":3}}`, wanted: `{"floor":3}`, missing: "floor is acknowledged for version 3 of the desired properties, which are at 4"},
		{name: "refused", reported: at(floor(later)) + `,"floor":{"value":2,"ac":400,"av":4,"ad":"no such floor"}}`, wanted: `{"floor":3}`, missing: `floor is acknowledged with code 400: "no such floor"`},
		{name: "acknowledged with another value", reported: at(floor(later)) + `,"floor":{"value":2,"ac":200,"av":4}}`, wanted: `{"floor":3}`, missing: "floor is acknowledged as 2, not 3"},
		{name: "acknowledged before", reported: at(floor(before)) + `,"floor":{"value":3,"ac":200,"av":4}}`, wanted: `{"floor":3}`, missing: "floor was reported before the change, not since"},
		{name: "an acknowledgement is what is wanted", reported: at(`,"a":{"value":{"$lastUpdated":"`+later+`"},"ac":{"$lastUpdated":"`+later+`"}}`) + `,"a":{"value":1,"ac":7}}`, wanted: `{"a":{"value":1,"ac":7}}`},
		{name: "changed", reported: at(`,"boot":{"time":{"$lastUpdated":"`+later+`"}}`) + `,"boot":{"time":"b"}}`, changed: []string{"boot.time"}, was: `{"boot.time":"a"}`},
		{name: "new", reported: at(`,"boot":{"time":{"$lastUpdated":"`+later+`"}}`) + `,"boot":{"time":"b"}}`, changed: []string{"boot.time"}, was: `{}`},
		{name: "not changed", reported: at(`,"boot":{"time":{"$lastUpdated":"`+later+`"}}`) + `,"boot":{"time":"a"}}`, changed: []string{"boot.time"}, was: `{"boot.time":"a"}`, missing: `boot.time is still reported as "a"`},
		{name: "lost", reported: at("") + `}`, changed: []string{"boot.time"}, was: `{"boot.time":"a"}`, missing: "boot.time is not reported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &spec.Confirmation{Since: since, Version: 7, DesiredVersion: 4, Was: json.RawMessage(tt.was)}
			p := target.Prove(json.RawMessage(tt.reported), json.RawMessage(tt.wanted), tt.changed, c)
			if p.Missing != tt.missing || p.Confirmed != (tt.missing == "") {
				t.Errorf("missing %q, want %q", p.Missing, tt.missing)
			}
			if !json.Valid(p.Last) {
				t.Errorf("last seen %s", p.Last)
			}
			if p.Confirmed && p.At.Before(since) && !p.At.IsZero() {
				t.Errorf("confirmed at %v, before the change", p.At)
			}
		})
	}
}

func TestValues(t *testing.T) {
	have := target.Values(json.RawMessage(`{"a":{"b":"x"},"c.d":1}`), []string{"a.b", "c", "a"})
	if want := `{"a.b":"x","a":{"b":"x"}}`; string(have) != want {
		t.Errorf("have %s, want %s", have, want)
	}
}
