package runner

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"iothub-runner/spec"
)

// generator makes rows of every shape.
type generator struct{ *rand.Rand }

func (g generator) chance(n int) bool { return g.IntN(n) == 0 }

func (g generator) text() string {
	pieces := []string{"door-1", "é", "\"", "\\", "\n", "\x01", "\u2028", "<&>", "日本", "\xff", "a b", "'", "/", "\x7f", ""}
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString(pieces[g.IntN(len(pieces))])
	}
	return b.String()
}

func (g generator) time() *spec.Time {
	if g.chance(3) {
		return nil
	}
	zone := time.FixedZone("", g.IntN(86400)-43200)
	return &spec.Time{Time: time.UnixMilli(g.Int64N(4e12)).Add(time.Duration(g.IntN(1e6))).In(zone)}
}

// value makes compact JSON, as the runner gets it, without the characters that
// encoding/json escapes in the middle of JSON it is given.
func (g generator) value() json.RawMessage {
	all := []string{`null`, `true`, `-1.5e+3`, `"x\u0041\n"`, `[]`, `{}`, `{"a":[1,{"b":null}],"":"é"}`, `"日本"`}
	return json.RawMessage(all[g.IntN(len(all))])
}

func (g generator) optional() json.RawMessage {
	if g.chance(3) {
		return nil
	}
	return json.RawMessage([]string{`{}`, `{"floor":3}`, `{"a":{"b":null}}`}[g.IntN(3)])
}

func (g generator) rowError() *spec.RowError {
	if g.chance(2) {
		return nil
	}
	e := &spec.RowError{Kind: g.text(), Message: g.text()}
	if g.chance(2) {
		e.Code, e.Name, e.HTTPStatus, e.TrackingID = g.IntN(999999), g.text(), g.IntN(600), g.text()
	}
	return e
}

func (g generator) sections() *spec.Sections {
	if g.chance(3) {
		return nil
	}
	return &spec.Sections{Desired: g.optional(), Tags: g.optional()}
}

func (g generator) row() *spec.Row {
	row := &spec.Row{
		Hub: g.text(), DeviceID: g.text(), ModuleID: g.text(),
		Outcome: spec.Outcomes()[g.IntN(len(spec.Outcomes()))], StartedAt: g.time(), EndedAt: g.time(),
		Attempts: g.IntN(1000) - 10, Error: g.rowError(),
	}
	if g.chance(2) {
		row.Method = &spec.MethodResult{Status: g.IntN(1000) - 500, Payload: g.value()}
		if g.chance(4) {
			row.Method.Payload = nil
		}
	}
	if g.chance(2) {
		row.Twin = &spec.TwinResult{Before: g.sections(), Patch: g.sections(), Version: g.Int64N(3), ETag: g.text()}
	}
	for range g.IntN(3) {
		a := spec.Attempt{Attempt: g.IntN(9), DurationMs: g.Int64N(9999), HTTPStatus: g.IntN(3) * 200, Error: g.rowError()}
		if at := g.time(); at != nil {
			a.StartedAt = *at
		}
		row.History = append(row.History, a)
	}
	return row
}

func TestAppendRowIsWhatEncodingJSONMakes(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for range 20_000 {
		row := g.row()
		want, err := json.Marshal(row)
		if err != nil {
			t.Fatalf("Marshal(%+v): %v", row, err)
		}
		got := appendRow([]byte("before"), row)
		if !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("appendRow:\n %s\nencoding/json:\n %s", got, want)
		}
	}
}

// encoding/json would escape these in a device's answer; they may stand as they are.
func TestAppendRowKeepsAnAnswerAsItIs(t *testing.T) {
	row := &spec.Row{DeviceID: "d", Outcome: spec.OutcomeSucceeded, Method: &spec.MethodResult{Payload: json.RawMessage("\"<&>\u2028\"")}}
	var back spec.Row
	if err := json.Unmarshal(appendRow(nil, row), &back); err != nil {
		t.Fatalf("the row does not decode: %v", err)
	}
	if !bytes.Equal(back.Method.Payload, row.Method.Payload) {
		t.Errorf("payload = %s, want %s", back.Method.Payload, row.Method.Payload)
	}
}

func TestOneLine(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"a": 1}`, `{"a": 1}`},
		{"{\n\"a\":\t1\r\n}", `{"a":1}`},
		{"\"a\\n\"", `"a\n"`},
		{"[1,\n", "null"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := oneLine(json.RawMessage(tt.in)); string(got) != tt.want {
			t.Errorf("oneLine(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestHistoryKeepsTheFirstAndTheLast(t *testing.T) {
	var it item
	for n := range 100 {
		it.attempts = n + 1
		it.record(time.Unix(int64(n), 0), time.Millisecond, nil)
	}
	var have []int
	for _, a := range it.history {
		have = append(have, a.Attempt)
	}
	want := []int{1, 2, 3, 4, 5, 6, 7, 8, 93, 94, 95, 96, 97, 98, 99, 100}
	if len(have) != len(want) {
		t.Fatalf("history of 100 attempts = %v, want %v", have, want)
	}
	for i := range want {
		if have[i] != want[i] {
			t.Fatalf("history of 100 attempts = %v, want %v", have, want)
		}
	}
}
