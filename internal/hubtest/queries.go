package hubtest

import (
	"fmt"
	"slices"
	"strings"

	"iothub-runner/internal/hub"
)

func queryCases() []testCase {
	return []testCase{
		{"query/pages end with the token and give every device", numbered(7, func(i int) Device {
			return deviceIn("pages", fmt.Sprint(i), "")
		}), (*probe).queryPages},
		{"query/the hub chooses the page size when nobody asks", numbered(3, func(i int) Device {
			return deviceIn("nosize", fmt.Sprint(i), "")
		}), (*probe).queryNoSize},
		{"query/a row has what was selected", []Device{sectioned()}, (*probe).queryProjection},
		{"query/nothing matches", nil, (*probe).queryNothing},
		{"query/conditions", conditionDevices(), (*probe).queryConditions},
		{"query/TOP bounds the rows", numbered(5, func(i int) Device {
			return deviceIn("top", fmt.Sprint(i), "")
		}), (*probe).queryTop},
		{"query/modules are found in their own collection", moduleDevices("modquery"), (*probe).queryModules},
		{"query/refused queries", nil, (*probe).queryRefused},
		{"query/a write shows in time", []Device{deviceIn("lag", "a", "")}, (*probe).queryLag},
		{"query/a disabled device is found, a deleted one is not", numbered(3, func(i int) Device {
			return deviceIn("states", fmt.Sprint(i), "")
		}), (*probe).queryStates},
	}
}

func sectioned() Device {
	d := deviceIn("sections", "a", `,"n":{"x":[1,"two"]}`)
	d.Desired = raw(`{"rate":10}`)
	return d
}

func (p *probe) queryPages() {
	want := []string{"pages-0", "pages-1", "pages-2", "pages-3", "pages-4", "pages-5", "pages-6"}
	for _, size := range []int{1, 3, 7, 100} {
		if got := p.ids(selectIn("pages", "deviceId"), size); !slices.Equal(got, want) {
			p.t.Errorf("pages of %d give %v, want %v", size, got, want)
		}
	}
}

func (p *probe) queryNoSize() {
	want := []string{"nosize-0", "nosize-1", "nosize-2"}
	if got := p.ids(selectIn("nosize", "deviceId"), 0); !slices.Equal(got, want) {
		p.t.Errorf("pages of the hub's choice give %v, want %v", got, want)
	}
}

func (p *probe) queryProjection() {
	twin := p.twin(target("sections-a"))
	for _, tt := range []struct {
		projection          string
		etag, tags, desired bool
	}{
		{"deviceId", false, false, false},
		{"DeviceId", false, false, false},
		{"deviceId, etag", true, false, false},
		{"deviceId, etag, tags, properties.desired AS desired", true, true, true},
		{"deviceId AS deviceId, tags AS tags", false, true, false},
		{"*", true, true, false},
	} {
		rows := p.rows(selectIn("sections", tt.projection), 100)
		if len(rows) != 1 || rows[0].DeviceID != "sections-a" {
			p.t.Errorf("SELECT %s gives %v, want sections-a alone", tt.projection, rows)
			continue
		}
		r := rows[0]
		if (r.ETag == twin.ETag) != tt.etag || (r.Tags != nil) != tt.tags || (r.Desired != nil) != tt.desired {
			p.t.Errorf("SELECT %s gives etag %q, tags %s, desired %s of the twin with etag %q", tt.projection, r.ETag, r.Tags, r.Desired, twin.ETag)
		}
		if tt.tags {
			p.wantSection(tt.projection, r.Tags, `{"suite":"sections","n":{"x":[1,"two"]}}`)
		}
		if tt.desired {
			p.wantSection(tt.projection, r.Desired, `{"rate":10}`)
			p.sectionVersion(r.Desired)
		}
	}
	// The etag of a row is good for a patch.
	if _, err := p.hub.PatchTwin(p.t.Context(), target("sections-a"), hub.Patch{Tags: raw(`{"n":null}`)}, twin.ETag); err != nil {
		p.t.Errorf("patch with the etag of a row: %v", err)
	}
}

func (p *probe) queryNothing() {
	if got := p.ids("SELECT deviceId FROM devices WHERE deviceId = 'nobody-has-this-id'", 10); len(got) != 0 {
		p.t.Errorf("a query that nothing matches gives %v", got)
	}
}

func conditionDevices() []Device {
	one := deviceIn("cond", "1", `,"n":1,"site":"oslo","on":true,"group":"g","at":{"floor":3}`)
	two := deviceIn("cond", "2", `,"n":2,"site":"bergen","on":false,"at":{"floor":4}`)
	three := deviceIn("cond", "3", `,"n":"2","site":"Oslo"`)
	three.Desired = raw(`{"rate":5}`)
	three.Reported = raw(`{"rate":5}`)
	return []Device{one, two, three}
}

func (p *probe) queryConditions() {
	for _, tt := range []struct{ condition, want string }{
		{`tags.n = 1`, "1"},
		{`tags.n > 1`, "2"},
		{`tags.n >= 1 AND tags.n < 2.5`, "1 2"},
		{`tags.n = '2'`, "3"},
		{`tags.n != 1`, "2"},
		{`tags.n <> 1`, "2"},
		{`tags.site = "oslo"`, "1"},
		{`tags.site IN ['oslo', 'bergen']`, "1 2"},
		{`tags.site NIN ['oslo', 'bergen']`, "3"},
		{`tags.on = true`, "1"},
		{`NOT tags.on = true`, "2"},
		{`tags.on != true`, "2"},
		{`tags.on = true OR tags.n = '2'`, "1 3"},
		{`tags.on = true OR tags.on = false AND tags.n = 1`, "1"},
		{`(tags.on = true OR tags.on = false) AND tags.n = 2`, "2"},
		{`IS_DEFINED(tags.on)`, "1 2"},
		{`NOT IS_DEFINED(tags.on)`, "3"},
		{`tags.at.floor = 4`, "2"},
		{`tags.[[group]] = 'g'`, "1"},
		{`STARTSWITH(tags.site, 'o')`, "1"},
		{`STARTSWITH(deviceId, 'cond-')`, "1 2 3"},
		{`DeviceID = 'cond-3'`, "3"},
		{`devices.deviceId IN ['cond-1','cond-3']`, "1 3"},
		{`properties.desired.rate = 5`, "3"},
		{`properties.reported.rate = properties.desired.rate`, "3"},
		{`tags.n + 1 = 3`, "2"},
		{`tags.Site = 'oslo'`, ""},
		{`tags.site = 'o\u0073lo'`, "1"},
		{`STATUS = 'enabled'`, "1 2 3"},
	} {
		got := strings.ReplaceAll(strings.Join(p.ids(selectIn("cond", "deviceId")+" AND ("+tt.condition+")", 100), " "), "cond-", "")
		if got != tt.want {
			p.t.Errorf("WHERE %s gives %q, want %q", tt.condition, got, tt.want)
		}
	}
}

func (p *probe) queryTop() {
	text := "SELECT TOP 2 deviceId FROM devices WHERE tags.suite = 'top'"
	for _, size := range []int{1, 100} {
		if got := p.ids(text, size); len(got) != 2 {
			p.t.Errorf("TOP 2 in pages of %d gives %v", size, got)
		}
	}
}

func (p *probe) queryModules() {
	text := "SELECT deviceId, moduleId FROM devices.modules WHERE tags.suite = 'modquery'"
	if got, want := p.ids(text, 1), []string{"modquery-gw/cam", "modquery-gw/lock"}; !slices.Equal(got, want) {
		p.t.Errorf("modules are %v, want %v", got, want)
	}
	if got, want := p.ids(text+" AND moduleId = 'cam'", 10), []string{"modquery-gw/cam"}; !slices.Equal(got, want) {
		p.t.Errorf("modules with one id are %v, want %v", got, want)
	}
	if got, want := p.ids(selectIn("modquery", "deviceId"), 10), []string{"modquery-gw"}; !slices.Equal(got, want) {
		p.t.Errorf("devices are %v, want %v: modules are not among them", got, want)
	}
}

func (p *probe) queryRefused() {
	for _, text := range []string{
		``, `tags.x = 1`, `SELECT`, `SELECT * FROM`, `SELECT * FROM twins`, `SELECT * FROM devices WHERE`,
		`SELECT * FROM devices WHERE tags.x == 1`, `SELECT * FROM devices WHERE tags.x IN ('a')`,
		`SELECT * FROM devices WHERE STARTS_WITH(deviceId, 'a')`, `SELECT * FROM devices WHERE CONTAINS(deviceId, 'a')`,
		`SELECT * FROM devices WHERE tags.x = 'a`, `SELECT * FROM devices WHERE tags.x = 1 ORDER BY deviceId`,
		`SELECT deviceId FROM devices.jobs`,
		`SELECT deviceId FROM devices WHERE tags.x = '` + strings.Repeat("x", 8192) + `'`,
	} {
		_, err := p.hub.Query(p.t.Context(), hub.Query{Text: text, PageSize: 10})
		if len(text) > 100 {
			text = text[:100] + "..."
		}
		p.wantError("Query("+text+")", err, hub.KindInvalid, 0)
	}
}

func (p *probe) queryLag() {
	p.patch(target("lag-a"), hub.Patch{Tags: raw(`{"moved":true}`)})
	p.eventually("the query sees the patch", func() bool {
		return slices.Equal(p.ids(selectIn("lag", "deviceId")+" AND tags.moved = true", 10), []string{"lag-a"})
	})
}

func (p *probe) queryStates() {
	p.SetEnabled("states-1", false)
	p.Delete("states-2")
	want := []string{"states-0", "states-1"}
	p.eventually("the query no longer sees the deleted device", func() bool {
		return slices.Equal(p.ids(selectIn("states", "deviceId"), 10), want)
	})
	p.eventually("the query sees the disabled device as such", func() bool {
		return slices.Equal(p.ids(selectIn("states", "deviceId")+" AND status = 'disabled'", 10), want[1:])
	})
}
