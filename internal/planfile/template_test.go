package planfile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"iothub-runner/internal/planfile"
	"iothub-runner/internal/twinquery"
	"iothub-runner/spec"
)

// payloadTemplate parses a plan whose payload is the text, in single quotes.
func payloadTemplate(tb testing.TB, text string) (*spec.Template, spec.Diagnostics) {
	tb.Helper()
	src := "version: 1\nname: p\njobs:\n  - {name: a, type: directMethod, target: tags.a = 1, method: m, payload: '" + strings.ReplaceAll(text, "'", "''") + "'}\n"
	plan, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{})
	if plan == nil {
		return nil, diags
	}
	return plan.Jobs[0].Method.Template, diags
}

func sampleDevice() spec.Device {
	return spec.Device{
		ID: `door"1`, ModuleID: "",
		Tags:     json.RawMessage(`{"site": "Zürich \"HB\"", "n": 12345678901234567890, "on": true, "quoted": "x \" y \" z", "none": null, "deep": {"a-b": { "c" : [ 1, "x y" ] }}}`),
		Desired:  json.RawMessage(`{"fw": "1.2", "$version": 4}`),
		Reported: json.RawMessage(`{"fw": "1.1"}`),
	}
}

func TestTemplate(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`${device.id}`, `"door\"1"`},
		{`<${device.id}>`, `"<door\"1>"`},
		{`${ device.tags.site }`, `"Zürich \"HB\""`},
		{`in ${device.tags.site}!`, `"in Zürich \"HB\"!"`},
		{`${device.tags.quoted}`, `"x \" y \" z"`},
		{`${device.tags.n}`, `12345678901234567890`},
		{`n=${device.tags.n}, on=${device.tags.on}`, `"n=12345678901234567890, on=true"`},
		{`${device.tags.none}`, `null`},
		{`${device.tags.deep.a-b}`, `{"c":[1,"x y"]}`},
		{`${device.desired.fw} -> ${device.reported.fw}`, `"1.2 -> 1.1"`},
		{`${device.desired.$version}`, `4`},
		{`${device.moduleId|"none"}`, `"none"`},
		{`${device.tags.gone|'it''s'}`, `"it's"`},
		{`${device.tags.gone|'a}b'}`, `"a}b"`},
		{`x ${device.tags.gone|7} y`, `"x 7 y"`},
		{`${device.tags.gone|null}`, `null`},
		{`${device.tags.site|"unused"}`, `"Zürich \"HB\""`},
		{`$${device.id} ${device.id}`, `"${device.id} door\"1"`},
		{"line\n\n${device.tags.on}", `"line\ntrue"`},
	} {
		template, diags := payloadTemplate(t, c.text)
		if template == nil {
			t.Errorf("%q gives no template:\n%s", c.text, diags)
			continue
		}
		got, err := template.Execute(sampleDevice())
		if err != nil || string(got) != c.want {
			t.Errorf("Execute(%q) = %s, %v, want %s", c.text, got, err, c.want)
		}
	}
}

func TestTemplateMissing(t *testing.T) {
	for text, want := range map[string]string{
		`${device.tags.gone}`:        "the device's tags.gone is missing",
		`${device.tags.site.deeper}`: "the device's tags.site.deeper is missing",
		`${device.reported.x}`:       "the device's reported.x is missing",
		`${device.moduleId}`:         "the device's moduleId is missing",
		`a ${device.tags.deep}`:      "the device's tags.deep is {",
		`a ${device.tags.none}`:      "the device's tags.none is null, which cannot stand inside a text",
	} {
		template, diags := payloadTemplate(t, text)
		if template == nil {
			t.Fatalf("%q: %s", text, diags)
		}
		_, err := template.Execute(sampleDevice())
		if _, ok := errors.AsType[*spec.MissingError](err); !ok || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Execute(%q) = %v, want %q", text, err, want)
		}
	}
}

// FuzzTemplate: whatever a payload's text is, it is refused, or it becomes
// valid JSON for any device.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		"${device.id}", "a${device.tags.site}b", "${device.tags.a|\"x\"}", "$${", "${", "${device.tags.site|'}'}", "${var.x}",
		"${device.tags.deep.a-b}${device.id}", "\x00${device.id}", "\\${device.id}\"",
	} {
		f.Add(text, `{"site": "x"}`)
	}
	f.Fuzz(func(t *testing.T, text, tags string) {
		template, _ := payloadTemplate(t, text)
		if template == nil || !json.Valid([]byte(tags)) {
			return
		}
		d := sampleDevice()
		d.Tags = json.RawMessage(tags)
		out, err := template.Execute(d)
		if err == nil && !json.Valid(out) {
			t.Errorf("Execute(%q) on %s = %s", text, tags, out)
		}
	})
}

// FuzzQueryVariable: no value of a variable changes what a query asks for.
func FuzzQueryVariable(f *testing.F) {
	for _, v := range []string{"x", "O'Hare", `' OR 1 = 1 OR tags.a = '`, `\`, `"`, "]]", "${var.v}", "a\nb", "ü", "\x7f"} {
		f.Add(v)
	}
	const src = "version: 1\nname: p\nvars: {v: {type: string, default: d}}\njobs:\n" +
		"  - {name: a, type: directMethod, method: m, target: \"tags.a = ${var.v} AND tags.b = 'p${var.v}s' OR tags.c IN [${var.v}]\"}\n"
	f.Fuzz(func(t *testing.T, v string) {
		plan, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{Vars: map[string]string{"v": v}})
		if plan == nil {
			t.Fatalf("Parse with %q:\n%s", v, diags)
		}
		got, err := twinquery.ParseCondition(plan.Jobs[0].Target.Where)
		if err != nil {
			t.Fatal(err)
		}
		quoted := twinquery.Quote(v)
		want := fmt.Sprintf("tags.a = %s AND tags.b = %s OR tags.c IN [%s]", quoted, twinquery.Quote("p"+v+"s"), quoted)
		if got.String() != want {
			t.Errorf("with %q the query is %s, want %s", v, got, want)
		}
	})
}

func TestVariablesFromOutside(t *testing.T) {
	const src = "version: 1\nname: p\nvars: {building: {type: integer}, on: false, s: x}\njobs:\n" +
		"  - {name: a, type: directMethod, target: 'tags.b = ${var.building}', method: '${var.s}', payload: ['${var.building}', '${var.on}']}\n"
	for _, c := range []struct {
		vars    map[string]string
		payload string
		rule    string
	}{
		{map[string]string{"building": "44"}, "[44,false]", ""},
		{map[string]string{"building": "-1", "on": "true", "s": "43"}, "[-1,true]", ""},
		{map[string]string{}, "", "variable-value"},
		{map[string]string{"building": "x"}, "", "variable-value"},
		{map[string]string{"building": "044"}, "", "variable-value"},
		{map[string]string{"building": "44 OR true"}, "", "variable-value"},
		{map[string]string{"building": "44", "on": "yes"}, "", "variable-value"},
		{map[string]string{"building": "44", "bulding": "45"}, "", "variable-value"},
	} {
		plan, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{Vars: c.vars})
		switch {
		case c.rule != "" && (plan != nil || !hasRule(diags, c.rule)):
			t.Errorf("Parse with %v: %v, want %s", c.vars, diags, c.rule)
		case c.rule == "" && plan == nil:
			t.Errorf("Parse with %v:\n%s", c.vars, diags)
		case c.rule == "" && string(plan.Jobs[0].Method.Payload) != c.payload:
			t.Errorf("Parse with %v: payload %s, want %s", c.vars, plan.Jobs[0].Method.Payload, c.payload)
		}
	}
}
