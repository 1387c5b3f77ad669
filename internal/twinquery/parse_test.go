package twinquery_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/twinquery"
)

// errorCase marks the place of the fault inside query with « and », which are
// taken out before parsing.
type errorCase struct {
	query string
	want  string // part of the message
	hint  string // part of the hint; empty if there must be none
}

func checkErrors(t *testing.T, parse func(string) error, cases []errorCase) {
	t.Helper()
	for _, tt := range cases {
		text := strings.NewReplacer("«", "", "»", "").Replace(tt.query)
		start := strings.Index(tt.query, "«")
		end := strings.Index(tt.query, "»") - len("«")
		err := parse(text)
		var bad *twinquery.Error
		if !errors.As(err, &bad) {
			t.Errorf("%s: error %v, want an *Error", text, err)
			continue
		}
		if bad.Offset != start || bad.End != end {
			t.Errorf("%s: fault at %d-%d, want %d-%d (%v)", text, bad.Offset, bad.End, start, end, bad)
		}
		if !strings.Contains(bad.Message, tt.want) || !strings.Contains(bad.Hint, tt.hint) || (tt.hint == "") != (bad.Hint == "") {
			t.Errorf("%s:\n got %q, hint %q\nwant %q, hint %q", text, bad.Message, bad.Hint, tt.want, tt.hint)
		}
	}
}

func TestParseConditionErrors(t *testing.T) {
	parse := func(text string) error { _, err := twinquery.ParseCondition(text); return err }
	checkErrors(t, parse, []errorCase{
		{`«»`, "condition is empty", "tags.building = 43"},
		{`  «»`, "condition is empty", "tags.building = 43"},
		{`«WHERE» tags.x = 1`, "part after WHERE", "leave"},
		{`«SELECT» * FROM devices`, "not a whole query", "after WHERE"},
		{`«FROM» devices.modules WHERE moduleId = 'm'`, "not a whole query", "after WHERE"},
		{`«*»`, "* is not a condition", ""},
		{`tags.x «==» 1`, "== is not part", "equality is written ="},
		{`tags.x «=>» 1`, "=> is not part", ">="},
		{`tags.x = 1 «&&» tags.y = 2`, "&& is not part", "AND"},
		{`tags.x = 1 «||» tags.y = 2`, "|| is not part", "OR"},
		{`«!»tags.x`, "! is not part", "NOT"},
		{`tags.x = «‘»a’`, "is not part", "straight quotes"},
		{`tags.x = 1«;»`, "; is not part", "without a semicolon"},
		{`tags.x = «{»y}`, "is not part", "square brackets"},
		{`tags.x = «'»abc`, "never closed", "close it with '"},
		{`tags.x = «"»abc'`, "never closed", `close it with "`},
		{`tags.x = 'it«''»s'`, "doubling", `\'`},
		{`tags.x = "a«""»b"`, "doubling", `\"`},
		{`tags.x = 'a«\n»b'`, "unknown escape", `\' \" \\`},
		{`tags.x = 'a«\u»12'`, "unknown escape", "four hexadecimal"},
		{`tags.x IN «(»'a', 'b')`, "square brackets, not in parentheses", "IN ['a', 'b']"},
		{`tags.x IN «tags».y`, "expected a list", "IN ['a', 'b']"},
		{`tags.x IN «'a'»`, "expected a list", "IN ['a', 'b']"},
		{`tags.x IN «[]»`, "list is empty", "at least one"},
		{`tags.x IN ['a' «'b'»]`, "expected , or ]", ""},
		{`tags.x IN ['a', «b»]`, "expected a constant", "string stands in quotes: 'b'"},
		{`tags.x IN ['a'«»`, "expected , or ]", ""},
		{`«'a'» IN ['a']`, "path of a property on its left", "path IN"},
		{`tags.x «NOT IN» ['a']`, "no NOT IN", "NIN"},
		{`tags.x «LIKE» 'a%'`, "LIKE", "STARTSWITH"},
		{`tags.x «BETWEEN» 1 AND 2`, "BETWEEN", ">= low"},
		{`tags.x «IS» NULL`, "IS", "IS_DEFINED"},
		{`tags.x = 1 «ORDER» BY deviceId`, "ORDER", "does not sort"},
		{`tags.x = 1 «LIMIT» 5`, "LIMIT", "TOP"},
		{`tags.x = 1 «GROUP» BY tags.y`, "GROUP", ""},
		{`tags.x = 1 «tags»`, "expected AND, OR or the end", ""},
		{`tags.x = 1«)»`, "never opened", ""},
		{`«(»tags.x = 1`, "never closed", "close it"},
		{`(tags.x = 1 «tags».y)`, "expected )", ""},
		{`tags.x = (1«,» 2)`, "unexpected comma", "square brackets"},
		{`tags.x =«»`, "found the end", ""},
		{`tags.x = 1 AND«»`, "found the end", ""},
		{`tags.x = «NOT» tags.y`, "NOT cannot stand here", "parentheses"},
		{`tags.x = 1 «=» 1`, "compared again", "AND"},
		{`tags.x = -«tags».y`, "number after the minus", "0 - path"},
		{`tags.«group» = 1`, "group is a word", "[[group]]"},
		{`tags.«Top».x = 1`, "Top is a word", "[[Top]]"},
		{`tags.«»`, "next segment", ""},
		{`tags.«'x'» = 1`, "next segment", ""},
		{`tags.«1» = 1`, "starts with a digit", "[[1]]"},
		{`tags.«1st» = 1`, "not a number", "[[key]]"},
		{`tags.x«[»0] = 1`, "array cannot be addressed", "whole property"},
		{`tags.«[[»x = 1`, "never closed", "]]"},
		{`tags.«[[]]» = 1`, "empty segment", "between the brackets"},
		{`tags.x = «12abc»`, "not a number", "digits"},
		{`tags.x = «1e3»`, "not a number", "digits"},
		{`tags.x = «5.»`, "not a number", "digits"},
		{`tags.x = «0xZZ»`, "not a hexadecimal", "0x"},
		{`tags.x = «0x11112222333344445»`, "not a hexadecimal", "16 digits"},
		{`tags.x = «#»`, "unexpected character", "[[key]]"},
		{"tags.x = 'a«\xff»'", "not UTF-8", ""},
		{"tags.x «\xff»", "not UTF-8", ""},
		{`«STARTS_WITH»(tags.x, 'a')`, "no function STARTS_WITH", "use STARTSWITH"},
		{`«CONTAINS»(tags.x, 'a')`, "no function CONTAINS", "only in message routing"},
		{`«is_string»(tags.x)`, "no function is_string", "IS_STRING is only in message routing"},
		{`«LOWER»(tags.x) = 'a'`, "no function LOWER", "IS_DEFINED, STARTSWITH, ENDSWITH and ARRAY_CONTAINS"},
		{`«COUNT»() > 1`, "COUNT is an aggregate", "between SELECT and FROM"},
		{`IS_DEFINED(«'x'»)`, "path of a property", ""},
		{`IS_DEFINED(tags.x«,» 1)`, "expected )", "one path"},
		{`IS_DEFINED(«)»`, "path of a property", ""},
		{`STARTSWITH(tags.x«)»`, "expected a comma", "a path and a string"},
		{`STARTSWITH(tags.x, 'a'«,» 'b')`, "expected )", "a path and a string"},
		{`STARTSWITH(tags.x, 'a'«»`, "expected )", "a path and a string"},
		{`«devices» = 1`, "devices is a collection", "deviceId"},
		{`«devices.jobs» = 1`, "devices.jobs is a collection", "deviceId"},
	})
}

func TestParseErrors(t *testing.T) {
	parse := func(text string) error { _, err := twinquery.Parse(text); return err }
	checkErrors(t, parse, []errorCase{
		{`«»`, "expected SELECT", "SELECT ... FROM devices"},
		{`«tags».x = 1`, "expected SELECT", "SELECT ... FROM devices"},
		{`SELECT «»`, "expected a property, an aggregate or *", ""},
		{`SELECT «FROM» devices`, "expected a property, an aggregate or *", ""},
		{`SELECT *«»`, "expected FROM", ""},
		{`SELECT * FROM«»`, "collection after FROM", "devices.modules"},
		{`SELECT * FROM «twins»`, "collection after FROM", "devices.modules"},
		{`SELECT * FROM devices.«twins»`, "expected modules or jobs", "devices.modules"},
		{`SELECT * FROM devices «d»`, "expected WHERE, GROUP BY or the end", ""},
		{`SELECT * FROM devices WHERE«»`, "condition is empty", "leave WHERE out"},
		{`SELECT * FROM devices «ORDER» BY deviceId`, "ORDER", "does not sort"},
		{`SELECT «*», deviceId FROM devices`, "* cannot stand beside", "list the properties"},
		{`SELECT deviceId, «*» FROM devices`, "* cannot stand beside", "list the properties"},
		{`SELECT deviceId, «FROM» devices`, "expected a property", ""},
		{`SELECT «DISTINCT» tags.x FROM devices`, "no SELECT DISTINCT", "list"},
		{`SELECT TOP «0» * FROM devices`, "from 1, not 0", "TOP 10"},
		{`SELECT TOP «1.5» * FROM devices`, "not 1.5", "TOP 10"},
		{`SELECT TOP «*» FROM devices`, "whole number after TOP", "TOP 10"},
		{`SELECT COUNT(«*») FROM devices`, "COUNT(", "takes no argument"},
		{`SELECT COUNT(«tags».x) FROM devices`, "COUNT(", "takes no argument"},
		{`SELECT AVG(«)» FROM devices`, "path of a property", ""},
		{`SELECT «MEDIAN»(tags.x) FROM devices`, "not an aggregate", "COUNT()"},
		{`SELECT deviceId AS «'x'» FROM devices`, "a name after AS", ""},
		{`SELECT deviceId AS «group» FROM devices`, "group is a word", "[[group]]"},
		{`SELECT COUNT() AS n, «tags.x» FROM devices`, "not what the rows are grouped by", "GROUP BY tags.x"},
		{`SELECT tags.x, «tags.y» FROM devices GROUP BY tags.x`, "not what the rows are grouped by", "GROUP BY tags.y"},
		{`«SELECT» * FROM devices GROUP BY tags.x`, "cannot be grouped", "aggregates"},
		{`SELECT COUNT() AS n FROM devices GROUP BY tags.x«,» tags.y`, "one path", "one property"},
		{`SELECT COUNT() AS n FROM devices GROUP «tags».x`, "expected BY", ""},
		{`SELECT COUNT() AS n FROM devices WHERE «GROUP» BY tags.x`, "condition is empty", "leave WHERE out"},
		{`SELECT COUNT() AS n FROM devices GROUP BY tags.x «WHERE» tags.y = 1`, "WHERE", "right after FROM"},
		{`«SELECT» jobId FROM devices.jobs`, "selected as a whole", "SELECT * FROM devices.jobs"},
		{`«SELECT» COUNT() AS n FROM devices.jobs`, "selected as a whole", "SELECT * FROM devices.jobs"},
		{`SELECT * FROM devices.jobs «GROUP» BY jobId`, "no GROUP BY", ""},
		{`SELECT * FROM devices.jobs WHERE «tags».x = 1`, `no "tags"`, "jobId"},
		{`SELECT * FROM devices.jobs WHERE «devices.jobs.tags» = 1`, `no "tags"`, "jobId"},
		{`SELECT * FROM devices WHERE «devices.jobs.jobId» = 'a'`, "the query reads devices, the path devices.jobs", "devices"},
		{`SELECT * FROM devices WHERE tags.x = «'»a`, "never closed", "close it"},
		// The leftmost fault is the one to tell.
		{`SELECT * FROM «twins» WHERE tags.x = 'a`, "collection after FROM", "devices"},
	})
}

func TestParseBoundsNesting(t *testing.T) {
	for _, tt := range []struct{ name, text string }{
		{"parentheses", strings.Repeat("(", 2e4) + "true" + strings.Repeat(")", 2e4)},
		{"open parentheses", strings.Repeat("(", 1e5)},
		{"negations", strings.Repeat("NOT ", 2e4) + "true"},
		{"lists", "tags.x IN " + strings.Repeat("[", 2e4)},
		{"calls", strings.Repeat("STARTSWITH(", 2e4)},
	} {
		_, err := twinquery.ParseCondition(tt.text)
		if err == nil || !strings.Contains(err.Error(), "100 levels") {
			t.Errorf("%s: error %v, want one about nesting", tt.name, err)
		}
	}
}

func TestParseLongChainsStayFlat(t *testing.T) {
	twin := mustTwin(t, theTwin)
	for _, tt := range []struct{ name, text string }{
		{"and", "true" + strings.Repeat(" AND true", 2e4)},
		{"or", "false" + strings.Repeat(" OR false", 2e4) + " OR true"},
		{"sum", "1" + strings.Repeat(" + 1", 2e4) + " = 20001"},
		{"product", "1" + strings.Repeat(" * 1", 2e4) + " = 1"},
	} {
		c, err := twinquery.ParseCondition(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !c.Match(twin) {
			t.Errorf("%s: a long chain does not match", tt.name)
		}
	}
}

func TestParseKeepsTheParts(t *testing.T) {
	q, err := twinquery.Parse(`select top 5 DeviceId, tags.Site.[[group]] as s FROM Devices.Modules  where  tags.x = 'a  b' AND(moduleId!='m') `)
	if err != nil {
		t.Fatal(err)
	}
	if q.Source != twinquery.Modules || q.Top != 5 || q.GroupBy != nil {
		t.Errorf("source %v, top %d, group %v; want devices.modules, 5, none", q.Source, q.Top, q.GroupBy)
	}
	if want := `tags.x = 'a  b' AND(moduleId!='m')`; q.WhereText != want {
		t.Errorf("WhereText = %q, want %q", q.WhereText, want)
	}
	var got [][]string
	for _, it := range q.Items {
		got = append(got, append(it.Path.Segments, it.Alias))
	}
	if diff := cmp.Diff([][]string{{"deviceId", ""}, {"tags", "Site", "group", "s"}}, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if off := q.Items[1].Path; off.Offset != 23 || off.End != 42 {
		t.Errorf("second path at %d-%d, want 23-42", off.Offset, off.End)
	}
}

func TestParsePrintsCanonically(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`select * from devices`, `SELECT * FROM devices`},
		{`SELECT count() AS n, tags.a FROM devices GROUP BY tags.a`, `SELECT COUNT() AS n, tags.a FROM devices GROUP BY tags.a`},
		{`SELECT * FROM devices.jobs WHERE devices.jobs.JobId = "x"`, `SELECT * FROM devices.jobs WHERE devices.jobs.JobId = 'x'`},
		{`SELECT tags.[[top]] AS [[my key]] FROM devices`, `SELECT tags.[[top]] AS [[my key]] FROM devices`},
		{`SELECT * FROM devices WHERE ((a=1))`, `SELECT * FROM devices WHERE a = 1`},
		{`SELECT * FROM devices WHERE (a AND b) AND c OR d`, `SELECT * FROM devices WHERE (a AND b) AND c OR d`},
		{`SELECT * FROM devices WHERE a AND (b OR NOT (c AND d))`, `SELECT * FROM devices WHERE a AND (b OR NOT (c AND d))`},
		{`SELECT * FROM devices WHERE 1 - (2 - 3) = (4 * (5 + 0x10))`, `SELECT * FROM devices WHERE 1 - (2 - 3) = 4 * (5 + 16)`},
		{`SELECT * FROM devices WHERE (a = b) = (NOT c)`, `SELECT * FROM devices WHERE (a = b) = (NOT c)`},
		{`SELECT * FROM devices WHERE a nin [1,-2.50,"x",null,[true]]`, `SELECT * FROM devices WHERE a NIN [1, -2.5, 'x', null, [true]]`},
		{`SELECT * FROM devices WHERE STARTSWITH(a,"b")`, `SELECT * FROM devices WHERE STARTSWITH(a, 'b')`},
	} {
		q, err := twinquery.Parse(tt.text)
		if err != nil {
			t.Errorf("Parse(%s): %v", tt.text, err)
			continue
		}
		if got := q.String(); got != tt.want {
			t.Errorf("Parse(%s) prints\n     %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

func TestWarningsNameWhatNoTwinHas(t *testing.T) {
	for _, tt := range []struct{ cond, message, hint string }{
		{`«building» = 43`, `a twin has no "building"`, "tags.building"},
		{`«desired».x = 43`, `a twin has no "desired"`, "properties.desired?"},
		{`tags.a = 1 AND «tag».b = 2`, `a twin has no "tag"`, "tags?"},
		{`IS_DEFINED(«id»)`, `a twin has no "id"`, "deviceId?"},
		{`tags.my-«key» = 1`, `a twin has no "key"`, "[[key-with-dash]]"},
		{`«reported».x IN [1]`, `a twin has no "reported"`, "properties.reported?"},
		{`tags.site = «Paris»`, `a twin has no "Paris"`, "a text needs quotes, as in 'Paris'"},
		{`«site».floor = 1`, `a twin has no "site"`, "full path"},
	} {
		text := strings.NewReplacer("«", "", "»", "").Replace(tt.cond)
		c, err := twinquery.ParseCondition(text)
		if err != nil {
			t.Errorf("ParseCondition(%s): %v", text, err)
			continue
		}
		if len(c.Warnings()) != 1 {
			t.Errorf("%s: warnings %v, want one", text, c.Warnings())
			continue
		}
		w := c.Warnings()[0]
		if got := text[w.Offset:w.End]; w.Offset != strings.Index(tt.cond, "«") || got != between(tt.cond) {
			t.Errorf("%s: warning at %q, want %q", text, got, between(tt.cond))
		}
		if !strings.Contains(w.Message, tt.message) || !strings.Contains(w.Hint, tt.hint) {
			t.Errorf("%s: %v, want %q (%q)", text, w, tt.message, tt.hint)
		}
	}
	c, err := twinquery.ParseCondition(`TAGS.a = 1 AND devices.LastActivityTime > 'x' AND properties.reported.q = 1 AND configurations.x.status = 'Applied'`)
	if err != nil || len(c.Warnings()) != 0 {
		t.Errorf("warnings %v, error %v; want none", c.Warnings(), err)
	}
}

func between(marked string) string {
	_, rest, _ := strings.Cut(marked, "«")
	inside, _, _ := strings.Cut(rest, "»")
	return inside
}

func TestIsSelect(t *testing.T) {
	for _, tt := range []struct {
		text string
		want bool
	}{
		{" select * FROM devices", true},
		{"SELECT", true},
		{"tags.select = 1", false},
		{"selected = 1", false},
		{"", false},
		{"'SELECT'", false},
	} {
		if got := twinquery.IsSelect(tt.text); got != tt.want {
			t.Errorf("IsSelect(%q) = %v, want %v", tt.text, got, tt.want)
		}
	}
}
