package hubclient

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
)

func TestDecodePage(t *testing.T) {
	tests := []struct {
		name string
		body string
		want []hub.Row
		err  string // part of the message; "" for none
	}{
		{name: "no rows", body: ` [ ] `},
		{
			name: "any letter case", body: `[{"DEVICEID":"d","moduleid":"m","eTag":"e","Tags":{},"Desired":{"a":1}}]`,
			want: []hub.Row{{Target: hub.Target{DeviceID: "d", ModuleID: "m"}, ETag: "e", Tags: []byte(`{}`), Desired: []byte(`{"a":1}`)}},
		},
		{
			name: "escaped ids and keys", body: `[{"device\u0049d":"d\u00e9\"\\","x":{"deviceId":"inner"}}]`,
			want: []hub.Row{{Target: hub.Target{DeviceID: `dé"\`}}},
		},
		{
			name: "sections kept as sent", body: `[{"deviceId":"d","tags":{"n" : 12345678901234567890, "f":1.50}}]`,
			want: []hub.Row{{Target: hub.Target{DeviceID: "d"}, Tags: []byte(`{"n" : 12345678901234567890, "f":1.50}`)}},
		},
		{
			name: "when it was heard of", body: `[{"deviceId":"d","lastActivityTime":"2026-12-01T02:00:00.5Z"},{"deviceId":"e","lastActivityTime":"2026-12-01T02:00:00"},{"deviceId":"f","lastActivityTime":"0001-01-01T00:00:00"},{"deviceId":"g","lastActivityTime":null}]`,
			want: []hub.Row{
				{Target: hub.Target{DeviceID: "d"}, Seen: time.Date(2026, 12, 1, 2, 0, 0, 5e8, time.UTC)},
				{Target: hub.Target{DeviceID: "e"}, Seen: time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)},
				{Target: hub.Target{DeviceID: "f"}},
				{Target: hub.Target{DeviceID: "g"}},
			},
		},
		{
			name: "sections that are none", body: `[{"deviceId":"d","tags":null,"desired":"text"}]`,
			want: []hub.Row{{Target: hub.Target{DeviceID: "d"}}},
		},
		{name: "object", body: `{"items":[]}`, err: "not an array"},
		{name: "null", body: `null`, err: "not an array"},
		{name: "garbage", body: `[{"deviceId":"d"}`, err: "not JSON"},
		{name: "empty", body: ``, err: "not JSON"},
		{name: "row without an id", body: `[{"deviceId":"d"},{"id":"e"}]`, err: "row 2: no deviceId"},
		{name: "row with a null id", body: `[{"deviceId":null}]`, err: "row 1: no deviceId"},
		{name: "row that is no object", body: `[{"deviceId":"d"},"e"]`, err: "row 2: not an object"},
		{name: "too deep", body: strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), err: "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodePage([]byte(tt.body))
			checkError(t, err, tt.err)
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeTwin(t *testing.T) {
	decodeHead := func(body []byte) (hub.Twin, error) { return scanTwin(body, false) }
	full := `{"deviceId":"d","etag":"AAAAAAAAAAc=","deviceEtag":"other","version":6,"tags":{"etag":"not this"},
		"properties":{"desired":{"floor":3,"$version":2},"reported":{"big":98765432109876543210}}}`
	sections := hub.Twin{
		ETag: "AAAAAAAAAAc=", Version: 6, Tags: []byte(`{"etag":"not this"}`),
		Desired: []byte(`{"floor":3,"$version":2}`), Reported: []byte(`{"big":98765432109876543210}`),
	}
	tests := []struct {
		name   string
		decode func([]byte) (hub.Twin, error)
		body   string
		want   hub.Twin
		err    string
	}{
		{name: "whole", decode: decodeTwin, body: full, want: sections},
		{name: "head", decode: decodeHead, body: full, want: hub.Twin{ETag: "AAAAAAAAAAc=", Version: 6}},
		{name: "no sections", decode: decodeTwin, body: `{"etag":"e","version":1}`, want: hub.Twin{ETag: "e", Version: 1}},
		{name: "no etag", decode: decodeTwin, body: `{"version":1}`, err: "no etag"},
		{name: "etag of another type", decode: decodeHead, body: `{"etag":7}`, err: "no etag"},
		{name: "array", decode: decodeTwin, body: `[]`, err: "not an object"},
		{name: "garbage", decode: decodeHead, body: `{"etag":"e"`, err: "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.decode([]byte(tt.body))
			checkError(t, err, tt.err)
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("twin (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeAnswer(t *testing.T) {
	tests := []struct {
		name string
		body string
		want hub.Answer
		err  string
	}{
		{name: "object", body: `{"status":200,"payload":{"Response": "ok"}}`, want: hub.Answer{Status: 200, Payload: []byte(`{"Response": "ok"}`)}},
		{name: "array", body: `{"payload":[1,[2]],"status":0}`, want: hub.Answer{Payload: []byte(`[1,[2]]`)}},
		{name: "string", body: `{"status":404,"payload":"a\"b"}`, want: hub.Answer{Status: 404, Payload: []byte(`"a\"b"`)}},
		{name: "integer, digit by digit", body: `{"status":1,"payload":123456789012345678901234567890}`, want: hub.Answer{Status: 1, Payload: []byte(`123456789012345678901234567890`)}},
		{name: "fraction, digit by digit", body: `{"status":1,"payload":-1.50e+10}`, want: hub.Answer{Status: 1, Payload: []byte(`-1.50e+10`)}},
		{name: "boolean", body: `{"status":1,"payload":false}`, want: hub.Answer{Status: 1, Payload: []byte(`false`)}},
		{name: "null", body: `{"status":1,"payload":null}`, want: hub.Answer{Status: 1, Payload: []byte(`null`)}},
		{name: "no payload", body: `{"status":-5}`, want: hub.Answer{Status: -5, Payload: []byte(`null`)}},
		{name: "a payload that looks like an answer", body: `{"payload":{"status":500},"status":200}`, want: hub.Answer{Status: 200, Payload: []byte(`{"status":500}`)}},
		{name: "no status", body: `{"payload":{"status":200}}`, err: "no integer status"},
		{name: "status as text", body: `{"status":"200"}`, err: "no integer status"},
		{name: "status as a fraction", body: `{"status":200.0}`, err: "no integer status"},
		{name: "status null", body: `{"status":null}`, err: "no integer status"},
		{name: "status too large", body: `{"status":98765432109876543210}`, err: "no integer status"},
		{name: "array for an answer", body: `[200]`, err: "no integer status"},
		{name: "number for an answer", body: `200`, err: "no integer status"},
		{name: "garbage", body: `{"status":200,}`, err: "not JSON"},
		{name: "nothing", body: ``, err: "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeAnswer([]byte(tt.body))
			checkError(t, err, tt.err)
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// checkError fails unless err says want, or is nil when want is empty.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error = %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error = %v, want one with %q", err, want)
	}
}

// FuzzPage holds the page decoder to the standard library's reading of the
// same bytes: what one takes for an array of objects with ids, so does the other.
func FuzzPage(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"deviceId":"a"}]`, `[{"DeviceId":"a","tags":{"x":[1]},"desired":{}},{"deviceid":"b"}]`,
		`{}`, `[{}]`, `[1]`, `null`, `[{"deviceId":"a",}]`, "[{\"deviceId\":\"\xff\"}]", `[{"deviceId":"\ud800"}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		rows, err := decodePage(body)
		if err != nil {
			return
		}
		var items []json.RawMessage
		if err := json.Unmarshal(body, &items); err != nil {
			t.Fatalf("decodePage(%q) = %d rows, but it is no array: %v", body, len(rows), err)
		}
		if len(items) != len(rows) {
			t.Fatalf("decodePage(%q) = %d rows, want %d", body, len(rows), len(items))
		}
		for i, row := range rows {
			if row.DeviceID == "" {
				t.Errorf("row %d of %q has no id", i, body)
			}
			for _, section := range []json.RawMessage{row.Tags, row.Desired} {
				if section != nil && (!json.Valid(section) || !bytes.Contains(body, section)) {
					t.Errorf("row %d of %q: section %q is not as sent", i, body, section)
				}
			}
		}
	})
}

// FuzzAnswer makes sure that an answer that is taken has a status and a payload
// exactly as sent.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"status":200,"payload":{}}`, `{"status":200}`, `{"payload":[1]}`, `{"status":2e2}`, `{"status":"1"}`,
		`[]`, `1`, ``, `{"status":1,"payload":1.0}`, `{"st\u0061tus":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeAnswer(body)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("decodeAnswer(%q) = %+v, but it is not JSON", body, got)
		}
		if !json.Valid(got.Payload) {
			t.Fatalf("decodeAnswer(%q): payload %q is not JSON", body, got.Payload)
		}
		if string(got.Payload) != "null" && !bytes.Contains(body, got.Payload) {
			t.Fatalf("decodeAnswer(%q): payload %q is not as sent", body, got.Payload)
		}
	})
}
