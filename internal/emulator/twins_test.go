package emulator

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFreshTwin(t *testing.T) {
	h := newHub(t, doors)
	a := h.do(t, "GET", "/twins/door-0007", "").want(t, 200)
	doc := a.doc(t)
	same(t, "etag", doc["etag"], "AAAAAAAAAAE=")
	same(t, "ETag header", a.header.Get("ETag"), `"AAAAAAAAAAE="`)
	same(t, "deviceId", doc["deviceId"], "door-0007")
	same(t, "tags", doc["tags"], jsonOf(t, `{"building":43,"floor":1}`))
	same(t, "connectionState", doc["connectionState"], "Connected")
	same(t, "thumbprints", doc["x509Thumbprint"], jsonOf(t, `{"primaryThumbprint":null,"secondaryThumbprint":null}`))
	desired := at(t, doc, "properties", "desired")
	same(t, "$version", at(t, desired, "$version"), 1.0)
	same(t, "value", at(t, desired, "locked"), true)
	same(t, "leaf version", at(t, desired, "$metadata", "locked", "$lastUpdatedVersion"), 1.0)
	if at(t, doc, "properties", "reported", "$metadata", "$lastUpdatedVersion") != nil {
		t.Error("reported metadata has $lastUpdatedVersion; only desired has it")
	}
	for _, never := range []string{"generationId", "connectionStateUpdatedTime", "jobs", "moduleId"} {
		if _, there := doc[never]; there {
			t.Errorf("a twin shows %q", never)
		}
	}
}

func TestPatchMerges(t *testing.T) {
	cases := []struct {
		name, before, patch, after string
	}{
		{"adds", `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{"replaces a leaf", `{"a":1}`, `{"a":"x"}`, `{"a":"x"}`},
		{"merges objects", `{"a":{"b":1,"c":2}}`, `{"a":{"b":3}}`, `{"a":{"b":3,"c":2}}`},
		{"null deletes", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{"null deletes deep", `{"a":{"b":1,"c":2}}`, `{"a":{"b":null}}`, `{"a":{"c":2}}`},
		{"the last child leaves an object", `{"a":{"b":1}}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{"null of what is not there", `{"a":1}`, `{"z":null,"y":{"x":null}}`, `{"a":1,"y":{}}`},
		{"an array is replaced as a whole", `{"a":[1,2,3]}`, `{"a":[4]}`, `{"a":[4]}`},
		{"an object over a leaf", `{"a":1}`, `{"a":{"b":2}}`, `{"a":{"b":2}}`},
		{"a leaf over an object", `{"a":{"b":2}}`, `{"a":1}`, `{"a":1}`},
		{"keys differ by case", `{"a":1}`, `{"A":2}`, `{"a":1,"A":2}`},
		{"an empty patch", `{"a":1}`, `{}`, `{"a":1}`},
		{"escapes", `{"a":"x\"y"}`, `{"b":"\u00e9\n"}`, `{"a":"x\"y","b":"é\n"}`},
		{"the read form is sent back", `{"a":1}`, `{"a":2,"$metadata":{"x":1},"$version":9}`, `{"a":2}`},
	}
	for _, section := range []string{"tags", "desired"} {
		for _, c := range cases {
			t.Run(section+"/"+c.name, func(t *testing.T) {
				h := newHub(t, "")
				h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
				body := func(v string) string {
					if section == "tags" {
						return `{"tags":` + v + `}`
					}
					return `{"properties":{"desired":` + v + `}}`
				}
				h.do(t, "PATCH", "/twins/d", body(c.before)).want(t, 200)
				doc := h.do(t, "PATCH", "/twins/d", body(c.patch)).want(t, 200).doc(t)
				got := at(t, doc, "tags")
				if section == "desired" {
					got = at(t, doc, "properties", "desired")
					same(t, "$version", at(t, got, "$version"), 3.0)
					m, _ := got.(map[string]any)
					delete(m, "$metadata")
					delete(m, "$version")
				}
				same(t, "after", got, jsonOf(t, c.after))
				same(t, "etag", doc["etag"], "AAAAAAAAAAM=")
				same(t, "read back", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "etag"), "AAAAAAAAAAM=")
			})
		}
	}
}

func TestMetadataOfEachLeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "")
		h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
		first := h.Now().UTC()
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"a":{"x":1,"y":2},"b":[{"k":1}],"c":0}}}`).want(t, 200)
		if err := h.Advance(90 * time.Second); err != nil {
			t.Fatal(err)
		}
		h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"a":{"y":3},"c":null}}}`).want(t, 200)
		stamp := func(at time.Time) string { return at.Format("2006-01-02T15:04:05.0000000Z") }
		one := fmt.Sprintf(`"$lastUpdated":%q,"$lastUpdatedVersion":2`, stamp(first))
		two := fmt.Sprintf(`"$lastUpdated":%q,"$lastUpdatedVersion":3`, stamp(first.Add(90*time.Second)))
		want := jsonOf(t, `{`+two+`,"a":{`+two+`,"x":{`+one+`},"y":{`+two+`}},"b":{`+one+`}}`)
		doc := h.do(t, "GET", "/twins/d", "").doc(t)
		same(t, "$metadata", at(t, doc, "properties", "desired", "$metadata"), want)
	})
}

func TestPutReplacesSections(t *testing.T) {
	h := newHub(t, doors)
	doc := h.do(t, "PUT", "/twins/door-0001", `{"tags":{"a":1}}`).want(t, 200).doc(t)
	same(t, "tags", doc["tags"], jsonOf(t, `{"a":1}`))
	same(t, "a section that is not mentioned stays", at(t, doc, "properties", "desired", "locked"), true)
	doc = h.do(t, "PUT", "/twins/door-0001", `{"properties":{"desired":{"b":2}}}`).want(t, 200).doc(t)
	if at(t, doc, "properties", "desired", "locked") != nil {
		t.Error("PUT kept a property that the body does not have")
	}
}

// There is nothing to delete from what is new as a whole.
func TestPutRefusesNulls(t *testing.T) {
	for body, key := range map[string]string{
		`{"tags":{"a":null}}`:                                   "a",
		`{"tags":{"x":1,"a":{"b":{"c":null}}}}`:                 "a.b.c",
		`{"properties":{"desired":{"a":null}}}`:                 "a",
		`{"tags":{},"properties":{"desired":{"a":{"b":null}}}}`: "a.b",
	} {
		h := newHub(t, doors)
		before := h.do(t, "GET", "/twins/door-0001", "").want(t, 200).body
		a := h.do(t, "PUT", "/twins/door-0001", body).refused(t, 400, "ArgumentInvalid")
		if !strings.Contains(a.body, "'"+key+"', which cannot be null") {
			t.Errorf("%s: the text %s does not name %s", body, a.body, key)
		}
		same(t, "twin after "+body, h.do(t, "GET", "/twins/door-0001", "").body, before)
	}
}

func TestIfMatch(t *testing.T) {
	cases := []struct {
		name, header string
		status       int
	}{
		{"none", "", 200},
		{"the right one", `"AAAAAAAAAAE="`, 200},
		{"a stale one", `"AAAAAAAAAAA="`, 412},
		{"any, quoted", `"*"`, 200},
		{"any, bare", `*`, 200},
		{"stale without quotes is ignored", `AAAAAAAAAAA=`, 200},
		{"weak", `W/"AAAAAAAAAAE="`, 200},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, doors)
			headers := []string{"If-Match", c.header}
			if c.header == "" {
				headers = nil
			}
			a := h.do(t, "PATCH", "/twins/door-0002", `{"tags":{"x":1}}`, headers...).want(t, c.status)
			same(t, "accepted patches", h.Executed("door-0002").Patches, map[int]int{200: 1, 412: 0}[c.status])
			if c.status == 412 {
				a.refused(t, 412, "PreconditionFailed")
				if !strings.Contains(a.body, `"Message":"ErrorCode:PreconditionFailed;`) || !strings.Contains(a.body, "Tracking ID:") {
					t.Errorf("body %s is not of the gateway's shape", a.body)
				}
			}
		})
	}
}

func TestTwinLimits(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
	}
	big := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%04d":%q`, i, strings.Repeat("x", 995))
		}
		return "{" + b.String()[1:] + "}"
	}
	cases := []struct {
		name, section, value string
		name2                string // of the error; empty when it is accepted
	}{
		{"depth 10", "desired", `{"a":` + nested(10) + `}`, ""},
		{"depth 11", "desired", `{"a":` + nested(11) + `}`, "ArgumentInvalid"},
		{"arrays at depth 10", "desired", strings.Repeat(`{"a":`, 11) + `[[["x"]]]` + strings.Repeat("}", 11), ""},
		{"an object in an array at depth 11", "desired", strings.Repeat(`{"a":`, 11) + `[{"b":1}]` + strings.Repeat("}", 11), "ArgumentInvalid"},
		{"largest integer", "tags", `{"a":4503599627370495}`, ""},
		{"integer too large", "tags", `{"a":4503599627370496}`, "ArgumentInvalid"},
		{"least integer", "tags", `{"a":-4503599627370496}`, ""},
		{"integer too small", "tags", `{"a":-4503599627370497}`, "ArgumentInvalid"},
		{"integer beyond 64 bits", "tags", `{"a":99999999999999999999}`, "ArgumentInvalid"},
		{"a real number", "tags", `{"a":1.5e300}`, ""},
		{"infinite", "tags", `{"a":1e999}`, "ArgumentInvalid"},
		{"dot in key", "tags", `{"a.b":1}`, "ArgumentInvalid"},
		{"dollar in key", "tags", `{"$a":1}`, "ArgumentInvalid"},
		{"hash in key", "tags", `{"a#":1}`, "ArgumentInvalid"},
		{"space in key", "tags", `{"a b":1}`, "ArgumentInvalid"},
		{"control in key", "tags", `{"a\u0001":1}`, "ArgumentInvalid"},
		{"empty key", "tags", `{"":1}`, "ArgumentInvalid"},
		{"key of 1024 bytes", "tags", `{"` + strings.Repeat("k", 1024) + `":1}`, ""},
		{"key of 1025 bytes", "tags", `{"` + strings.Repeat("k", 1025) + `":1}`, "ArgumentInvalid"},
		{"string of 4096 bytes", "tags", `{"a":"` + strings.Repeat("s", 4096) + `"}`, ""},
		{"string of 4097 bytes", "tags", `{"a":"` + strings.Repeat("s", 4097) + `"}`, "ArgumentInvalid"},
		{"null in array", "tags", `{"a":[1,null]}`, "ArgumentInvalid"},
		{"null in object in array", "tags", `{"a":[{"b":null}]}`, "ArgumentInvalid"},
		{"null deep in array", "tags", `{"a":[[{"b":{"c":null}}]]}`, "ArgumentInvalid"},
		{"tags of 8 KB", "tags", big(8), ""},
		{"tags beyond 8 KB", "tags", big(9), "DeviceModelMaxPropertiesExceeded"},
		{"desired of 32 KB", "desired", big(32), ""},
		{"desired beyond 32 KB", "desired", big(33), "DeviceModelMaxPropertiesExceeded"},
		{"not an object", "tags", `[1]`, "ArgumentInvalid"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, "")
			h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
			body := `{"tags":` + c.value + `}`
			if c.section == "desired" {
				body = `{"properties":{"desired":` + c.value + `}}`
			}
			a := h.do(t, "PATCH", "/twins/d", body)
			if c.name2 == "" {
				a.want(t, 200)
				return
			}
			status := 400
			if c.name2 == "DeviceModelMaxPropertiesExceeded" {
				status = 403
			}
			a.refused(t, status, c.name2)
			if !strings.Contains(a.body, "'"+map[string]string{"tags": "tags", "desired": "properties.desired"}[c.section]+"'") {
				t.Errorf("the text %s does not name the section", a.body)
			}
			same(t, "etag afterwards", at(t, h.do(t, "GET", "/twins/d", "").doc(t), "etag"), "AAAAAAAAAAE=")
		})
	}
}

func TestTwinThatShrinksIsAccepted(t *testing.T) {
	big := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%04d":%q`, i, strings.Repeat("x", 995))
		}
		return "{" + b.String()[1:] + "}"
	}
	// The fleet file may describe a twin that is larger than the hub takes.
	h := newHub(t, "version: 1\ndevices:\n  - id: d\n    tags: "+big(8)+"\n")
	h.do(t, "PATCH", "/twins/d", `{"tags":{"more":"`+strings.Repeat("x", 300)+`"}}`).refused(t, 403, "DeviceModelMaxPropertiesExceeded")
	h.do(t, "PATCH", "/twins/d", `{"tags":{"k0000":null}}`).want(t, 200)
}

func TestTwinRefusals(t *testing.T) {
	cases := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"unknown device", "GET", "/twins/nobody", "", 404, "DeviceNotFound"},
		{"unknown device, written", "PATCH", "/twins/nobody", `{"tags":{}}`, 404, "DeviceNotFound"},
		{"unknown module", "GET", "/twins/door-0001/modules/m", "", 404, "ModuleNotFound"},
		{"no JSON", "PATCH", "/twins/door-0001", `{"tags":`, 400, "IotHubFormatError"},
		{"not an object", "PATCH", "/twins/door-0001", `[]`, 400, "IotHubFormatError"},
		{"broken UTF-8", "PATCH", "/twins/door-0001", "{\"tags\":{\"a\":\"\xff\"}}", 400, "IotHubFormatError"},
		{"nested too deep to read", "PATCH", "/twins/door-0001", `{"tags":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, 400, "IotHubFormatError"},
		{"properties that are a number", "PATCH", "/twins/door-0001", `{"properties":5}`, 400, "ArgumentInvalid"},
		{"properties that are a list", "PUT", "/twins/door-0001", `{"tags":{},"properties":[{"desired":{}}]}`, 400, "ArgumentInvalid"},
		{"desired at the top", "PATCH", "/twins/door-0001", `{"desired":{"a":1}}`, 400, "ArgumentInvalid"},
		{"arrays before they were allowed", "PATCH", "/twins/door-0001?api-version=2018-06-30", `{"tags":{"a":[1]}}`, 400, "ArgumentInvalid"},
		{"unknown api-version", "GET", "/twins/door-0001?api-version=1999-01-01", "", 400, "InvalidProtocolVersion"},
		{"too large", "PATCH", "/twins/door-0001", `{"tags":{"a":"` + strings.Repeat("x", maxTwinBody) + `"}}`, 413, "MessageTooLarge"},
	}
	h := newHub(t, doors)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h.do(t, c.method, c.path, c.body).refused(t, c.status, c.code)
		})
	}
	same(t, "accepted patches", h.Executed("door-0001").Patches, 0)
}

func TestReadOnlyFieldsAreIgnored(t *testing.T) {
	h := newHub(t, doors)
	whole := h.do(t, "GET", "/twins/door-0003", "").body
	doc := h.do(t, "PATCH", "/twins/door-0003", whole).want(t, 200).doc(t)
	same(t, "reported", at(t, doc, "properties", "reported", "$version"), 2.0)
	same(t, "tags", doc["tags"], jsonOf(t, `{"building":43,"floor":1}`))
}

func TestModuleTwin(t *testing.T) {
	h := newHub(t, doors)
	h.do(t, "PUT", "/devices/door-0005/modules/valve", `{"managedBy":"me"}`).want(t, 200)
	doc := h.do(t, "PATCH", "/twins/door-0005/modules/valve", `{"properties":{"desired":{"open":true}}}`).want(t, 200).doc(t)
	same(t, "moduleId", doc["moduleId"], "valve")
	same(t, "deviceId", doc["deviceId"], "door-0005")
	same(t, "desired", at(t, doc, "properties", "desired", "open"), true)
	same(t, "the device's own twin", at(t, h.do(t, "GET", "/twins/door-0005", "").doc(t), "etag"), "AAAAAAAAAAE=")
}
