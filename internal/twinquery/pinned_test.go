package twinquery_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/twinquery"
)

func TestPinned(t *testing.T) {
	cases := []struct {
		text string
		want []string
		ok   bool
	}{
		{`deviceId = 'a'`, []string{"a"}, true},
		{`DEVICEID = "a"`, []string{"a"}, true},
		{`'a' = deviceId`, []string{"a"}, true},
		{`devices.deviceId = 'a'`, []string{"a"}, true},
		{`deviceId IN ['a', 'b']`, []string{"a", "b"}, true},
		{`deviceId IN ['a', 7]`, []string{"a"}, true},
		{`deviceId = 'a' AND tags.x = 1`, []string{"a"}, true},
		{`tags.x = 1 AND deviceId = 'a'`, []string{"a"}, true},
		{`deviceId IN ['a', 'b'] AND deviceId = 'c'`, []string{"c"}, true},
		{`deviceId = 'a' OR deviceId IN ['b', 'c']`, []string{"a", "b", "c"}, true},
		{`deviceId = 'a' OR tags.x = 1`, nil, false},
		{`deviceId != 'a'`, nil, false},
		{`deviceId NIN ['a']`, nil, false},
		{`NOT deviceId = 'a'`, nil, false},
		{`deviceId = 7`, nil, false},
		{`deviceId > 'a'`, nil, false},
		{`tags.deviceId = 'a'`, nil, false},
		{`moduleId = 'a'`, nil, false},
		{`deviceId = moduleId`, nil, false},
		{`tags.x = 1 AND tags.y = 2`, nil, false},
	}
	for _, c := range cases {
		cond, err := twinquery.ParseCondition(c.text)
		if err != nil {
			t.Fatalf("ParseCondition(%s): %v", c.text, err)
		}
		got, ok := cond.Pinned("deviceId")
		if ok != c.ok || !cmp.Equal(got, c.want) {
			t.Errorf("(%s).Pinned = %q, %v, want %q, %v", c.text, got, ok, c.want, c.ok)
		}
	}
}
