package planfile

import (
	"encoding/json"
	"strings"
	"testing"

	"iothub-runner/spec"
)

func TestCheckJSON(t *testing.T) {
	deep := strings.Repeat("[", 101) + strings.Repeat("]", 101)
	for text, want := range map[string]int{
		`{}`: 0, `1`: 0, `"\ud83d\ude00\/"`: 0, `{"a":{"a":1},"b":{"a":1}}`: 0, ` [ 1e308 , -1.5e-300, {"k" : [ ] } ] `: 0,
		`{"a":1,"a":2,"a":3}`: 2, `{"a":1,"\u0061":2}`: 1, `1e400`: 1, `[-1e400, 1e-400]`: 1, `{"\ud83d":"\ude00"}`: 2, deep: 1,
		`[{"a":[{"b":1,"b":1}]}, {"c":1,"c":1}]`: 2,
	} {
		if !json.Valid([]byte(text)) {
			t.Fatalf("%s is no JSON", text)
		}
		if got := checkJSON(text); len(got) != want {
			t.Errorf("checkJSON(%s) = %+v, want %d findings", text, got, want)
		}
	}
	got := checkJSON("{\n  \"k\": 1, \"k\": 1e999}")
	if len(got) != 2 || got[0].pos != (spec.Pos{Line: 2, Column: 11}) || got[1].pos != (spec.Pos{Line: 2, Column: 16}) {
		t.Errorf("positions of %+v, want 2:11 and 2:16", got)
	}
}
