package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/journal"
)

// TestDrawing freezes how each record is written: journals outlive builds.
func TestDrawing(t *testing.T) {
	want := []string{
		`{"t":"run","journal":1,"run":"20261122T231500Z-3f2a9c","plan":"lock-building-43","file":"plans/lock.yaml","sha256":"9f86d081","runner":"0.1.0","hubs":["contoso.azure-devices.net","localhost:8443"],"jobs":{"lock":"c5e6eec4","move":"d131dd02"},"vars":{"building":"43"},"files":{"doors.txt":"0e99be55"},"pinned":"ad340609","at":"2026-11-22T23:15:00.000000Z"`,
		`{"t":"mark","event":"started","job":"move","at":"2026-11-22T23:15:00.000001Z"`,
		`{"t":"targets","job":"move","ids":["door-1","door-2",1,["gateway","edge"]]`,
		`{"t":"mark","event":"listed","job":"move","at":"2026-11-22T23:15:00.000002Z","detail":"3 \"targets\""`,
		`{"t":"intent","job":"move","device":"door-1","attempt":1,"at":"2026-11-22T23:15:00.000003Z","etag":"AAAAAAAAAAE=","version":7,"before":{"desired":{"patch":"},{","floor":2}},"patch":{"desired":{"floor":3}}`,
		`{"t":"result","job":"move","device":"door-1","row":{"deviceId":"door-1","outcome":"succeeded"}`,
		`{"t":"intent","job":"lock","hub":1,"device":"gateway","module":"edge","attempt":12,"at":"2026-11-22T23:15:00.000004Z"`,
		`{"t":"mark","event":"resumed","at":"2026-11-22T23:15:00.000005Z"`,
		`{"t":"result","job":"lock","hub":1,"device":"gateway","module":"edge","row":{"deviceId":"gateway","moduleId":"edge","outcome":"offline"}`,
		`{"t":"mark","event":"ended","job":"lock","at":"2026-11-22T23:15:00.000006Z","detail":"failed"`,
	}
	for i, rec := range story() {
		if got := string(rec.Append(nil)); got != string(sealed(want[i])) {
			t.Errorf("%T.Append = %s, want %s", rec, got, sealed(want[i]))
		}
		if !json.Valid(rec.Append(nil)) {
			t.Errorf("%T.Append = %s, which is not JSON", rec, rec.Append(nil))
		}
	}
	// One line with its checksum in full, so that the seal itself is frozen too.
	const mark = `{"t":"mark","event":"resumed","at":"2026-11-22T23:15:00.000005Z","crc":"077af9c8"}` + "\n"
	if got := string(story()[7].Append(nil)); got != mark {
		t.Errorf("Mark.Append = %s, want %s", got, mark)
	}
}

// oddStrings are ids and texts that a hub, a plan or a path may hold.
func oddStrings() []string {
	return []string{
		"", "a", "door-1", "A-z0:9.+%_#*?!(),=@;$'", `"`, `\`, `\"`, `\u0041`, "\x00\x1f\x7f", "a\nb\tc\rd",
		"é", "日本語", "🚪", "\u2028", "\ufffd", `,"row":`, `,"crc":"`, "]", "[", "<&>", strings.Repeat("x", 128),
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	records := story()
	for _, s := range oddStrings() {
		for _, index := range []int{0, 1, 17, math.MaxInt, math.MinInt, -1} {
			target := journal.Target{Hub: index, Device: s, Module: s}
			records = append(records,
				journal.Header{Run: s, Plan: s, File: s, SHA256: s, Runner: s, Hubs: []string{s, "", s}},
				journal.Header{Jobs: map[string]string{s: s, s + "'": ""}, Files: map[string]string{s: s}, Pinned: s},
				journal.Targets{Job: s, Targets: []journal.Target{{Device: s}, target, {Device: s}, {Hub: 2, Module: s}}},
				journal.Intent{Job: s, Target: target, Attempt: index, At: at(1)},
				journal.Result{Job: s, Target: journal.Target{Hub: index, Device: s}, Row: json.RawMessage(`{}`)},
				journal.Mark{Job: s, Event: journal.EventStarted, Detail: s, At: at(index % 1e6)},
			)
		}
	}
	records = append(records,
		journal.Header{}, journal.Targets{}, journal.Intent{}, journal.Result{}, journal.Mark{Event: journal.EventResumed},
		journal.Intent{Before: json.RawMessage(`"a,b\",{"`)},
		journal.Intent{Before: json.RawMessage(`[1,{"patch":[{}]},"]"]`), Patch: json.RawMessage(`null`)},
		journal.Intent{Patch: json.RawMessage(`{"before":1,"patch":2}`)},
		journal.Intent{ETag: `"`, Patch: json.RawMessage(`{}`)},
		journal.Intent{Version: -1, Before: json.RawMessage(`{}`)},
		journal.Intent{At: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
		journal.Intent{At: time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC)},
	)
	for _, want := range records {
		line := want.Append(nil)
		got, err := journal.Decode(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			t.Errorf("Decode(%s): %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Decode(%s) (-want +got):\n%s", line, diff)
		}
		if !json.Valid(line) {
			t.Errorf("%#v is drawn as %s, which is not JSON", want, line)
		}
	}
}

// TestWhatIsNotKept lists the values that come back as others, each on purpose.
func TestWhatIsNotKept(t *testing.T) {
	paris := time.FixedZone("CET", 3600)
	tests := []struct {
		name      string
		rec, want journal.Record
	}{
		{"bytes that are not UTF-8", journal.Mark{Event: journal.EventEnded, Detail: "a\xffb", At: at(0)}, journal.Mark{Event: journal.EventEnded, Detail: "a\ufffdb", At: at(0)}},
		{"nanoseconds", journal.Mark{Event: journal.EventEnded, At: at(1).Add(999)}, journal.Mark{Event: journal.EventEnded, At: at(1)}},
		{"the zone", journal.Mark{Event: journal.EventEnded, At: time.Date(2026, 11, 23, 0, 15, 0, 0, paris)}, journal.Mark{Event: journal.EventEnded, At: at(0)}},
		{
			"line breaks in JSON",
			journal.Result{Row: json.RawMessage("{\n\"a\":\n1}\n")},
			journal.Result{Row: json.RawMessage(`{ "a": 1} `)},
		},
		{
			"line breaks in twins",
			journal.Intent{Before: json.RawMessage("{\n}"), Patch: json.RawMessage("[\n]")},
			journal.Intent{Before: json.RawMessage(`{ }`), Patch: json.RawMessage(`[ ]`)},
		},
		{"empty JSON", journal.Intent{Before: json.RawMessage{}, Patch: json.RawMessage{}}, journal.Intent{}},
		{"an empty row", journal.Result{Row: json.RawMessage{}}, journal.Result{}},
	}
	for _, tt := range tests {
		line := tt.rec.Append(nil)
		got, err := journal.Decode(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			t.Errorf("%s: Decode(%s): %v", tt.name, line, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: Decode(%s) (-want +got):\n%s", tt.name, line, diff)
		}
		if z, ok := got.(journal.Mark); ok && z.At.Location() != time.UTC {
			t.Errorf("%s: the time is in %v, want UTC", tt.name, z.At.Location())
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	for _, rec := range story() {
		got := rec.Append([]byte("before"))
		if want := append([]byte("before"), rec.Append(nil)...); !bytes.Equal(got, want) {
			t.Errorf("%T.Append to a text = %s, want %s", rec, got, want)
		}
	}
}

// TestDecodeRefusesOtherDrawings: a sealed line that is not drawn as ours are
// was written by another version, and may mean something else.
func TestDecodeRefusesOtherDrawings(t *testing.T) {
	const zero = `"0001-01-01T00:00:00.000000Z"`
	for _, body := range []string{
		`{`, `{"t":`, `{"t":"`, `{"t":"mark`, `{"t":"mark"`, `{"t":"MARK"`, `{ "t":"mark"`,
		`{"t":"mark","event":"started"`,
		`{"t":"mark","event":"started","job":"","at":` + zero,
		`{"t":"mark","at":` + zero + `,"event":"started"`,
		`{"t":"mark","event":"started","at":` + zero + `,"detail":""`,
		`{"t":"mark","event":"started","at":` + zero + `,"level":3`,
		`{"t":"mark","event":"\u0041","at":` + zero, `{"t":"mark","event":"\n","at":` + zero, `{"t":"mark","event":"\u001F","at":` + zero,
		`{"t":"mark","event":"\u00","at":` + zero, "{\"t\":\"mark\",\"event\":\"\x01\",\"at\":" + zero, "{\"t\":\"mark\",\"event\":\"\xff\",\"at\":" + zero,
		"{\"t\":\"mark\",\"event\":\"é\x01\",\"at\":" + zero, `{"t":"mark","event":"é`,
		`{"t":"mark","event":"","at":"2026-13-01T00:00:00.000000Z"`, `{"t":"mark","event":"","at":"2027-02-29T00:00:00.000000Z"`,
		`{"t":"mark","event":"","at":"2026-01-01T24:00:00.000000Z"`, `{"t":"mark","event":"","at":"2026-01-01T00:60:00.000000Z"`,
		`{"t":"mark","event":"","at":"2026-01-01T00:00:60.000000Z"`, `{"t":"mark","event":"","at":"2026-01-01T00:00:00.00000xZ"`,
		`{"t":"mark","event":"","at":"2026-01-01 00:00:00.000000Z"`, `{"t":"mark","event":"","at":"2026"`,
		`{"t":"result","job":"a","hub":0,"device":"d"`, `{"t":"result","job":"a","hub":01,"device":"d"`,
		`{"t":"result","job":"a","hub":-0,"device":"d"`, `{"t":"result","job":"a","hub":+1,"device":"d"`,
		`{"t":"result","job":"a","hub":99999999999999999999,"device":"d"`, `{"t":"result","job":"a","hub":,"device":"d"`,
		`{"t":"result","job":"a","device":"d","module":""`, `{"t":"result","job":"a","device":"d","row":`,
		`{"t":"result","job":"a","device":"d","outcome":"succeeded"`,
		`{"t":"intent","job":"a","device":"d","attempt":1`, `{"t":"intent","job":"a","device":"d","attempt":1.5,"at":` + zero,
		`{"t":"intent","job":"a","device":"d","attempt":1,"at":` + zero + `,"before":`,
		`{"t":"intent","job":"a","device":"d","attempt":1,"at":` + zero + `,"before":,"patch":1`,
		`{"t":"intent","job":"a","device":"d","attempt":1,"at":` + zero + `,"before":{},"after":{}`,
		`{"t":"targets","job":"a","ids":[`, `{"t":"targets","job":"a","ids":[,"d"]`, `{"t":"targets","job":"a","ids":["d",]`,
		`{"t":"targets","job":"a","ids":["d"1]`, `{"t":"targets","job":"a","ids":["d",1]`, `{"t":"targets","job":"a","ids":[0,"d"]`,
		`{"t":"targets","job":"a","ids":[1,"d",1,"e"]`, `{"t":"targets","job":"a","ids":[["d"]]`, `{"t":"targets","job":"a","ids":[["d",""]]`,
		`{"t":"targets","job":"a","ids":[["d","m","n"]]`, `{"t":"targets","job":"a","ids":["d"],"more":true`,
		`{"t":"run","journal":1,"run":"a","plan":"b","file":"c","sha256":"d","runner":"e","at":` + zero,
		`{"t":"run","journal":1,"run":"a","plan":"b","file":"c","sha256":"d","runner":"e","hubs":["h",],"at":` + zero,
		`{"t":"run","journal":x`, `{"t":"run"`,
	} {
		line := bytes.TrimSuffix(sealed(body), []byte{'\n'})
		if rec, err := journal.Decode(line); !errors.Is(err, journal.ErrVersion) {
			t.Errorf("Decode(%s) = %#v, %v, want ErrVersion", line, rec, err)
		}
	}
}

func TestDecodeRefusesBrokenSeals(t *testing.T) {
	whole := strings.TrimSuffix(string(story()[1].Append(nil)), "\n")
	upper := whole[:len(whole)-10] + strings.ToUpper(whole[len(whole)-10:])
	if upper == whole {
		t.Fatalf("the checksum of %s has no letter to write in another case", whole)
	}
	raw := strings.TrimSuffix(string(sealed("{\"t\":\"result\",\"job\":\"a\",\"device\":\"d\",\"row\":{\n}")), "\n")
	for _, line := range []string{
		"", "{", "{}", `{"t":"mark"}`, whole + "\n", whole + " ", " " + whole, whole[1:], whole[:len(whole)-1],
		upper, strings.Replace(whole, `,"crc":"`, `,"CRC":"`, 1), strings.Replace(whole, "move", "mOve", 1), raw,
	} {
		if rec, err := journal.Decode([]byte(line)); err == nil || errors.Is(err, journal.ErrVersion) {
			t.Errorf("Decode(%q) = %#v, %v, want the seal refused", line, rec, err)
		}
	}
}

// FuzzRecord: what decodes is drawn as it was, whoever sealed it.
func FuzzRecord(f *testing.F) {
	for _, line := range lines(story()) {
		body, _, _ := bytes.Cut(line, []byte(`,"crc"`))
		f.Add(string(body))
	}
	f.Add(`{"t":"intent","job":"","device":"\u001f","attempt":-1,"at":"2026-01-01T00:00:00.000000Z","before":[,"patch":]`)
	f.Fuzz(func(t *testing.T, body string) {
		line := sealed(body)
		rec, err := journal.Decode(line[:len(line)-1])
		if err != nil {
			return
		}
		if again := rec.Append(nil); !bytes.Equal(again, line) {
			t.Errorf("Decode(%q) = %#v, which is drawn as %q", line, rec, again)
		}
	})
}

// FuzzStrings: any text comes back, but for bytes that are not UTF-8.
func FuzzStrings(f *testing.F) {
	for _, s := range oddStrings() {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, s string, index int) {
		valid := string([]rune(s)) // one U+FFFD for each bad byte
		target := journal.Target{Hub: index, Device: valid, Module: valid}
		for _, pair := range [][2]journal.Record{
			{journal.Result{Job: s, Target: journal.Target{Hub: index, Device: s, Module: s}}, journal.Result{Job: valid, Target: target}},
			{journal.Targets{Job: s, Targets: []journal.Target{{Hub: index, Device: s, Module: s}}}, journal.Targets{Job: valid, Targets: []journal.Target{target}}},
		} {
			line := pair[0].Append(nil)
			got, err := journal.Decode(line[:len(line)-1])
			if err != nil || !cmp.Equal(pair[1], got) {
				t.Errorf("Decode(%s) = %#v, %v, want %#v", line, got, err, pair[1])
			}
		}
	})
}

// An event that this version does not know may change what the lines around it
// mean: such a journal is of a later version.
func TestUnknownEvent(t *testing.T) {
	for _, event := range []journal.Event{"paused", "", "copied", "Started"} {
		line := journal.Mark{Event: event, At: at(1)}.Append(nil)
		if _, err := journal.Decode(bytes.TrimSuffix(line, []byte{'\n'})); !errors.Is(err, journal.ErrVersion) {
			t.Errorf("Decode of the event %q: %v, want %v", event, err, journal.ErrVersion)
		}
	}
}
