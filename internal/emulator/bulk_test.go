package emulator

import (
	"strings"
	"testing"
)

func TestBulk(t *testing.T) {
	h := newHub(t, doors)
	post := func(body string) answer { t.Helper(); return h.do(t, "POST", "/devices", body) }
	same(t, "all well", post(`[{"id":"n1","importMode":"create","tags":{"a":1},"properties":{"desired":{"b":2}}},{"id":"n2","importMode":"CREATE"}]`).want(t, 200).body,
		`{"isSuccessful":true,"errors":[],"warnings":[]}`)
	doc := h.do(t, "GET", "/twins/n1", "").want(t, 200).doc(t)
	same(t, "tags", doc["tags"], jsonOf(t, `{"a":1}`))
	same(t, "desired", at(t, doc, "properties", "desired", "b"), 2.0)

	a := post(`[{"id":"n1","importMode":"create"},{"id":"n3","importMode":"create"},{"id":"zz","importMode":"delete"},
		{"id":"n2","importMode":"updateTwin","tags":{"t":1}},{"id":"door-0001","importMode":"updateTwinIfMatchETag","twinETag":"x","tags":{}},
		{"id":"door-0002","importMode":"explode"},{"id":"door-0003","importMode":"deleteIfMatchETag","eTag":"x"},
		{"id":"door-0004","importMode":"update","status":"disabled"},{"id":"door-0005","importMode":"delete"}]`).want(t, 400)
	doc = a.doc(t)
	same(t, "isSuccessful", doc["isSuccessful"], false)
	got := map[any]any{}
	list, _ := doc["errors"].([]any)
	for _, e := range list {
		got[at(t, e, "deviceId")] = errorName(at(t, e, "errorCode"))
	}
	same(t, "errors", got, map[any]any{
		"n1": "DeviceAlreadyExists", "zz": "DeviceNotFound", "door-0001": "PreconditionFailed",
		"door-0002": "ArgumentInvalid", "door-0003": "PreconditionFailed",
	})
	h.do(t, "GET", "/devices/n3", "").want(t, 200)
	h.do(t, "GET", "/devices/door-0005", "").want(t, 404)
	same(t, "status", h.do(t, "GET", "/devices/door-0004", "").doc(t)["status"], "disabled")
	same(t, "tags", h.do(t, "GET", "/twins/n2", "").doc(t)["tags"], jsonOf(t, `{"t":1}`))

	post(`[{"id":"a"},{"id":"a"}]`).refused(t, 400, "DeviceDefinedMultipleTimes")
	post(`{"id":"a"}`).refused(t, 400, "IotHubFormatError")
	items := strings.Repeat(`{"id":"x","importMode":"create"},`, 101)
	post("["+items[:len(items)-1]+"]").refused(t, 413, "TooManyDevices")
	post(`[{"id":"n1","moduleId":"m","importMode":"create","tags":{"x":1}}]`).want(t, 200)
	same(t, "module's tags", h.do(t, "GET", "/twins/n1/modules/m", "").want(t, 200).doc(t)["tags"], jsonOf(t, `{"x":1}`))
	post(`[{"id":"n1","importMode":"createOrUpdate","status":"disabled"}]`).want(t, 200)
	post(`[{"id":"n9","importMode":"createOrUpdate"}]`).want(t, 200)
	post(`[{"id":"n1","moduleId":"m","importMode":"delete"}]`).want(t, 200)
	h.do(t, "GET", "/devices/n1/modules/m", "").want(t, 404)
}

// TestImportModes checks each mode on a device that is there and on one that
// is not.
func TestImportModes(t *testing.T) {
	cases := []struct {
		mode, more     string
		known, unknown string // the error, empty for success
	}{
		{"create", "", "DeviceAlreadyExists", ""},
		{"update", `,"status":"disabled"`, "", "DeviceNotFound"},
		{"updateIfMatchETag", `,"eTag":"stale"`, "PreconditionFailed", "DeviceNotFound"},
		{"createOrUpdate", "", "", ""},
		{"createOrUpdateIfMatchETag", `,"eTag":"stale"`, "PreconditionFailed", ""},
		{"delete", "", "", "DeviceNotFound"},
		{"deleteIfMatchETag", `,"eTag":"stale"`, "PreconditionFailed", "DeviceNotFound"},
		{"updateTwin", `,"properties":{"desired":{"a":1}}`, "", "DeviceNotFound"},
		{"updateTwinIfMatchETag", `,"twinETag":"AAAAAAAAAAE="`, "", "DeviceNotFound"},
		{"updateTwin", `,"tags":{"a.b":1}`, "ArgumentInvalid", "ArgumentInvalid"},
		{"create", `,"status":"off"`, "DeviceAlreadyExists ArgumentInvalid", "ArgumentInvalid"},
	}
	for _, c := range cases {
		t.Run(c.mode+c.more, func(t *testing.T) {
			for id, want := range map[string]string{"door-0001": c.known, "new": c.unknown} {
				h := newHub(t, doors)
				a := h.do(t, "POST", "/devices", `[{"id":"`+id+`","importMode":"`+c.mode+`"`+c.more+`}]`)
				if want == "" {
					a.want(t, 200)
					continue
				}
				list, _ := a.want(t, 400).doc(t)["errors"].([]any)
				if code := errorName(at(t, list[0], "errorCode")); !strings.Contains(want, code) {
					t.Errorf("%s: refused with %s, want %s", id, code, want)
				}
			}
			// The same for a module: whether it is there decides.
			h := newHub(t, doors)
			h.do(t, "PUT", "/devices/door-0001/modules/m", "{}").want(t, 200)
			status := 200
			if c.known != "" {
				status = 400
			}
			h.do(t, "POST", "/devices", `[{"id":"door-0001","moduleId":"m","importMode":"`+c.mode+`"`+strings.ReplaceAll(c.more, `,"status":"off"`, "")+`}]`).want(t, status)
		})
	}
}

// errorName gives the number of a bulk error the name that the tests know it by.
func errorName(number any) string {
	names := map[float64]string{
		400004: "ArgumentInvalid", 400005: "ArgumentNull", 404001: "DeviceNotFound", 404010: "ModuleNotFound",
		409001: "DeviceAlreadyExists", 409301: "ModuleAlreadyExistsOnDevice", 412001: "PreconditionFailed",
	}
	n, _ := number.(float64)
	if name, ok := names[n]; ok {
		return name
	}
	return "no error that a bulk call has"
}
