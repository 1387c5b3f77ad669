package planfile_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// methodJob parses a plan of one method job with some more lines.
func methodJob(t *testing.T, lines string) spec.Job {
	t.Helper()
	text := "version: 1\nname: p\njobs:\n  - {name: a, type: directMethod, target: tags.a = 1, method: m" + lines + "}\n"
	plan, diags := planfile.Parse("plan.yaml", []byte(text), planfile.Options{})
	if plan == nil {
		t.Fatalf("Parse(%q):\n%s", text, diags)
	}
	return plan.Jobs[0]
}

// TestPayload: no payload and the payload null are different requests, and a
// payload reaches the device as it was written.
func TestPayload(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{", payload: null", "null"},
		{", payload: ~", "null"},
		{`, payload: ""`, `""`},
		{", payload: 007abc", `"007abc"`},
		{", payload: 12345678901234567890123", "12345678901234567890123"},
		{", payload: -9007199254740993", "-9007199254740993"},
		{", payload: 1.10", "1.10"},
		{", payload: +1.5e+3", "1.5e+3"},
		{", payload: .5", "0.5"},
		{", payload: 5.", "5"},
		{", payload: True", "true"},
		{", payload: 2026-12-01", `"2026-12-01"`},
		{", payload: 2026-12-01T02:00:00Z", `"2026-12-01T02:00:00Z"`},
		{", payload: !!str 5", `"5"`},
		{", payload: {b: 1, a: {}, c: []}", `{"b":1,"a":{},"c":[]}`},
		{", payload: {1: x, true: y}", `{"1":"x","true":"y"}`},
		{`, payload: "<&>é\u2028\\\"\0"`, "\"<&>é\u2028\\\\\\\"\\u0000\""},
	} {
		if got := string(methodJob(t, c.yaml).Method.Payload); got != c.want {
			t.Errorf("payload of %q = %s, want %s", c.yaml, got, c.want)
		}
	}
	if got := methodJob(t, "").Method.Payload; got != nil {
		t.Errorf("no payload gives %q, want nil", got)
	}
}

// TestPayloadSize: the hub's 128 KB, at the byte.
func TestPayloadSize(t *testing.T) {
	for size, want := range map[int]bool{128 << 10: false, 128<<10 + 1: true} {
		text := strings.Repeat("x", size-len(`""`))
		src := "version: 1\nname: p\njobs:\n  - {name: a, type: directMethod, target: tags.a = 1, method: m, payload: " + text + "}\n"
		file := fstest.MapFS{"p.json": {Data: []byte(` "` + text + "\"\n")}}
		inFile := strings.Replace(src, "payload: "+text, "payloadFile: p.json", 1)
		for _, plan := range []string{src, inFile} {
			if _, diags := planfile.Parse("plan.yaml", []byte(plan), planfile.Options{FS: file}); hasRule(diags, "payload-size") != want || diags.HasErrors() {
				t.Errorf("a payload of %d bytes: %s", size, diags)
			}
		}
	}
}

func TestParseVars(t *testing.T) {
	got, diags := planfile.ParseVars("vars.yaml", []byte("building: 44\nname: x y\non: true\nkey: SharedAccessKey=abcdefghijk\n"))
	want := map[string]string{"building": "44", "name": "x y", "on": "true", "key": "SharedAccessKey=abcdefghijk"}
	if diff := cmp.Diff(want, got); diff != "" || len(diags) > 0 {
		t.Errorf("ParseVars (-want +got):\n%s%s", diff, diags)
	}
	for text, rule := range map[string]string{
		"- a": "wrong-type", "a: [1]": "wrong-type", "a:": "wrong-type", "a: 1\na: 2": "duplicate-key", "": "empty-plan", "a: b: c": "yaml-syntax", "\x00": "encoding",
	} {
		if got, diags := planfile.ParseVars("vars.yaml", []byte(text)); got != nil || !hasRule(diags, rule) {
			t.Errorf("ParseVars(%q) = %v, %s, want %s", text, got, diags, rule)
		}
	}
}

// TestSecretVariable: a variable may hold a secret, and no message shows it.
func TestSecretVariable(t *testing.T) {
	const key = "SharedAccessKey=c29tZXRoaW5nIHNlY3JldA=="
	src := "version: 1\nname: p\nvars: {k: {type: string}}\njobs:\n  - {name: a, type: directMethod, target: tags.a = 1, method: m, rate: '${var.k}', payload: '${var.k}'}\n"
	_, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{Vars: map[string]string{"k": key}})
	if !diags.HasErrors() || strings.Contains(diags.String(), "c29tZXR") {
		t.Errorf("Parse:\n%s", diags)
	}
}

func TestDefaults(t *testing.T) {
	want := spec.Job{
		Pos: spec.Pos{Line: 4, Column: 5}, Name: "a", Type: spec.TypeDirectMethod,
		Target:      spec.Target{Text: "tags.a = 1", Source: spec.SourceDevices, Where: "tags.a = 1"},
		Method:      &spec.Method{Name: "m", ResponseTimeout: 30 * time.Second, Success: spec.StatusSet{{From: 200, To: 299}}},
		Concurrency: 64,
		Retry:       spec.Retry{Attempts: 4, Backoff: time.Second, MaxBackoff: time.Minute},
		Offline:     spec.OfflineFail,
		IfLate:      spec.LateFail,
		Engine:      spec.EngineDirect,
	}
	if diff := cmp.Diff(want, methodJob(t, "")); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "1ms": time.Millisecond, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour,
		"1.5d": 36 * time.Hour, "1d12h": 36 * time.Hour, "100000d": 100_000 * 24 * time.Hour,
	} {
		if got := methodJob(t, ", delay: "+text).Delay; got != want {
			t.Errorf("delay of %q = %v, want %v", text, got, want)
		}
	}
}

// TestLongDurations: what no time.Duration can hold is refused, not wrapped.
func TestLongDurations(t *testing.T) {
	for _, text := range []string{"100001d", "999999999999d", "100000d200000h", "9999999h", "1e9d", "-1d1h", "1d-1h", "d", "1d1d"} {
		src := "version: 1\nname: p\njobs:\n  - {name: a, type: directMethod, target: tags.a = 1, method: m, delay: " + text + "}\n"
		if plan, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{}); plan != nil || !hasRule(diags, "wrong-value") {
			t.Errorf("delay of %q: %s", text, diags)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]float64{"40/s": 40, "90/m": 1.5, "36/h": 0.01, "0.5/s": 0.5} {
		if got := methodJob(t, ", rate: "+text).Rate; got != want {
			t.Errorf("rate of %q = %v, want %v", text, got, want)
		}
	}
}

// TestStrict: what strict makes of warnings leaves the findings it was made
// from alone.
func TestStrict(t *testing.T) {
	_, diags := planfile.Parse("plan.yaml", []byte("version: 1\nname: p\njobs:\n  - {name: a, type: directMethod, target: building = 1, method: m}\n"), planfile.Options{})
	errors, warnings := diags.Count()
	if errors != 0 || warnings != 1 || diags.HasErrors() {
		t.Errorf("Count() = %d, %d, want 0, 1", errors, warnings)
	}
	if strict := diags.Strict(); !strict.HasErrors() || diags.HasErrors() {
		t.Errorf("Strict().HasErrors() = %t, and the original's %t", strict.HasErrors(), diags.HasErrors())
	}
}

func TestShareOf(t *testing.T) {
	for _, c := range []struct {
		share spec.Share
		of    int
		want  int
	}{
		{spec.Share{Count: 10}, 500, 10},
		{spec.Share{Count: 10}, 7, 7},
		{spec.Share{Percent: 10, Relative: true}, 500, 50},
		{spec.Share{Percent: 10, Relative: true}, 501, 51},
		{spec.Share{Percent: 0.1, Relative: true}, 5, 1},
		{spec.Share{Percent: 100, Relative: true}, 1_000_000, 1_000_000},
		{spec.Share{Percent: 7, Relative: true}, 100, 7},
		{spec.Share{Relative: true}, 100, 0},
	} {
		if got := c.share.Of(c.of); got != c.want {
			t.Errorf("%v of %d = %d, want %d", c.share, c.of, got, c.want)
		}
	}
}

// TestManyWarnings: warnings are cut off before they bury the rest, and never
// hide an error behind them or make a plan invalid.
func TestManyWarnings(t *testing.T) {
	src := "version: 1\nname: p\njobs:\n  - name: a\n    type: updateTwin\n    target: tags.a = 1\n    tags:\n"
	var b strings.Builder
	b.WriteString(src)
	for i := range 300 {
		fmt.Fprintf(&b, "      k%d: yes\n", i)
	}
	plan, diags := planfile.Parse("plan.yaml", []byte(b.String()), planfile.Options{})
	if _, warnings := diags.Count(); plan == nil || warnings != 101 || !hasRule(diags, "too-many-findings") {
		t.Errorf("300 warnings: plan %t, %d warnings", plan != nil, warnings)
	}
	b.WriteString("    concurrency: 0\n")
	if plan, diags = planfile.Parse("plan.yaml", []byte(b.String()), planfile.Options{}); plan != nil || !hasRule(diags, "out-of-range") {
		t.Errorf("an error after 300 warnings: plan %t", plan != nil)
	}
}

// TestFindingsInOrder: those of the plan first, by position.
func TestFindingsInOrder(t *testing.T) {
	file := fstest.MapFS{"a.txt": {Data: []byte("x y\n")}}
	src := "version: 2\nname: P\njobs:\n  - {name: A, type: directMethod, target: {devicesFile: a.txt}, method: m, rate: x}\n"
	_, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{FS: file})
	var got []string
	for _, d := range diags {
		got = append(got, fmt.Sprintf("%s:%d:%d", d.File, d.Pos.Line, d.Pos.Column))
	}
	want := []string{"plan.yaml:1:10", "plan.yaml:2:7", "plan.yaml:4:12", "plan.yaml:4:82", "a.txt:1:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
}

// TestLineBreaks: lines are counted as YAML counts them, and end as editors
// see them end.
func TestLineBreaks(t *testing.T) {
	for _, br := range []string{"\r", "\u0085", "\u2028", "\u2029"} {
		for _, src := range []string{"version: 1|name: p\n", "# note|name: p\n", "name: \"a|b\"\n"} {
			_, diags := planfile.Parse("plan.yaml", []byte(strings.ReplaceAll(src, "|", br)), planfile.Options{})
			if len(diags) != 1 || diags[0].Rule != spec.RuleEncoding {
				t.Errorf("with %q in %q:\n%s\nwant the rule %s alone", br, src, diags, spec.RuleEncoding)
			}
		}
	}
	for _, br := range []string{"\n", "\r\n"} {
		src := strings.ReplaceAll("version: 1|name: p|rate: 5|jobs: []|", "|", br)
		_, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{})
		if len(diags) != 2 || diags[0].Pos != (spec.Pos{Line: 3, Column: 1}) || diags[0].Source != "rate: 5" {
			t.Errorf("with line break %q:\n%s", br, diags)
		}
	}
}

// What may never end is not read.
func TestFilesAreRegular(t *testing.T) {
	const src = "version: 1\nname: p\njobs:\n  - {name: a, type: directMethod, target: {devicesFile: pipe}, method: m, payloadFile: pipe}\n"
	files := fstest.MapFS{"pipe": {Data: []byte("1"), Mode: fs.ModeNamedPipe}}
	_, found := planfile.Parse("p.yaml", []byte(src), planfile.Options{FS: files})
	for _, want := range []string{`devicesFile "pipe" is no regular file`, `payloadFile "pipe" is no regular file`} {
		if !strings.Contains(found.String(), want) {
			t.Errorf("findings %s, want %q among them", found, want)
		}
	}
}
