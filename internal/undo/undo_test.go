package undo

import (
	"encoding/json"
	"testing"
)

func TestUnderKeepsTheFirstValue(t *testing.T) {
	tests := []struct{ name, first, more, want string }{
		{"other keys", `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{"the same key", `{"a":1}`, `{"a":2}`, `{"a":1}`},
		{"absent at first", `{"a":null}`, `{"a":2}`, `{"a":null}`},
		{"nested", `{"a":{"x":1}}`, `{"a":{"x":2,"y":3}}`, `{"a":{"x":1,"y":3}}`},
		{"an object that was a number", `{"a":1}`, `{"a":{"y":3}}`, `{"a":1}`},
		{"a number that was an object", `{"a":{"x":1}}`, `{"a":3}`, `{"a":{"x":1}}`},
		{"nothing more", `{"a":1}`, ``, `{"a":1}`},
		{"escaped keys", `{"a\"b":1}`, `{"a\"b":2,"c":3}`, `{"a\"b":1,"c":3}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if have := string(under(json.RawMessage(tt.first), json.RawMessage(tt.more))); have != tt.want {
				t.Errorf("have %s, want %s", have, tt.want)
			}
		})
	}
}

func TestRowOfManyPatches(t *testing.T) {
	c := change{patches: []patch{
		{version: 2, etag: "b"}, {version: 3, etag: "c"},
	}}
	c.patches[0].before.Desired = json.RawMessage(`{"floor":1}`)
	c.patches[1].before.Desired = json.RawMessage(`{"floor":2,"site":null}`)
	c.patches[1].before.Tags = json.RawMessage(`{"moved":false}`)
	have := c.row(target{"door-1", "lock"})
	if string(have.Desired) != `{"floor":1,"site":null}` || string(have.Tags) != `{"moved":false}` || have.ETag != "c" || have.ModuleID != "lock" {
		t.Errorf("row %s %s %s", have.Desired, have.Tags, have.ETag)
	}
}

func TestSecretsAreNotRestored(t *testing.T) {
	u := &Undo{changes: map[target]*change{{device: "a"}: {patches: []patch{{etag: "x"}}}}}
	u.changes[target{device: "a"}].patches[0].before.Desired = json.RawMessage(`{"key":"***"}`)
	if u.finish(); u.Twins() != 0 || u.Hidden != 1 {
		t.Errorf("%d twins to restore, %d hidden", u.Twins(), u.Hidden)
	}
}
