package mask

import (
	"encoding/json"
	"testing"

	"iothub-runner/spec"
)

func TestMask(t *testing.T) {
	m := New(&spec.Plan{Vars: map[string]string{"a": "s3cret", "b": "s3cret-and-more", "c": "4711", "d": "x\"y", "e": "", "f": "open"}, Sensitive: []string{"a", "b", "c", "d", "e"}})
	for text, want := range map[string]string{
		`{"k":"s3cret","n":[1,"xs3crety"],"o":{"s3cret-and-more":null}}`: `{"k":"***","n":[1,"x***y"],"o":{"***":null}}`,
		`4711`: `"***"`, `[47110,4711,"4711"]`: `[47110,"***","***"]`, `"\u0073\u0033cret"`: `"***"`, `"x\"y"`: `"***"`,
		`{"a":"open","b":true,"c":1.50}`: `{"a":"open","b":true,"c":1.50}`, `null`: `null`, `{}`: `{}`, ` [ ] `: `[]`, ``: ``,
	} {
		if got := string(m.JSON(json.RawMessage(text))); got != want {
			t.Errorf("json(%s) = %s, want %s", text, got, want)
		}
	}
	if got := New(&spec.Plan{Vars: map[string]string{"a": "x"}}); got != nil || got.Text("x") != "x" || string(got.JSON(json.RawMessage("1"))) != "1" {
		t.Errorf("the mask of a plan without secrets = %v, want nil, which hides nothing", got)
	}
	row := &spec.Row{Error: &spec.RowError{Message: "no s3cret"}, History: []spec.Attempt{{Error: &spec.RowError{Message: "s3cret"}}}}
	if got := m.Row(row); got.Error.Message != "no ***" || got.History[0].Error.Message != "***" || row.History[0].Error.Message != "s3cret" {
		t.Errorf("row = %+v, of %+v", got, row)
	}
}
