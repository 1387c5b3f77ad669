package emulator

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator/twindoc"
)

func TestCreateDevice(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	cases := []struct {
		name, body   string
		kind, status string
		primary      string // "made" for a generated key, empty for none
	}{
		{"nothing said", `{}`, "sas", "enabled", "made"},
		{"id in the body", `{"deviceId":"new"}`, "sas", "enabled", "made"},
		{"empty keys", `{"deviceId":"new","authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}}`, "sas", "enabled", "made"},
		{"empty symmetricKey", `{"authentication":{"symmetricKey":{}}}`, "sas", "enabled", "made"},
		{"null keys", `{"authentication":{"symmetricKey":{"primaryKey":null,"secondaryKey":null}}}`, "sas", "enabled", "made"},
		{"own key", `{"authentication":{"symmetricKey":{"primaryKey":"` + key + `","secondaryKey":"` + key + `"}}}`, "sas", "enabled", key},
		{"disabled", `{"status":"disabled","statusReason":"lost"}`, "sas", "disabled", "made"},
		{"by thumbprint", `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + strings.Repeat("A", 40) + `","secondaryThumbprint":"` + strings.Repeat("B", 40) + `"}}}`, "selfSigned", "enabled", ""},
		{"by authority", `{"authentication":{"type":"certificateAuthority"}}`, "certificateAuthority", "enabled", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, "")
			doc := h.do(t, "PUT", "/devices/new", c.body).want(t, 200).doc(t)
			same(t, "deviceId", doc["deviceId"], "new")
			same(t, "status", doc["status"], c.status)
			same(t, "type", at(t, doc, "authentication", "type"), c.kind)
			primary, _ := at(t, doc, "authentication", "symmetricKey", "primaryKey").(string)
			if raw, err := base64.StdEncoding.DecodeString(primary); c.primary == "made" && (err != nil || len(raw) != 32) {
				t.Errorf("primaryKey %q is not base64 of 32 bytes", primary)
			} else if c.primary != "made" {
				same(t, "primaryKey", primary, c.primary)
			}
			if diff := cmp.Diff(doc, h.do(t, "GET", "/devices/new", "").want(t, 200).doc(t)); diff != "" {
				t.Errorf("read back (-created +read):\n%s", diff)
			}
			same(t, "twin", at(t, h.do(t, "GET", "/twins/new", "").want(t, 200).doc(t), "etag"), "AAAAAAAAAAE=")
			same(t, "Devices", h.Devices(), 1)
		})
	}
}

func TestRegistryRefusals(t *testing.T) {
	h := newHub(t, doors)
	cases := []struct {
		name, method, path, body, match string
		status                          int
		code                            string
	}{
		{"exists", "PUT", "/devices/door-0001", `{}`, "", 409, "DeviceAlreadyExists"},
		{"update of nobody", "PUT", "/devices/nobody", `{}`, `"*"`, 404, "DeviceNotFound"},
		{"stale", "PUT", "/devices/door-0001", `{}`, `"x"`, 412, "PreconditionFailed"},
		{"another id in the body", "PUT", "/devices/a", `{"deviceId":"b"}`, "", 400, "ArgumentInvalid"},
		{"bad id", "PUT", "/devices/a%20b", `{}`, "", 400, "ArgumentInvalid"},
		{"id too long", "PUT", "/devices/" + strings.Repeat("a", 129), `{}`, "", 400, "ArgumentInvalid"},
		{"bad status", "PUT", "/devices/a", `{"status":"off"}`, "", 400, "ArgumentInvalid"},
		{"bad key", "PUT", "/devices/a", `{"authentication":{"symmetricKey":{"primaryKey":"!"}}}`, "", 400, "ArgumentInvalid"},
		{"short key", "PUT", "/devices/a", `{"authentication":{"symmetricKey":{"primaryKey":"AAAA"}}}`, "", 400, "ArgumentInvalid"},
		{"bad thumbprint", "PUT", "/devices/a", `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"xyz"}}}`, "", 400, "ArgumentInvalid"},
		{"bad type", "PUT", "/devices/a", `{"authentication":{"type":"password"}}`, "", 400, "ArgumentInvalid"},
		{"long reason", "PUT", "/devices/a", `{"statusReason":"` + strings.Repeat("é", 129) + `"}`, "", 400, "ArgumentInvalid"},
		{"status is a number", "PUT", "/devices/a", `{"status":1}`, "", 400, "IotHubFormatError"},
		{"get nobody", "GET", "/devices/nobody", "", "", 404, "DeviceNotFound"},
		{"delete nobody", "DELETE", "/devices/nobody", "", "*", 404, "DeviceNotFound"},
		{"delete stale", "DELETE", "/devices/door-0001", "", `"x"`, 412, "PreconditionFailed"},
		{"purge nobody", "DELETE", "/devices/nobody/commands", "", "", 404, "DeviceNotFound"},
		{"module of nobody", "PUT", "/devices/nobody/modules/m", "{}", "", 404, "DeviceNotFound"},
		{"module not there", "GET", "/devices/door-0001/modules/m", "", "", 404, "ModuleNotFound"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if c.match != "" {
				headers = []string{"If-Match", c.match}
			}
			h.do(t, c.method, c.path, c.body, headers...).refused(t, c.status, c.code)
		})
	}
	same(t, "Devices", h.Devices(), 300)
}

func TestUpdateDevice(t *testing.T) {
	h := newHub(t, doors)
	before := h.do(t, "GET", "/devices/door-0009", "").want(t, 200)
	etag, _ := before.doc(t)["etag"].(string)
	after := h.do(t, "PUT", "/devices/door-0009", `{"status":"disabled"}`, "If-Match", `"`+etag+`"`).want(t, 200).doc(t)
	same(t, "status", after["status"], "disabled")
	same(t, "state", after["connectionState"], "Disconnected")
	same(t, "keys", at(t, after, "authentication"), at(t, before.doc(t), "authentication"))
	same(t, "generation", after["generationId"], before.doc(t)["generationId"])
	if after["etag"] == etag {
		t.Error("the etag did not change")
	}
	if after["statusUpdatedTime"] == twindoc.NeverTime {
		t.Error("statusUpdatedTime was not set")
	}
	h.do(t, "PUT", "/devices/door-0009", `{}`, "If-Match", `"`+etag+`"`).refused(t, 412, "PreconditionFailed")
	same(t, "statistics", h.do(t, "GET", "/statistics/devices", "").body, `{"totalDeviceCount":300,"enabledDeviceCount":299,"disabledDeviceCount":1}`)
	same(t, "connected", h.do(t, "GET", "/statistics/service", "").body, `{"connectedDeviceCount":299}`)
}

func TestDeleteAndRegisterAgain(t *testing.T) {
	for _, id := range []string{"door-0010", "added"} {
		t.Run(id, func(t *testing.T) {
			h := newHub(t, doors)
			if id == "added" {
				h.do(t, "PUT", "/devices/added", "{}").want(t, 200)
			}
			first := h.do(t, "GET", "/devices/"+id, "").want(t, 200).doc(t)
			n := h.Devices()
			h.do(t, "DELETE", "/devices/"+id, "", "If-Match", "*").want(t, 204)
			same(t, "Devices", h.Devices(), n-1)
			h.do(t, "GET", "/devices/"+id, "").want(t, 404)
			h.do(t, "GET", "/twins/"+id, "").want(t, 404)
			h.do(t, "POST", "/twins/"+id+"/methods", `{"methodName":"x"}`).want(t, 404)
			second := h.do(t, "PUT", "/devices/"+id, "{}").want(t, 200).doc(t)
			same(t, "Devices", h.Devices(), n)
			if first["generationId"] == second["generationId"] {
				t.Error("the new device has the old one's generation")
			}
			if cmp.Equal(first["authentication"], second["authentication"]) {
				t.Error("the new device has the old one's keys")
			}
			if tags, ok := h.do(t, "GET", "/twins/"+id, "").doc(t)["tags"]; ok {
				t.Errorf("the new device has tags %v", tags)
			}
		})
	}
}

func TestListDevices(t *testing.T) {
	h := newHub(t, strings.Replace(doors, "count: 300", "count: 1500", 1))
	for _, c := range []struct {
		path string
		want int
	}{
		{"/devices", 1000},
		{"/devices/", 1000},
		{"/devices?top=3", 3},
		{"/devices/?top=3", 3},
		{"/devices?top=1000", 1000},
		{"/devices?top=0", 1000},
		{"/devices?top=1001", 1000},
		{"/devices?top=-1", 1000},
		{"/devices?top=x", 1000},
	} {
		if got := len(h.do(t, "GET", c.path, "").want(t, 200).rows(t)); got != c.want {
			t.Errorf("GET %s lists %d devices, want %d", c.path, got, c.want)
		}
	}
}

func TestModules(t *testing.T) {
	h := newHub(t, doors)
	doc := h.do(t, "PUT", "/devices/door-0001/modules/b", `{"managedBy":"IotEdge"}`).want(t, 200).doc(t)
	same(t, "managedBy", doc["managedBy"], "IotEdge")
	if _, there := doc["status"]; there {
		t.Error("a module shows a status")
	}
	h.do(t, "PUT", "/devices/door-0001/modules/b", `{}`).refused(t, 409, "ModuleAlreadyExistsOnDevice")
	h.do(t, "PUT", "/devices/door-0001/modules/b", `{}`, "If-Match", "*").want(t, 200)
	h.do(t, "PUT", "/devices/door-0001/modules/a", `{}`).want(t, 200)
	var ids []any
	for _, m := range h.do(t, "GET", "/devices/door-0001/modules", "").want(t, 200).rows(t) {
		ids = append(ids, m["moduleId"])
	}
	same(t, "modules", ids, []any{"a", "b"})
	for i := range maxModules - 2 {
		h.do(t, "PUT", fmt.Sprintf("/devices/door-0001/modules/m%d", i), `{}`).want(t, 200)
	}
	h.do(t, "PUT", "/devices/door-0001/modules/more", `{}`).refused(t, 413, "TooManyModulesOnDevice")
	h.do(t, "DELETE", "/devices/door-0001/modules/b", "", "If-Match", `"stale"`).refused(t, 412, "PreconditionFailed")
	h.do(t, "DELETE", "/devices/door-0001/modules/b", "", "If-Match", "*").want(t, 204)
	h.do(t, "GET", "/devices/door-0001/modules/b", "").refused(t, 404, "ModuleNotFound")
	same(t, "of another device", h.do(t, "GET", "/devices/door-0002/modules", "").body, "[]")
}

func TestChangeOfAuthentication(t *testing.T) {
	h := newHub(t, "")
	print40 := strings.Repeat("A", 40)
	first := h.do(t, "PUT", "/devices/d", "{}").want(t, 200).doc(t)
	doc := h.do(t, "PUT", "/devices/d", `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"`+print40+`"}}}`, "If-Match", "*").want(t, 200).doc(t)
	same(t, "thumbprints", at(t, doc, "authentication", "x509Thumbprint"), jsonOf(t, `{"primaryThumbprint":"`+print40+`","secondaryThumbprint":null}`))
	same(t, "keys of a device with thumbprints", at(t, doc, "authentication", "symmetricKey"), jsonOf(t, `{"primaryKey":null,"secondaryKey":null}`))
	same(t, "in the twin", h.do(t, "GET", "/twins/d", "").doc(t)["x509Thumbprint"], at(t, doc, "authentication", "x509Thumbprint"))
	doc = h.do(t, "PUT", "/devices/d", `{"authentication":{"type":"sas"}}`, "If-Match", "*").want(t, 200).doc(t)
	same(t, "back to keys", at(t, doc, "authentication"), at(t, first, "authentication"))
}
