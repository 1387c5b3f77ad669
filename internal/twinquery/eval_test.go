package twinquery_test

import (
	"testing"

	"iothub-runner/internal/twinquery"
)

// theTwin has a value of every type, a key for every trap, and no tags.missing.
const theTwin = ` {
	"deviceId": "door-1", "etag": "AAAAAAAAAAc=", "version": 7, "status": "enabled",
	"connectionState": "Connected", "lastActivityTime": "2026-11-22T10:00:00Z",
	"cloudToDeviceMessageCount": 0, "capabilities": {"iotEdge": true},
	"tags": {
		"building": 43, "floor": 3.5, "site": "oslo", "quote": "it's \"here\" \\ é",
		"yes": true, "no": false, "nothing": null, "obj": {"a": 1}, "arr": [1, 2],
		"group": {"x": 1}, "a.b": "dotted", "a": {"b": "nested"}, "my-key": 5, "*": "star",
		"Building": 99, "negative": -5, "twelve": 12, "empty": "", "numeric": "43"
	},
	"properties": {
		"desired": {"$version": 4, "$metadata": {"$lastUpdated": "2026-01-01T00:00:00Z"}, "rate": 10},
		"reported": {"connectivity": {"type": "wifi"}, "fw": "1.10.2", "$version": 9}
	}
}`

func mustTwin(tb testing.TB, raw string) *twinquery.Twin {
	tb.Helper()
	twin, err := twinquery.NewTwin([]byte(raw))
	if err != nil {
		tb.Fatalf("NewTwin: %v", err)
	}
	return twin
}

type matchCase struct {
	cond string
	want bool
}

func runMatches(t *testing.T, cases []matchCase) {
	t.Helper()
	twin := mustTwin(t, theTwin)
	for _, tt := range cases {
		c, err := twinquery.ParseCondition(tt.cond)
		if err != nil {
			t.Errorf("ParseCondition(%s): %v", tt.cond, err)
			continue
		}
		if got := c.Match(twin); got != tt.want {
			t.Errorf("Match(%s) = %v, want %v", tt.cond, got, tt.want)
		}
	}
}

func TestMatchComparesPrimitivesOfOneType(t *testing.T) {
	runMatches(t, []matchCase{
		{`tags.building = 43`, true},
		{`tags.building = 43.0`, true},
		{`tags.building = 0x2B`, true},
		{`tags.building = 0X2b`, true},
		{`tags.building != 43`, false},
		{`tags.building <> 42`, true},
		{`tags.building < 44`, true},
		{`tags.building <= 43`, true},
		{`tags.building > 43`, false},
		{`tags.building >= 43`, true},
		{`tags.negative = -5`, true},
		{`tags.negative < -4`, true},
		{`43 = tags.building`, true},
		{`tags.site = 'oslo'`, true},
		{`tags.site = "oslo"`, true},
		{`tags.site = 'Oslo'`, false},
		{`tags.site > 'bergen'`, true},
		{`tags.site < 'bergen'`, false},
		{`tags.yes = true`, true},
		{`tags.yes != false`, true},
		{`tags.no < tags.yes`, true},
		{`tags.nothing = null`, true},
		{`tags.nothing != null`, false},
		{`tags.nothing <= null`, true},
		{`tags.nothing < null`, false},
		// Values of two types, objects and arrays do not compare, not even as unequal.
		{`tags.numeric = 43`, false},
		{`tags.numeric != 43`, false},
		{`tags.yes = 1`, false},
		{`tags.yes != 1`, false},
		{`tags.nothing = 0`, false},
		{`tags.nothing != 0`, false},
		{`tags.obj = tags.obj`, false},
		{`tags.obj != 1`, false},
		{`tags.arr = [1, 2]`, false},
		{`tags.arr != [1]`, false},
		{`lastActivityTime > '2026-11-01'`, true},
		{`lastActivityTime < '2026-11-01'`, false},
		{`tags.quote = 'it\'s \"here\" \\ \u00e9'`, true},
		{`tags.quote = "it's \"here\" \\ é"`, true},
	})
}

func TestMatchEscapesOfStrings(t *testing.T) {
	for _, tt := range []struct{ literal, want string }{
		{`'\u0041\\\''`, `A\'`},
		{`"\ud83d\ude00!"`, "😀!"},
		{`'\ud83d'`, "\uFFFD"},
		{`'\ud83d\u0041'`, "\uFFFDA"},
		{`'\ud83dx'`, "\uFFFDx"},
		{`''`, ""},
		{`'"'`, `"`},
		{`"'"`, `'`},
	} {
		c, err := twinquery.ParseCondition("tags.x = " + tt.literal)
		if err != nil {
			t.Errorf("%s: %v", tt.literal, err)
			continue
		}
		if !c.Match(textDoc(tt.want)) {
			t.Errorf("%s does not stand for %q", tt.literal, tt.want)
		}
	}
}

func TestMatchMissingIsUndefined(t *testing.T) {
	runMatches(t, []matchCase{
		{`tags.missing = 1`, false},
		{`tags.missing != 1`, false},
		{`tags.missing <> 'x'`, false},
		{`tags.missing = null`, false},
		{`tags.missing != null`, false},
		{`tags.missing = undefined`, false},
		{`tags.missing = tags.missing`, false},
		{`NOT tags.missing = 1`, false},
		{`NOT NOT tags.missing = 1`, false},
		{`NOT IS_DEFINED(tags.missing)`, true},
		{`IS_DEFINED(tags.missing)`, false},
		{`IS_DEFINED(tags.missing.deeper)`, false},
		{`IS_DEFINED(tags.site.deeper)`, false},
		{`IS_DEFINED(tags.arr.x)`, false},
		{`IS_DEFINED(tags.nothing)`, true},
		{`IS_DEFINED(tags.obj)`, true},
		{`IS_DEFINED(deviceId)`, true},
		{`IS_DEFINED(moduleId)`, false},
		{`IS_DEFINED(building)`, false},
	})
}

func TestMatchLogicHasThreeValues(t *testing.T) {
	runMatches(t, []matchCase{
		{`tags.yes AND tags.yes`, true},
		{`tags.yes AND tags.no`, false},
		{`tags.no OR tags.yes`, true},
		{`NOT tags.no`, true},
		{`NOT tags.yes`, false},
		{`tags.missing = 1 OR tags.yes`, true},
		{`tags.yes OR tags.missing = 1`, true},
		{`tags.missing = 1 OR tags.no`, false},
		{`NOT (tags.missing = 1 OR tags.no)`, false},
		{`NOT (tags.missing = 1 AND tags.no)`, true},
		{`NOT (tags.no AND tags.missing = 1)`, true},
		{`NOT (tags.missing = 1 AND tags.yes)`, false},
		{`NOT (tags.missing = 1 OR tags.yes)`, false},
		// What is no boolean is undefined to AND, OR and NOT.
		{`NOT tags.nothing`, false},
		{`NOT tags.building`, false},
		{`tags.building AND tags.yes`, false},
		{`tags.building OR tags.yes`, true},
		{`NOT undefined`, false},
	})
}

func TestMatchOnlyExactlyTrue(t *testing.T) {
	runMatches(t, []matchCase{
		{`true`, true},
		{`TRUE`, true},
		{`false`, false},
		{`null`, false},
		{`undefined`, false},
		{`1`, false},
		{`'true'`, false},
		{`[1]`, false},
		{`tags.yes`, true},
		{`tags.building`, false},
		{`tags.site`, false},
		{`tags.obj`, false},
		{`tags.arr`, false},
		{`tags.missing`, false},
		{`capabilities.iotEdge`, true},
	})
}

func TestMatchMembership(t *testing.T) {
	runMatches(t, []matchCase{
		{`tags.site IN ['bergen', 'oslo']`, true},
		{`tags.site IN ['bergen']`, false},
		{`tags.site NIN ['bergen']`, true},
		{`tags.site NIN ['oslo']`, false},
		{`NOT tags.site IN ['bergen']`, true},
		{`tags.building IN [1, 'x', 43]`, true},
		{`tags.building IN ['43']`, false},
		{`tags.building NIN ['43']`, true},
		{`tags.negative in [-5]`, true},
		{`tags.nothing IN [null]`, true},
		{`tags.nothing NIN [1]`, true},
		{`tags.yes IN [true, false]`, true},
		{`tags.missing IN [undefined]`, false},
		{`tags.missing IN [1]`, false},
		{`tags.missing NIN [1]`, false},
		{`NOT tags.missing IN [1]`, false},
		{`tags.obj NIN [1]`, false},
		{`tags.arr IN [[1, 2]]`, false},
		{`deviceId IN ['door-1','door-2']`, true},
	})
}

func TestMatchFunctions(t *testing.T) {
	runMatches(t, []matchCase{
		{`STARTSWITH(tags.site, 'os')`, true},
		{`startswith(deviceId, 'door-')`, true},
		{`STARTSWITH(tags.site, 'OS')`, false},
		{`STARTSWITH(tags.site, '')`, true},
		{`ENDSWITH(tags.site, 'lo')`, true},
		{`EndsWith(tags.site, 'os')`, false},
		{`STARTSWITH(tags.building, '4')`, false},
		{`NOT STARTSWITH(tags.building, '4')`, false},
		{`NOT STARTSWITH(tags.missing, 'x')`, false},
		{`NOT STARTSWITH(tags.site, 4)`, false},
		{`NOT STARTSWITH(tags.site, 'x')`, true},
		{`is_defined(properties.reported.fw)`, true},
		{`STARTSWITH(tags.site, 'os') = true`, true},
	})
}

func TestMatchArithmetic(t *testing.T) {
	runMatches(t, []matchCase{
		{`tags.building + 1 = 44`, true},
		{`tags.building - 1 - 1 = 41`, true},
		{`tags.building - (1 - 1) = 43`, true},
		{`2 + 3 * 4 = 14`, true},
		{`(2 + 3) * 4 = 20`, true},
		{`tags.twelve / 3 * 2 = 8`, true},
		{`tags.twelve / (3 * 2) = 2`, true},
		{`tags.building % 10 = 3`, true},
		{`7 - 2 % 4 = 5`, true},
		{`tags.building -1 = 42`, true},
		{`2 * -3 = -6`, true},
		{`0.1 = 1 / 10`, true},
		{`1 / 0 = 1 / 0`, false},
		{`1 % 0 != 1`, false},
		{`tags.site + 'x' = 'oslox'`, false},
		{`tags.yes + 1 = 2`, false},
		{`tags.missing + 1 != 5`, false},
		{`tags.nothing * 1 = 0`, false},
	})
}

func TestMatchPrecedence(t *testing.T) {
	runMatches(t, []matchCase{
		{`tags.yes OR tags.yes AND tags.no`, true},
		{`(tags.yes OR tags.yes) AND tags.no`, false},
		{`NOT tags.no AND tags.no`, false},
		{`NOT (tags.no AND tags.no)`, true},
		{`NOT tags.building = 1`, true},
		{`NOT tags.site IN ['oslo'] OR tags.yes`, true},
		{`tags.building = 40 + 3`, true},
		{`tags.building > 1 AND tags.building < 50 OR tags.no`, true},
	})
}

func TestMatchNamesAndKeys(t *testing.T) {
	runMatches(t, []matchCase{
		{`DeviceId = 'door-1'`, true},
		{`DEVICEID = 'door-1'`, true},
		{`deviceId = 'Door-1'`, false},
		{`devices.deviceId = 'door-1'`, true},
		{`Devices.Modules.DeviceId = 'door-1'`, true},
		{`Tags.building = 43`, true},
		{`tags.Building = 99`, true},
		{`tags.BUILDING = 43`, false},
		{`Properties.Desired.rate = 10`, true},
		{`properties.desired.Rate = 10`, false},
		{`properties.desired.$version = 4`, true},
		{`properties.reported.$Version = 9`, true},
		{`properties.desired.$METADATA.$lastupdated > '2025'`, true},
		{`properties.reported.connectivity.type = 'wifi'`, true},
		{`capabilities.IotEdge = true`, true},
		{`Status = 'enabled' and ConnectionState = 'Connected'`, true},
		{`tags.[[group]].x = 1`, true},
		{`tags.[[a.b]] = 'dotted'`, true},
		{`tags.a.b = 'nested'`, true},
		{`tags.[[my-key]] = 5`, true},
		{`tags.[[*]] = 'star'`, true},
		{`tags.[[building]] = 43`, true},
		{"tags.building\n\t= 43", true},
		{`tags . building = 43`, true},
	})
}

func TestMatchAllocatesNothing(t *testing.T) {
	twin := mustTwin(t, theTwin)
	for _, text := range []string{
		`tags.building = 43`,
		`tags.site IN ['bergen', 'oslo'] AND NOT IS_DEFINED(tags.missing)`,
		`STARTSWITH(deviceId, 'door') OR properties.reported.connectivity.type = 'wifi'`,
		`tags.building + 1 > 3`,
	} {
		c, err := twinquery.ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { c.Match(twin) }); n != 0 {
			t.Errorf("Match(%s) allocates %v times, want 0", text, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	twin := mustTwin(b, theTwin)
	c, err := twinquery.ParseCondition(`tags.building = 43 AND deviceId != 'door-2'`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Match(twin)
	}
}
