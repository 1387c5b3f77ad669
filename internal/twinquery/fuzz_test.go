package twinquery_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"iothub-runner/internal/twinquery"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `SELECT * FROM devices`, `SELECT TOP 3 deviceId, tags.[[group]].x AS g FROM devices.modules WHERE NOT tags.a = 'b\u0041' OR 1 + 2 * -3 >= 0x1F`,
		`SELECT COUNT() AS n, AVG(tags.x) FROM devices WHERE tags.x NIN [1, "a", [null, undefined]] GROUP BY tags.y`,
		`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'a' AND createdTimeUtc > '2016'`,
		`tags.x = 'it''s'`, `tags.x IN ('a')`, `((((true`, `STARTSWITH(tags.a, ENDSWITH(tags.b, "\ud83d\ude00"))`,
		"tags.\xff", `tags.[[`, `a = -0 % 1 / (2 - -3)`, `devices.devices.x = 1`, `IS_DEFINED(devices.[[jobs]].x)`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkQuery(t, text)
		checkCondition(t, text)
	})
}

func checkQuery(t *testing.T, text string) {
	t.Helper()
	q, err := twinquery.Parse(text)
	if err != nil {
		checkPosition(t, text, err)
		return
	}
	again, err := twinquery.Parse(q.String())
	if err != nil {
		t.Fatalf("%q prints as %q, which does not parse: %v", text, q, err)
	}
	// Positions move and the condition is compared as text; nothing else may differ.
	opts := cmp.Options{
		cmpopts.IgnoreFields(twinquery.Path{}, "Offset", "End"),
		cmpopts.IgnoreUnexported(twinquery.Path{}),
		cmpopts.IgnoreFields(twinquery.Query{}, "Where", "WhereText"),
	}
	if diff := cmp.Diff(q, again, opts); diff != "" || q.String() != again.String() {
		t.Fatalf("%q and its print %q differ:\n%s", text, again, diff)
	}
	if q.Where != nil && q.WhereText == "" {
		t.Fatalf("%q has a condition without text", text)
	}
	if q.Where != nil {
		c, whereErr := twinquery.ParseCondition(q.WhereText)
		if whereErr != nil || c.String() != q.Where.String() {
			t.Fatalf("WhereText %q of %q reads as %v, error %v", q.WhereText, text, c, whereErr)
		}
	}
}

func checkCondition(t *testing.T, text string) {
	t.Helper()
	c, err := twinquery.ParseCondition(text)
	if err != nil {
		checkPosition(t, text, err)
		return
	}
	again, err := twinquery.ParseCondition(c.String())
	if err != nil {
		t.Fatalf("%q prints as %q, which does not parse: %v", text, c, err)
	}
	if again.String() != c.String() {
		t.Fatalf("%q prints as %q, then as %q", text, c, again)
	}
	twin := mustTwin(t, theTwin)
	if c.Match(twin) != again.Match(twin) {
		t.Fatalf("%q and its print %q do not agree on a twin", text, c)
	}
	for _, w := range c.Warnings() {
		checkPosition(t, text, w)
	}
}

func checkPosition(t *testing.T, text string, err error) {
	t.Helper()
	var bad *twinquery.Error
	if !errors.As(err, &bad) {
		t.Fatalf("%q: %v is no *Error", text, err)
	}
	if bad.Offset < 0 || bad.Offset > bad.End || bad.End > len(text) || bad.Message == "" {
		t.Fatalf("%q: %+v lies outside the text of %d bytes", text, *bad, len(text))
	}
}
