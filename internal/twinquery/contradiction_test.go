package twinquery_test

import (
	"testing"

	"iothub-runner/internal/twinquery"
)

func TestContradiction(t *testing.T) {
	for _, c := range []struct {
		text string
		at   int // -1 if there is none
	}{
		{"deviceId = 'a' AND deviceId = 'b'", 19},
		{"deviceId = 'a' AND (tags.x = 1 AND 'b' = DeviceId)", 41},
		{"tags.a IN [1, 2] AND tags.a = 3", 21},
		{"tags.a IN [1, 2] AND tags.a IN [2, 3] AND tags.a = 1", 42},
		{"tags.a = 1 AND tags.a = '1'", 15},
		{"deviceId = 'a' AND deviceId = 'a'", -1},
		{"deviceId = 'a' OR deviceId = 'b'", -1},
		{"deviceId = 'a' AND (deviceId = 'b' OR tags.x = 1)", -1},
		{"tags.a IN [1, 2] AND tags.a = 2", -1},
		{"tags.a NIN [1] AND tags.a = 1", -1},
		{"tags.a != 1 AND tags.a = 2", -1},
		{"tags.a = 1 AND tags.b = 2", -1},
		{"tags.a = 1 AND tags.A = 2", -1},
		{"tags.a = tags.b AND tags.a = tags.c", -1},
		{"NOT (tags.a = 1 AND tags.a = 2)", -1},
	} {
		cond, err := twinquery.ParseCondition(c.text)
		if err != nil {
			t.Fatal(err)
		}
		found := cond.Contradiction()
		switch {
		case c.at < 0 && found != nil:
			t.Errorf("Contradiction of %q = %v, want none", c.text, found)
		case c.at >= 0 && (found == nil || found.Offset != c.at):
			t.Errorf("Contradiction of %q = %v, want one at offset %d", c.text, found, c.at)
		}
	}
}
