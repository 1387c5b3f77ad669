package twinquery_test

import (
	"testing"

	"iothub-runner/internal/twinquery"
)

func TestAlways(t *testing.T) {
	for _, text := range []string{
		"tags.a = 1 OR TRUE", "TRUE OR tags.a = 1", "tags.a = 1 OR 1 = 1", "tags.a = tags.a", "tags.a >= TAGS.a", "NOT tags.a != tags.a",
		"STARTSWITH(deviceId, '')", "ENDSWITH(tags.a, '')", "(tags.a = 1 OR (TRUE AND 2 > 1))", "NOT (FALSE)", "NOT (tags.a = 1 AND FALSE)",
		"tags.a = 1 OR NOT tags.a = 1", "tags.a = 1 OR tags.a != 1", "tags.a < 2 OR tags.a >= 2", "tags.a IN [1] OR tags.a NIN [1]",
		"IS_DEFINED(deviceId)", "deviceId != ''", "'' < DEVICEID", "deviceId != null", "NOT (NOT IS_DEFINED(status))", "1 + 1 = 2 OR tags.a = 1",
		"tags.a <= 1 OR tags.a >= 1", "NOT tags.a = 1 OR tags.b = 2 OR tags.a = 1",
	} {
		if c := condition(t, text); !c.Always() {
			t.Errorf("Always of %q = false", text)
		}
	}
	for _, text := range []string{
		"tags.a = 1", "tags.a = 1 AND TRUE", "tags.a = 1 OR FALSE", "tags.a = tags.b", "tags.a != tags.a", "STARTSWITH(tags.a, 'x')",
		"IS_DEFINED(tags.a)", "tags.a != ''", "tags.a = 1 OR tags.b != 1", "tags.a < 1 OR tags.a > 1", "NOT (tags.a = 1 OR TRUE)", "deviceId != 'a'",
		"tags.a = 1 OR tags.a != 2", "STARTSWITH('', tags.a)", "NOT tags.a", "tags.a", "deviceId >= 'a'", "1 + tags.a = tags.a", "IS_DEFINED(moduleId)",
	} {
		if c := condition(t, text); c.Always() {
			t.Errorf("Always of %q = true", text)
		}
	}
}

func condition(t *testing.T, text string) *twinquery.Condition {
	t.Helper()
	c, err := twinquery.ParseCondition(text)
	if err != nil {
		t.Fatalf("ParseCondition(%q): %v", text, err)
	}
	return c
}

func TestArrayContains(t *testing.T) {
	doc, err := twinquery.NewTwin([]byte(`{"parentScopes":["ms-azure-iot-edge://gw-1","b"],"tags":{"n":[1,2.0,null,true,{"x":1}],"s":"b"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"array_contains(parentScopes, 'ms-azure-iot-edge://gw-1')": true, "ARRAY_CONTAINS(parentscopes, 'B')": false,
		"ARRAY_CONTAINS(parentScopes, 'gw')": false, "ARRAY_CONTAINS(tags.n, 2)": true, "ARRAY_CONTAINS(tags.n, null)": true,
		"ARRAY_CONTAINS(tags.n, false)": false, "NOT ARRAY_CONTAINS(tags.n, 3)": true, "ARRAY_CONTAINS(tags.s, 'b')": false,
		"NOT ARRAY_CONTAINS(tags.missing, 'b')": false, "ARRAY_CONTAINS(parentScopes, tags.s)": true,
	} {
		if got := condition(t, text).Match(doc); got != want {
			t.Errorf("%s = %t, want %t", text, got, want)
		}
	}
}

func TestUnknownFunctions(t *testing.T) {
	c := condition(t, "tags.a = 1 OR ST_WITHIN(tags.place, [1, 2], 'km') OR NOW()")
	if w := c.Warnings(); len(w) != 2 || c.Unknown() == nil || c.Unknown().Offset != 14 {
		t.Errorf("warnings %v, unknown %v; want two and the first at 14", w, c.Unknown())
	}
	if again := condition(t, c.String()); again.String() != c.String() {
		t.Errorf("%s prints as %s", c, again)
	}
	for _, text := range []string{"NOW(", "NOW(1", "NOW(1,", "NOW(,)", "ARRAY_CONTAINS(tags.a)", "ARRAY_CONTAINS()", "CONTAINS(tags.a, 'b')", "COUNT(tags.a)"} {
		if _, err := twinquery.ParseCondition(text); err == nil {
			t.Errorf("ParseCondition(%q) takes it", text)
		}
	}
}
