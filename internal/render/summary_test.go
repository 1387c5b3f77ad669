package render_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"iothub-runner/internal/render"
	"iothub-runner/spec"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünïcödé 門":  "plain, ünïcödé 門",
		"a\x1b[2Jb":         `a\u001b[2Jb`,
		"c1 \u009b31m":      `c1 \u009b31m`,
		"bidi \u202egnp":    `bidi \u202egnp`,
		"isolate \u2066x":   `isolate \u2066x`,
		"nothing\u200bseen": `nothing\u200bseen`,
		"line\u2028break\n": `line\u2028break\u000a`,
		"tag \U000E0041":    `tag \udb40\udc41`,
		"nul\x00del\x7f":    `nul\u0000del\u007f`,
	} {
		if got := render.Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// Escaped documents are the same documents, wherever writes divide them.
func TestEscaper(t *testing.T) {
	const doc = "{\n\t\"a\": \"ü \u202e 門 \u009b \U000E0041 \x7f\",\n  \"b\": [1]\n}\n"
	for cut := range len(doc) {
		var out strings.Builder
		e := &render.Escaper{Out: &out}
		for _, part := range []string{doc[:cut], doc[cut:]} {
			if n, err := e.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
		}
		if strings.ContainsAny(out.String(), "\u202e\u009b\U000E0041\x7f") || !strings.Contains(out.String(), "ü") {
			t.Fatalf("divided at %d: %q", cut, &out)
		}
		var have, want any
		if json.Unmarshal([]byte(doc), &want) != nil || json.Unmarshal([]byte(out.String()), &have) != nil || !reflect.DeepEqual(have, want) {
			t.Fatalf("divided at %d it means something else: %q", cut, &out)
		}
	}
}

// What failed stands first, with three devices and a hint; nothing that a device
// said reaches the terminal as an order.
func TestSummary(t *testing.T) {
	rep := spec.Report{
		Summary: spec.Summary{Causes: []spec.Cause{
			{Job: "lock", Outcome: spec.OutcomeUnanswered, Kind: "noAnswer", Code: 504101, Name: "GatewayTimeout", Message: "Timed out", Count: 5, Hint: "they may have run the call, but no usable answer arrived: check one before you call them again", Devices: []string{"a", "b", "c"}},
			{Job: "lock", Outcome: spec.OutcomeRejected, Status: 500, Answer: json.RawMessage("\"\u202e\x1b[31m\""), Count: 1, Hint: "the devices' own answer says why", Devices: []string{"d\u009b"}},
			{Job: "move", Outcome: spec.OutcomeNotReached, Count: 2, Devices: []string{"e", "f"}},
		}},
		Jobs: []spec.JobReport{
			{Name: "lock", Status: spec.StatusFailed, Targets: 7, Outcomes: map[spec.Outcome]int{spec.OutcomeUnanswered: 5, spec.OutcomeRejected: 1, spec.OutcomeSucceeded: 1}},
			{Name: "move", Status: spec.StatusInterrupted, Listing: spec.ListingIncomplete, Targets: 2, Outcomes: map[spec.Outcome]int{spec.OutcomeNotReached: 2}},
		},
	}
	const want = `5 unanswered in job lock: 504101 GatewayTimeout, Timed out
    a, b, c and 2 more
    hint: they may have run the call, but no usable answer arrived: check one before you call them again

1 rejected in job lock: the devices answered status 500 "\u202e\u001b[31m"
    d\u009b
    hint: the devices' own answer says why; then runner apply p --resume r --only rejected

2 notReached in job move
    e, f
    hint: not touched; go on with runner apply p --resume r

JOB   STATUS       TARGETS     OUTCOMES
lock  failed       7           1 succeeded, 1 rejected, 5 unanswered
move  interrupted  at least 2  2 notReached

A row for each device: --report FILE, or --report - for here.
`
	var out strings.Builder
	if err := render.Summary(&out, &rep, render.Style{}, "runner apply p --resume r"); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("summary:\n%s\nwant:\n%s", &out, want)
	}
	out.Reset()
	if err := render.Summary(&out, &rep, render.Style{Color: true}, ""); err != nil || !strings.HasPrefix(out.String(), "\x1b[31m5 unanswered") {
		t.Errorf("in color: %q, %v", out.String(), err)
	}
}
