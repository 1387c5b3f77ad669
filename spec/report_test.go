package spec_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"iothub-runner/spec"
)

func CompileSchema(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err = c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sampleReport has every field of the report types set.
func sampleReport() spec.Report {
	at := spec.Time{Time: time.Date(2026, 11, 22, 23, 15, 0, 0, time.UTC)}
	fault := &spec.RowError{Kind: "offline", Code: 404103, Name: "DeviceNotOnline", HTTPStatus: 404, TrackingID: "t", Message: "not online"}
	sections := &spec.Sections{Desired: json.RawMessage(`{"floor":3}`), Tags: json.RawMessage(`{"moved":null}`)}
	outcomes := map[spec.Outcome]int{spec.OutcomeSucceeded: 1, spec.OutcomeOffline: 1}
	return spec.Report{
		Schema: spec.ReportSchema,
		Run: spec.Run{
			ID: "20261122T231500Z-3f2a9c", Plan: spec.PlanRef{Name: "p", File: "p.yaml", SHA256: strings.Repeat("0a", 32)}, Hub: "h",
			Engine: "direct", Runner: "0.1.0", StartedAt: at, EndedAt: at, Status: spec.StatusFailed, ExitCode: 1, Reason: "missed",
		},
		Summary: spec.Summary{Targets: 2, Outcomes: outcomes, Attempts: 3, Retries: 1, ThrottledMs: 5, PacedMs: 6},
		Jobs: []spec.JobReport{{
			Name: "lock", Type: spec.TypeDirectMethod, Target: "tags.a = 1", Status: spec.StatusFailed, Reason: "missed", ScheduledAt: at,
			StartedAt: &at, EndedAt: &at, Targets: 2, Outcomes: outcomes, Attempts: 3, Retries: 1,
			LatencyMs: spec.Latency{P50: 1, P90: 2, P99: 3, Max: 4},
			Waves:     []spec.WaveReport{{Wave: "100%", Targets: 2, StartedAt: &at, EndedAt: &at, Outcomes: outcomes, Verdict: spec.VerdictPassed}},
			Devices: []spec.Row{
				{
					Hub: "h", DeviceID: "door-1", ModuleID: "m", Outcome: spec.OutcomeSucceeded, StartedAt: &at, EndedAt: &at, Attempts: 1,
					Method: &spec.MethodResult{Status: 200, Payload: json.RawMessage("null")},
				},
				{
					DeviceID: "door-2", Outcome: spec.OutcomeOffline, Attempts: 2, Error: fault,
					Twin:    &spec.TwinResult{Before: sections, Patch: sections, Version: 3, ETag: "e"},
					History: []spec.Attempt{{Attempt: 1, StartedAt: at, DurationMs: 3, HTTPStatus: 404, Error: fault}},
				},
			},
		}},
	}
}

func ValidateJSON(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestReportSchemaTakesReports(t *testing.T) {
	s := CompileSchema(t, spec.ReportSchemaJSON())
	empty := sampleReport()
	empty.Jobs = []spec.JobReport{}
	notStarted := sampleReport()
	notStarted.Jobs[0] = spec.JobReport{
		Name: "lock", Type: spec.TypeUpdateTwin, Status: spec.StatusNotStarted,
		Outcomes: map[spec.Outcome]int{}, Waves: []spec.WaveReport{}, Devices: []spec.Row{},
	}
	for name, r := range map[string]spec.Report{"full": sampleReport(), "no jobs": empty, "not started": notStarted} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := ValidateJSON(t, s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReportSchemaRefusesOthers(t *testing.T) {
	s := CompileSchema(t, spec.ReportSchemaJSON())
	text, err := json.Marshal(sampleReport())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`"schema":"runner/report/v1"`, `"schema":"runner/report/v2"`},
		{`"outcome":"succeeded"`, `"outcome":"fine"`},
		{`"outcomes":{"offline":1`, `"outcomes":{"lost":1`},
		{`"outcomes":{"offline":1`, `"outcomes":{"offline":0`},
		{`"status":"failed","exitCode"`, `"status":"notStarted","exitCode"`},
		{`"deviceId":"door-1",`, ``},
		{`"deviceId":"door-1"`, `"deviceId":"door-1","extra":1`},
		{`"payload":null`, `"payloads":null`},
		{`"startedAt":"2026-11-22T23:15:00.000Z"`, `"startedAt":"2026-11-22 23:15"`},
		{`"targets":2`, `"targets":-1`},
		{`"before":{"desired":{"floor":3}`, `"before":{"desired":[3]`},
		{`"method":{"status":200`, `"twin":{},"method":{"status":200`},
		{`"attempt":1`, `"attempt":0`},
		{`"type":"directMethod"`, `"type":"reboot"`},
	} {
		broken := strings.Replace(string(text), c[0], c[1], 1)
		if broken == string(text) {
			t.Fatalf("the sample has no %s", c[0])
		}
		if err := ValidateJSON(t, s, []byte(broken)); err == nil {
			t.Errorf("a report with %s passes", c[1])
		}
	}
}

// TestReportSchemaMirrorsTypes compares the keys of every object in the schema
// with the json tags of the type that it describes.
func TestReportSchemaMirrorsTypes(t *testing.T) {
	var schema struct {
		Properties map[string]any
		Required   []string
		Defs       map[string]struct {
			Properties map[string]any
			Required   []string
		} `json:"$defs"`
	}
	if err := json.Unmarshal(spec.ReportSchemaJSON(), &schema); err != nil {
		t.Fatal(err)
	}
	types := map[string]reflect.Type{
		"run": reflect.TypeFor[spec.Run](), "plan": reflect.TypeFor[spec.PlanRef](), "inputs": reflect.TypeFor[spec.Inputs](), "summary": reflect.TypeFor[spec.Summary](), "cause": reflect.TypeFor[spec.Cause](), "hub": reflect.TypeFor[spec.HubReport](),
		"job": reflect.TypeFor[spec.JobReport](), "latency": reflect.TypeFor[spec.Latency](), "wave": reflect.TypeFor[spec.WaveReport](), "confirm": reflect.TypeFor[spec.Confirmation](),
		"row": reflect.TypeFor[spec.Row](), "methodResult": reflect.TypeFor[spec.MethodResult](), "twinResult": reflect.TypeFor[spec.TwinResult](),
		"sections": reflect.TypeFor[spec.Sections](), "error": reflect.TypeFor[spec.RowError](), "attempt": reflect.TypeFor[spec.Attempt](),
	}
	compare := func(name string, typ reflect.Type, properties map[string]any, required []string) {
		t.Helper()
		keys, always := jsonKeys(typ)
		if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(properties))); diff != "" {
			t.Errorf("%s: keys of %v (-) and schema (+):\n%s", name, typ, diff)
		}
		required = append([]string{}, required...)
		slices.Sort(required)
		if diff := cmp.Diff(always, required); diff != "" {
			t.Errorf("%s: keys without omitempty of %v (-) and required (+):\n%s", name, typ, diff)
		}
	}
	compare("report", reflect.TypeFor[spec.Report](), schema.Properties, schema.Required)
	for name, typ := range types {
		compare(name, typ, schema.Defs[name].Properties, schema.Defs[name].Required)
	}
	for name, def := range schema.Defs {
		if def.Properties != nil && types[name] == nil {
			t.Errorf("schema describes %q, which no type does", name)
		}
	}
}

func jsonKeys(typ reflect.Type) (keys, always []string) {
	always = []string{}
	for f := range typ.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, key)
		if options != "omitempty" {
			always = append(always, key)
		}
	}
	slices.Sort(keys)
	slices.Sort(always)
	return keys, always
}

func TestReportSchemaListsOutcomes(t *testing.T) {
	var schema struct {
		Defs struct {
			Outcome struct{ Enum []spec.Outcome }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(spec.ReportSchemaJSON(), &schema); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec.Outcomes(), schema.Defs.Outcome.Enum); diff != "" {
		t.Errorf("Outcomes() (-) and schema (+):\n%s", diff)
	}
}
