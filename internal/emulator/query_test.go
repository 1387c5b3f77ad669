package emulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const offices = `
version: 1
devices:
  - idPattern: door-%03d
    count: 250
    tags: {building: {$cycle: [43, 44]}, floor: 1}
    desired: {locked: true}
    modules: [valve]
  - ids: [gate]
    tags: {building: 43, "site": {name: "north"}}
    reported: {open: false}
`

func queryBody(text string) string {
	b, err := json.Marshal(map[string]string{"query": text})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// pages runs a query to its end and returns the rows and the sizes of pages.
func (h testHub) pages(t *testing.T, text string, headers ...string) (rows []map[string]any, sizes []int) {
	t.Helper()
	next := ""
	for {
		hs := headers
		if next != "" {
			hs = append(slices.Clone(headers), "x-ms-continuation", next)
		}
		a := h.do(t, "POST", "/devices/query", queryBody(text), hs...).want(t, 200)
		page := a.rows(t)
		rows, sizes = append(rows, page...), append(sizes, len(page))
		if next = a.header.Get("x-ms-continuation"); next == "" {
			return rows, sizes
		}
		if len(sizes) > 1000 {
			t.Fatal("the query does not end")
		}
	}
}

func TestQueryPages(t *testing.T) {
	h := newHub(t, offices)
	cases := []struct {
		query, size string
		sizes       []int
	}{
		{"SELECT deviceId FROM devices", "", []int{100, 100, 51}},
		{"SELECT deviceId FROM devices", "1000", []int{100, 100, 51}},
		{"SELECT deviceId FROM devices", "-1", []int{100, 100, 51}},
		{"SELECT deviceId FROM devices", "60", []int{60, 60, 60, 60, 11}},
		{"SELECT TOP 70 deviceId FROM devices", "60", []int{60, 10}},
		{"SELECT deviceId FROM devices WHERE tags.building = 44", "50", []int{50, 50, 25}},
		{"SELECT deviceId FROM devices WHERE tags.building = 99", "", []int{0}},
		{"SELECT deviceId FROM devices WHERE deviceId = 'door-200'", "", []int{1}},
		{"SELECT deviceId FROM devices WHERE deviceId IN ['gate', 'door-007', 'nobody', 'door-100', 'door-007']", "2", []int{2, 1}},
		{"SELECT deviceId FROM devices WHERE deviceId IN ['gate', 'door-007'] AND tags.building = 44", "", []int{0}},
		{"SELECT deviceId, moduleId FROM devices.modules WHERE deviceId IN ['gate', 'door-007', 'door-100']", "1", []int{1, 1}},
		{"SELECT deviceId, moduleId FROM devices.modules", "", []int{100, 100, 50}},
	}
	for _, c := range cases {
		t.Run(c.query+"/"+c.size, func(t *testing.T) {
			var headers []string
			if c.size != "" {
				headers = []string{"x-ms-max-item-count", c.size}
			}
			rows, sizes := h.pages(t, c.query, headers...)
			same(t, "page sizes", sizes, c.sizes)
			seen := map[any]bool{}
			for _, r := range rows {
				if seen[r["deviceId"]] {
					t.Fatalf("%v is listed twice", r["deviceId"])
				}
				seen[r["deviceId"]] = true
			}
		})
	}
}

func TestQueryRows(t *testing.T) {
	h := newHub(t, offices)
	cases := []struct {
		query, item, want string
	}{
		{"SELECT deviceId, tags.building AS b FROM devices WHERE deviceId = 'door-001'", "Raw", `[{"deviceId":"door-001","b":43}]`},
		{"SELECT tags.site.name AS n, tags.nothing AS z FROM devices WHERE deviceId = 'gate'", "Raw", `[{"n":"north"}]`},
		{"SELECT deviceId FROM devices WHERE properties.reported.open = false", "Raw", `[{"deviceId":"gate"}]`},
		{"SELECT deviceId FROM devices WHERE properties.desired.$version > 1", "Raw", `[]`},
		{"SELECT deviceId FROM devices WHERE deviceId = 'gate' AND connectionState = 'Connected'", "Raw", `[{"deviceId":"gate"}]`},
		{"SELECT deviceId FROM devices WHERE deviceId = 'gate' AND capabilities.iotEdge = false AND status = 'enabled'", "Raw", `[{"deviceId":"gate"}]`},
		{"SELECT COUNT() AS n FROM devices", "Raw", `[{"n":251}]`},
		{"SELECT tags.building AS b, COUNT() AS n FROM devices GROUP BY tags.building", "Raw", `[{"b":43,"n":126},{"b":44,"n":125}]`},
		{"SELECT moduleId FROM devices.modules WHERE deviceId = 'door-007'", "Raw", `[{"moduleId":"valve"}]`},
		{"SELECT * FROM devices WHERE deviceId = 'nobody'", "Twin", `[]`},
	}
	for _, c := range cases {
		t.Run(c.query, func(t *testing.T) {
			a := h.do(t, "POST", "/devices/query", queryBody(c.query)).want(t, 200)
			same(t, "x-ms-item-type", a.header.Get("x-ms-item-type"), c.item)
			same(t, "rows", jsonOf(t, a.body), jsonOf(t, c.want))
		})
	}
}

// TestQueryStarShowsTheTwin checks that a query and a read agree.
func TestQueryStarShowsTheTwin(t *testing.T) {
	h := newHub(t, offices)
	h.do(t, "PATCH", "/twins/door-010", `{"tags":{"x":[1,2]},"properties":{"desired":{"y":{"z":1}}}}`).want(t, 200)
	for _, c := range []struct{ query, path string }{
		{"SELECT * FROM devices WHERE deviceId = 'door-010'", "/twins/door-010"},
		{"SELECT * FROM devices WHERE deviceId = 'gate'", "/twins/gate"},
		{"SELECT * FROM devices.modules WHERE deviceId = 'door-010'", "/twins/door-010/modules/valve"},
	} {
		rows, _ := h.pages(t, c.query)
		if len(rows) != 1 {
			t.Fatalf("%s gives %d rows", c.query, len(rows))
		}
		same(t, c.query, rows[0], h.do(t, "GET", c.path, "").doc(t))
	}
}

func TestQueryRefusals(t *testing.T) {
	h := newHub(t, offices)
	token := h.do(t, "POST", "/devices/query", queryBody("SELECT deviceId FROM devices")).header.Get("x-ms-continuation")
	forged := []byte(token)
	forged[2] ^= 1
	cases := []struct {
		name, body string
		headers    []string
		code       string
	}{
		{"empty", queryBody(""), nil, "ArgumentInvalid"},
		{"no key", `{}`, nil, "ArgumentInvalid"},
		{"no JSON", `{`, nil, "IotHubFormatError"},
		{"grammar", queryBody("SELECT * FROM devices WHERE"), nil, "ArgumentInvalid"},
		{"too long", queryBody("SELECT * FROM devices WHERE deviceId = '" + strings.Repeat("x", 8192) + "'"), nil, "ArgumentInvalid"},
		{"page of nothing", queryBody("SELECT * FROM devices"), []string{"x-ms-max-item-count", "0"}, "ArgumentInvalid"},
		{"page of text", queryBody("SELECT * FROM devices"), []string{"x-ms-max-item-count", "many"}, "ArgumentInvalid"},
		{"token of another query", queryBody("SELECT * FROM devices"), []string{"x-ms-continuation", token}, "ArgumentInvalid"},
		{"forged token", queryBody("SELECT deviceId FROM devices"), []string{"x-ms-continuation", string(forged)}, "ArgumentInvalid"},
		{"no token", queryBody("SELECT deviceId FROM devices"), []string{"x-ms-continuation", "next"}, "ArgumentInvalid"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h.do(t, "POST", "/devices/query", c.body, c.headers...).refused(t, 400, c.code)
		})
	}
	h.do(t, "POST", "/devices/query", `{"Query":"SELECT deviceId FROM devices"}`, "x-ms-continuation", token).want(t, 200)
}

func TestQuerySeesDeletedAndAdded(t *testing.T) {
	h := newHub(t, offices)
	count := func() any {
		t.Helper()
		rows, _ := h.pages(t, "SELECT COUNT() AS n FROM devices")
		return rows[0]["n"]
	}
	h.do(t, "DELETE", "/devices/door-001", "", "If-Match", "*").want(t, 204)
	same(t, "after a deletion", count(), 250.0)
	for i := range 3 {
		h.do(t, "PUT", fmt.Sprintf("/devices/new-%d", i), "{}").want(t, 200)
	}
	same(t, "after additions", count(), 253.0)
	h.do(t, "DELETE", "/devices/new-1", "", "If-Match", "*").want(t, 204)
	h.do(t, "PUT", "/devices/other", "{}").want(t, 200)
	same(t, "after a place was used again", count(), 253.0)
	rows, _ := h.pages(t, "SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'new') OR deviceId = 'other'")
	if len(rows) != 3 {
		t.Errorf("rows = %v, want new-0, new-2 and other", rows)
	}
}

func TestQueryLagsBehindWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, strings.Replace(offices, "version: 1", "version: 1\nindexLag: 10s", 1))
		find := func(where string) int {
			t.Helper()
			rows, _ := h.pages(t, "SELECT deviceId FROM devices WHERE "+where)
			return len(rows)
		}
		h.do(t, "PATCH", "/twins/door-001", `{"tags":{"x":1}}`).want(t, 200)
		h.do(t, "PUT", "/devices/new", `{}`).want(t, 200)
		h.do(t, "DELETE", "/devices/door-002", "", "If-Match", "*").want(t, 204)
		same(t, "written, at once", find("tags.x = 1"), 0)
		same(t, "registered, at once", find("deviceId = 'new'"), 0)
		same(t, "deleted, at once", find("deviceId = 'door-002'"), 1)
		same(t, "a read sees it", at(t, h.do(t, "GET", "/twins/door-001", "").doc(t), "tags", "x"), 1.0)
		time.Sleep(6 * time.Second)
		h.do(t, "PATCH", "/twins/door-001", `{"tags":{"x":2}}`).want(t, 200)
		time.Sleep(5 * time.Second)
		same(t, "the first write, after the lag", find("tags.x = 1"), 1)
		same(t, "registered, after the lag", find("deviceId = 'new'"), 1)
		same(t, "deleted, after the lag", find("deviceId = 'door-002'"), 0)
		time.Sleep(6 * time.Second)
		same(t, "the second write, after the lag", find("tags.x = 2"), 1)
		h.do(t, "PATCH", "/twins/door-001", `{"tags":{"x":3}}`).want(t, 200)
		time.Sleep(time.Second)
		h.do(t, "PATCH", "/twins/door-001", `{"tags":{"x":4}}`).want(t, 200)
		same(t, "two writes within the lag", find("tags.x = 2"), 1)
	})
}

func TestEmptyPageFault(t *testing.T) {
	h := newHub(t, offices+`
faults:
  - fault: emptyPage
    calls: 2-3
`)
	rows, sizes := h.pages(t, "SELECT deviceId FROM devices")
	same(t, "page sizes", sizes, []int{100, 0, 0, 100, 51})
	same(t, "rows", len(rows), 251)
}

// Queries that are made to lag further hide nothing that they have shown.
func TestAGrowingLagHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "")
		h.SetIndexLag(time.Second)
		h.do(t, "PUT", "/devices/old", "{}").want(t, 200)
		time.Sleep(time.Minute)
		h.SetIndexLag(time.Hour)
		h.do(t, "PUT", "/devices/new", "{}").want(t, 200)
		rows, _ := h.pages(t, "SELECT deviceId FROM devices")
		same(t, "rows", len(rows), 1)
		h.SetIndexLag(time.Second)
		time.Sleep(2 * time.Second)
		rows, _ = h.pages(t, "SELECT deviceId FROM devices")
		same(t, "rows with less lag", len(rows), 2)
	})
}
