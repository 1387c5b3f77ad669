package twinquery_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/twinquery"
)

func mustParse(tb testing.TB, text string) *twinquery.Query {
	tb.Helper()
	q, err := twinquery.Parse(text)
	if err != nil {
		tb.Fatalf("Parse(%s): %v", text, err)
	}
	return q
}

func TestAppendRow(t *testing.T) {
	const raw = ` {"deviceId":"d\u00e9","version":12345678901234567,"tags":{"a":{"b":1.50},"s":"<\"x\">","n":null,"arr":[1, 2]},"properties":{"desired":{"$version":4}}} `
	twin := mustTwin(t, raw)
	for _, tt := range []struct {
		query string
		rule  twinquery.KeyRule
		want  string
	}{
		{`SELECT * FROM devices`, 0, strings.TrimSpace(raw)},
		{`SELECT deviceId FROM devices`, 0, `{"deviceId":"dé"}`},
		{`SELECT DeviceId FROM devices`, 0, `{"DeviceId":"dé"}`},
		{`SELECT devices.DeviceId FROM devices`, twinquery.WholePath, `{"DeviceId":"dé"}`},
		{`SELECT deviceId AS Id, version FROM devices`, 0, `{"Id":"dé","version":12345678901234567}`},
		{`SELECT tags.a.b FROM devices`, twinquery.LastSegment, `{"b":1.50}`},
		{`SELECT tags.a.b FROM devices`, twinquery.WholePath, `{"tags.a.b":1.50}`},
		{`SELECT tags.a AS x, tags.arr AS y, tags.n AS z FROM devices`, 0, `{"x":{"b":1.50},"y":[1, 2],"z":null}`},
		{`SELECT tags.missing, deviceId FROM devices`, 0, `{"deviceId":"dé"}`},
		{`SELECT moduleId AS m FROM devices.modules`, 0, `{}`},
		{`SELECT properties.desired.$version AS [[a "key"]] FROM devices`, 0, `{"a \"key\"":4}`},
	} {
		got := string(mustParse(t, tt.query).AppendRow([]byte("x"), twin, tt.rule))
		if got != "x"+tt.want {
			t.Errorf("%s:\n got %s\nwant x%s", tt.query, got, tt.want)
		}
	}
	if got := string(mustParse(t, `SELECT tags.s FROM devices`).AppendRow(nil, twin, 0)); !strings.Contains(got, `\"x\"`) {
		t.Errorf("a string with quotes gives the row %s", got)
	}
}

func groupRows(t *testing.T, query string, docs ...string) []string {
	t.Helper()
	q := mustParse(t, query)
	if !q.Aggregates() {
		t.Fatalf("%s: Aggregates() = false", query)
	}
	g := twinquery.NewGroups(q, twinquery.LastSegment)
	for _, d := range docs {
		if twin := mustTwin(t, d); q.Match(twin) {
			g.Add(twin)
		}
	}
	rows := []string{}
	for i := range g.Len() {
		rows = append(rows, string(g.AppendRow(nil, i)))
	}
	return rows
}

func TestGroups(t *testing.T) {
	docs := []string{
		`{"tags":{"site":"a","n":1}}`, `{"tags":{"site":"b","n":10}}`, `{"tags":{"site":"a","n":2.5}}`,
		`{"tags":{"n":7}}`, `{"tags":{"site":null,"n":"text"}}`, `{"tags":{"site":1}}`, `{"tags":{"site":1.0}}`,
		`{"tags":{"site":"1"}}`,
	}
	for _, tt := range []struct {
		query string
		want  []string
	}{
		{`SELECT COUNT() AS n FROM devices`, []string{`{"n":8}`}},
		{`SELECT COUNT() AS n FROM devices WHERE tags.site = 'a'`, []string{`{"n":2}`}},
		{`SELECT COUNT() AS n, SUM(tags.n) AS s FROM devices WHERE tags.site = 'none'`, []string{`{"n":0}`}},
		{
			`SELECT AVG(tags.n) AS a, SUM(tags.n) AS s, MIN(tags.n) AS lo, MAX(tags.n) AS hi FROM devices`,
			[]string{`{"a":5.125,"s":20.5,"lo":1,"hi":10}`},
		},
		{`SELECT COUNT(), MAX(tags.n) FROM devices`, []string{`{"$1":8,"$2":10}`}},
		{`SELECT tags.site AS site, COUNT() AS n FROM devices GROUP BY tags.site`, []string{
			`{"site":"a","n":2}`, `{"site":"b","n":1}`, `{"n":1}`, `{"site":null,"n":1}`, `{"site":1,"n":2}`, `{"site":"1","n":1}`,
		}},
		{`SELECT tags.site FROM devices WHERE tags.n > 0 GROUP BY Tags.site`, []string{`{"site":"a"}`, `{"site":"b"}`, `{}`}},
		{`SELECT TOP 2 COUNT() AS n FROM devices GROUP BY tags.site`, []string{`{"n":2}`, `{"n":1}`}},
		{`SELECT COUNT() AS n FROM devices WHERE tags.site = 'none' GROUP BY tags.site`, []string{}},
	} {
		if diff := cmp.Diff(tt.want, groupRows(t, tt.query, docs...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.query, diff)
		}
	}
}

func TestJobsRows(t *testing.T) {
	row := mustTwin(t, `{"deviceId":"d","jobId":"j1","status":"completed","createdDateTimeUtc":"2026-11-22T00:00:00Z",
		"outcome":{"deviceMethodResponse":{"status":200}}}`)
	for _, tt := range []struct {
		where string
		want  bool
	}{
		{`devices.jobs.JobId = 'j1'`, true},
		{`jobId = 'j2'`, false},
		{`devices.jobs.createdTimeUtc > '2026-11-01'`, true},
		{`createdDateTimeUtc > '2026-12-01'`, false},
		{`outcome.deviceMethodResponse.status = 200`, true},
	} {
		q := mustParse(t, `SELECT * FROM devices.jobs WHERE `+tt.where)
		if got := q.Match(row); got != tt.want {
			t.Errorf("%s matches: %v, want %v", tt.where, got, tt.want)
		}
	}
}

func TestNewTwinRefusesWhatIsNoObject(t *testing.T) {
	for _, raw := range []string{``, ` `, `{`, `[]`, `"x"`, `1`, `{"a":1}x`} {
		if _, err := twinquery.NewTwin([]byte(raw)); err == nil {
			t.Errorf("NewTwin(%q) gives no error", raw)
		}
	}
}

func TestLookupJSON(t *testing.T) {
	const raw = `{"a.b":1,"a":{"b":2,"é\n":3,"":4},"*":5,"@this":6,"n":null}`
	for _, tt := range []struct {
		path []string
		want string
	}{
		{[]string{"a.b"}, "1"},
		{[]string{"a", "b"}, "2"},
		{[]string{"a", "é\n"}, "3"},
		{[]string{"a", ""}, "4"},
		{[]string{"*"}, "5"},
		{[]string{"@this"}, "6"},
		{[]string{"n"}, "null"},
		{[]string{"n", "x"}, ""},
		{[]string{"a", "b", "c"}, ""},
		{[]string{"#"}, ""},
		{nil, raw},
	} {
		if got := string(twinquery.LookupJSON(raw, tt.path).AppendJSON(nil)); got != tt.want {
			t.Errorf("LookupJSON(%q) = %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestQuoteReadsBack(t *testing.T) {
	for _, s := range []string{"", "a", "it's", `say "x"`, `back\slash`, "tab\tnew\nline\x00", "é 😀", `\u0041`, "\u2028\x7f"} {
		for _, literal := range []string{twinquery.Quote(s), `"` + twinquery.Escape(s) + `"`} {
			c, err := twinquery.ParseCondition("tags.x = " + literal)
			if err != nil {
				t.Errorf("%s does not parse: %v", literal, err)
				continue
			}
			if !c.Match(textDoc(s)) {
				t.Errorf("%s does not equal %q", literal, s)
			}
		}
	}
	if got, want := twinquery.Quote("a\xffb"), "'a\uFFFDb'"; got != want {
		t.Errorf("Quote of broken UTF-8 = %q, want %q", got, want)
	}
}

// textDoc has one string at every path.
type textDoc string

func (d textDoc) Lookup([]string) twinquery.Value { return twinquery.StringValue(string(d)) }

func ExampleParse() {
	q, err := twinquery.Parse(`SELECT deviceId, tags.site AS site FROM devices WHERE tags.building = 43`)
	if err != nil {
		fmt.Println(err)
		return
	}
	twin, err := twinquery.NewTwin([]byte(`{"deviceId": "door-1", "tags": {"building": 43, "site": "oslo"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(q.Match(twin), string(q.AppendRow(nil, twin, twinquery.LastSegment)))
	_, err = twinquery.ParseCondition(`tags.site == 'oslo'`)
	fmt.Println(err)
	// Output:
	// true {"deviceId":"door-1","site":"oslo"}
	// query offset 10: == is not part of the query language (equality is written =)
}
