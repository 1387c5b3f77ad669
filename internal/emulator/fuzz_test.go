package emulator

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/twindoc"
)

// FuzzTwinPatch writes two patches to a twin, in the way REST bodies come in:
// what is accepted must stay within the limits, read back as JSON, and keep
// one stamp a node.
func FuzzTwinPatch(f *testing.F) {
	f.Add([]byte(`{"properties":{"desired":{"a":{"b":1}},"$version":3},"tags":{"x":[1,{"y":2}]}}`), []byte(`{"properties":{"desired":{"a":null}}}`), false)
	f.Add([]byte(`{"tags":{"a":1,"a":{"b":null},"\u0061":2}}`), []byte(`{"tags":{"a":{"c":"\ud83d\ude00"}}}`), true)
	f.Add([]byte(`{"tags":null,"properties":null}`), []byte(`{"properties":{"desired":null}}`), true)
	f.Add([]byte(`{"tags":{"k":1e5,"z":-0,"e":""}}`), []byte(`{"TAGS":{"K":true}}`), false)
	f.Fuzz(func(t *testing.T, first, second []byte, replace bool) {
		tw := twindoc.Newborn(time.Unix(1, 0))
		for i, body := range [][]byte{first, second} {
			if !core.ValidJSON(body) || core.FirstByte(body) != '{' {
				continue
			}
			w, refusal := twindoc.ParseWrite(body, true)
			if refusal != nil {
				continue
			}
			w.Tags.Replace, w.Desired.Replace = replace, replace
			next, refusal := w.Apply(tw, tw, time.Unix(int64(i)+2, 0))
			if refusal != nil {
				continue
			}
			checkSection(t, "tags", next.Tags, twindoc.MaxTagsSize)
			checkSection(t, "desired", next.Desired, twindoc.MaxPropsSize)
			if w.Desired.Doc != nil && !json.Valid(w.Desired.Doc.AppendPatch(nil)) {
				t.Fatalf("the device is told %s", w.Desired.Doc.AppendPatch(nil))
			}
			tw = next
		}
	})
}

func checkSection(t *testing.T, name string, s twindoc.Section, limit int) {
	t.Helper()
	if s.Raw == "" {
		return // nobody has written to it
	}
	full := s.AppendFull(nil, twindoc.OfDesired)
	if !json.Valid(full) {
		t.Fatalf("%s reads back as %s", name, full)
	}
	if size := twindoc.SectionSize(s.Raw); size > limit {
		t.Fatalf("%s has %d bytes", name, size)
	}
	again := s.Tree()
	if kept := again.Section(s.Version); kept.Raw != s.Raw {
		t.Fatalf("%s is %s and reads back as %s", name, s.Raw, kept.Raw)
	}
	if n := countNodes(gjson.Parse(s.Raw)); len(s.Stamps) > 1 && len(s.Stamps) != n {
		t.Fatalf("%s has %d stamps for %d nodes: %s", name, len(s.Stamps), n, s.Raw)
	}
}

func countNodes(v gjson.Result) int {
	n := 1
	if v.IsObject() {
		v.ForEach(func(_, kid gjson.Result) bool {
			n += countNodes(kid)
			return true
		})
	}
	return n
}

// FuzzRequest sends any body to any operation: the hub always answers, with
// JSON or nothing, and never with a failure of its own.
func FuzzRequest(f *testing.F) {
	seeds := []struct{ method, path, body string }{
		{"PATCH", "/twins/ok", `{"tags":{"a":1}}`},
		{"POST", "/twins/ok/methods", `{"methodName":"lockDoor","payload":[null,{"a":"b"}]}`},
		{"PUT", "/devices/x", `{"deviceId":"x","authentication":{"symmetricKey":{"primaryKey":""}}}`},
		{"POST", "/devices", `[{"id":"a","importMode":"create","tags":{"a":1}}]`},
		{"POST", "/devices/query", `{"query":"SELECT * FROM devices WHERE tags.a = 1"}`},
		{"PUT", "/jobs/v2/j", `{"jobId":"j","type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"a":1}},"queryCondition":"*"}`},
		{"PUT", "/devices/ok/modules/m", `{"managedBy":null}`},
		{"GET", "/twins/%zz", ``},
	}
	for _, s := range seeds {
		f.Add(s.method, s.path, []byte(s.body))
	}
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		h := newHub(t, "version: 1\ndevices:\n  - id: ok\n")
		a, ok := h.try(t, method, path, body)
		if !ok {
			return // no HTTP server would hand such a request on
		}
		if a.status == 500 {
			t.Fatalf("%s %q with %q failed: %s", method, path, body, a.body)
		}
		if a.body != "" && !json.Valid([]byte(a.body)) {
			t.Fatalf("%s %q with %q answered %d %q", method, path, body, a.status, a.body)
		}
	})
}
