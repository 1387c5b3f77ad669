package fleet_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator/fleet"
)

// mustParse returns the fleet of a file's devices and faults.
func mustParse(tb testing.TB, format string, args ...any) *fleet.Fleet {
	tb.Helper()
	f, err := fleet.Parse("test.yaml", fmt.Appendf(nil, "version: 1\n"+format, args...))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestDefaultIsTheTutorialsDevice(t *testing.T) {
	f := fleet.Default()
	if f.Len() != 1 || f.ID(0) != "myDevice" || !f.Online(0, 0) {
		t.Fatalf("Default() has %d devices, the first is %q, online %t", f.Len(), f.ID(0), f.Online(0, 0))
	}
	got := f.Invoke(0, "lockDoor", 1, []byte(`"now"`))
	want := fleet.Reaction{Kind: fleet.Answers, Status: 200, Payload: []byte(`{"Response":"lockDoor called successfully"}`)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lockDoor (-want +got):\n%s", diff)
	}
	if got := f.Follow(0, 2).Reported([]byte(`{"building":43,"floor":3,"$version":2}`)); string(got) != `{"building":43,"floor":3}` {
		t.Errorf("it reports %s", got)
	}
}

func TestIndexIsTheInverseOfID(t *testing.T) {
	for _, file := range append(corpus(t, "testdata/ok"), examples(t)...) {
		f, err := fleet.Parse(file, read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < f.Len(); i += 1 + f.Len()/5000 {
			if got, ok := f.Index(f.ID(i)); !ok || got != i {
				t.Errorf("%s: Index(%q) = %d, %t, want %d", file, f.ID(i), got, ok, i)
			}
		}
		for _, id := range []string{"", "door-0", "nobody", "meter-1000001", "tracker-0300", strings.Repeat("x", 500)} {
			if i, ok := f.Index(id); ok {
				t.Errorf("%s: Index(%q) = %d, but nobody has this id", file, id, i)
			}
		}
	}
}

func TestExamplesSayWhatTheyShow(t *testing.T) {
	want := map[string]int{"building-doors": 20_002, "campus": 10_020, "flaky-trackers": 300, "million-meters": 1_000_000, "sensors": 600, "gates": 3}
	got := map[string]int{}
	for _, file := range examples(t) {
		src := read(t, file)
		f, err := fleet.Parse(file, src)
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimSuffix(filepath.Base(file), ".yaml")] = f.Len()
		if !strings.Contains(string(src), "Use it to") {
			t.Errorf("%s does not say what it is for", file)
		}
		for i := 0; i < f.Len(); i += 1 + f.Len()/500 {
			checkJSON(t, f, i)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

func examples(tb testing.TB) []string {
	tb.Helper()
	return corpus(tb, filepath.Join("..", "..", "..", "examples", "fleets"))
}

// A share is exact under every seed; the seed chooses who it is.
func TestSharesAreExact(t *testing.T) {
	sets := map[string]bool{}
	for seed := range 20 {
		f := mustParse(t, "seed: %d\ndevices: [{idPattern: d%%d, count: 200, shares: {offline: 5%%, hanging: 10%%}}]", seed)
		offline, hanging, who := 0, 0, ""
		for i := range f.Len() {
			if !f.Online(i, time.Hour) {
				offline++
				who += f.ID(i) + " "
			}
			if f.Invoke(i, "any", 1, nil).Kind == fleet.Hangs {
				hanging++
			}
		}
		if offline != 10 || hanging != 20 {
			t.Errorf("seed %d: %d offline and %d hanging, want 10 and 20", seed, offline, hanging)
		}
		sets[who] = true
	}
	if len(sets) != 20 {
		t.Errorf("20 seeds choose %d sets of offline devices", len(sets))
	}
}

func TestChoicesInTwinsAreExact(t *testing.T) {
	f := mustParse(t, `
devices:
  - idPattern: d%%d
    count: 90
    tags:
      fw: {$weighted: [{weight: 2, value: a}, {weight: 0, value: never}, {weight: 1, value: b}]}
      hw: {$oneOf: [1, 2, 3]}
      no: {$random: {from: 0, to: 9}}
      at: {$cycle: [x, y]}
`)
	counts := map[string]int{}
	for i := range f.Len() {
		for part := range strings.SplitSeq(strings.Trim(string(f.Twin(i).Tags), "{}"), ",") {
			counts[part]++
		}
	}
	want := map[string]int{`"fw":"a"`: 60, `"fw":"b"`: 30, `"at":"x"`: 45, `"at":"y"`: 45}
	for i := 1; i <= 3; i++ {
		want[fmt.Sprintf(`"hw":%d`, i)] = 30
	}
	for i := range 10 {
		want[fmt.Sprintf(`"no":%d`, i)] = 9
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

// What one group draws does not depend on the others.
func TestGroupsAreIndependent(t *testing.T) {
	const doors = `  - {idPattern: door-%d, count: 50, tags: {x: {$oneOf: [1, 2, 3]}}, shares: {offline: 20%},
     methods: {m: {latency: {uniform: {from: 0s, to: 1s}}}}}
`
	alone := describe(mustParse(t, "%s", "devices:\n"+doors))
	after := describe(mustParse(t, "%s", "devices:\n  - {idPattern: lamp-%d, count: 7, shares: {offline: 20%}}\n"+doors))
	_, alone, _ = strings.Cut(alone, "\n\n")
	_, after, _ = strings.Cut(after, "\n\ndoor-1\n")
	if diff := cmp.Diff(alone, "door-1\n"+after); diff != "" {
		t.Errorf("doors (-alone +after lamps):\n%s", diff)
	}
}

func TestSeedsDiffer(t *testing.T) {
	file := read(t, "testdata/ok/everything.yaml")
	seen := map[string]string{}
	for _, seed := range []string{"1", "2", "99"} {
		f, err := fleet.Parse("f", []byte(strings.Replace(string(file), "seed: 99", "seed: "+seed, 1)))
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(describe(f), "\n")
		if other, same := seen[text]; same {
			t.Errorf("seed %s describes the fleet of seed %s", seed, other)
		}
		seen[text] = seed
	}
}

func TestOnline(t *testing.T) {
	f := mustParse(t, `
devices:
  - {idPattern: l%%d, count: 100, shares: {late: {share: 100%%, after: {uniform: {from: 10s, to: 20s}}}}}
  - {idPattern: f%%d, count: 100, shares: {flapping: {share: 100%%, every: 60s, away: 15s}}}
`)
	online := func(from int, since time.Duration) (n int) {
		for i := from; i < from+100; i++ {
			if f.Online(i, since) {
				n++
			}
		}
		return n
	}
	late := map[time.Duration]int{0: 0, 9 * time.Second: 0, 15 * time.Second: 50, 20 * time.Second: 100, time.Hour: 100}
	got := maps.Clone(late)
	for since := range got {
		got[since] = online(0, since)
	}
	if diff := cmp.Diff(late, got); diff != "" {
		t.Errorf("late devices online (-want +got):\n%s", diff)
	}
	total := 0
	for since := time.Duration(0); since < time.Minute; since += time.Second {
		total += online(100, since)
	}
	if want := 100 * 45; total < want-100 || total > want+100 { // each phase is off by less than a second
		t.Errorf("flapping devices are online for %d device-seconds of a minute, want about %d", total, want)
	}
	if a, b := online(100, 7*time.Second), online(100, 67*time.Second); a != b {
		t.Errorf("%d are online after 7 s and %d a period later", a, b)
	}
}

func TestMethodsDraw(t *testing.T) {
	f := mustParse(t, `
devices:
  - idPattern: d%%d
    count: 1000
    methods:
      m:
        outcomes:
          - {calls: 1, status: 503}
          - {calls: 3-4, status: 1}
          - {weight: 3, status: 200}
          - {weight: 1, does: disconnects}
`)
	counts := map[string]int{}
	for i := range f.Len() {
		for nth := 1; nth <= 5; nth++ {
			r := f.Invoke(i, "m", nth, nil)
			key := fmt.Sprint(nth, r.Kind, r.Status)
			counts[key]++
			if again := f.Invoke(i, "m", nth, nil); !cmp.Equal(r, again) {
				t.Fatalf("call %d of device %d: %v, and again: %v", nth, i, r, again)
			}
		}
	}
	for key, want := range map[string]int{"1 1 503": 1000, "3 1 1": 1000, "4 1 1": 1000, "2 1 200": 750, "2 4 0": 250, "5 1 200": 750} {
		if got := counts[key]; got < want-60 || got > want+60 { // standard deviation 14 where it is drawn
			t.Errorf("%q happens %d times, want about %d (all: %v)", key, got, want, counts)
		}
	}
	if got := counts["1 1 503"] + counts["3 1 1"] + counts["4 1 1"]; got != 3000 {
		t.Errorf("named calls went another way: %v", counts)
	}
}

func TestDevicesAnswerUnknownMethods(t *testing.T) {
	f := mustParse(t, `
devices:
  - {id: a, methods: {m: {}}}
  - {id: b, methods: {m: {}, "*": {status: 404, payload: "${method}?"}}}
  - {id: c, modules: [inherits, {id: own, methods: {n: {status: 7}}}], methods: {m: {status: 5}}}
`)
	check := func(name string, got fleet.Reaction, status int, payload string) {
		t.Helper()
		if got.Kind != fleet.Answers || got.Status != status || string(got.Payload) != payload {
			t.Errorf("%s: %s, want status %d payload %s", name, reaction(got), status, payload)
		}
	}
	check("no handler", f.Invoke(0, `say "x"`, 1, nil), 501, `{"error":"no handler for method say \"x\""}`)
	check("any handler", f.Invoke(1, `"x"`, 1, nil), 404, `"\"x\"?"`)
	check("its own", f.Invoke(1, "m", 1, nil), 200, "")
	check("inherited by a module", f.InvokeModule(2, 0, "m", 1, nil), 5, "")
	check("the module's own", f.InvokeModule(2, 1, "n", 1, nil), 7, "")
	check("not the device's", f.InvokeModule(2, 1, "m", 1, nil), 501, `{"error":"no handler for method m"}`)
}

func TestPayloadsEchoTheRequest(t *testing.T) {
	f := mustParse(t, `
devices:
  - id: a
    methods:
      whole: {payload: "${request}"}
      part: {payload: {x: "${request.a.b}", in: "<${request.a.b}>"}}
`)
	tests := []struct{ method, request, want string }{
		{"whole", ``, `null`},
		{"whole", `{ "a" : [1, 2.50] }`, `{"a":[1,2.50]}`},
		{"whole", `not json`, `null`},
		{"part", `{"a":{"b":"say \"x\""}}`, `{"x":"say \"x\"","in":"<say \"x\">"}`},
		{"part", `{"a":{"b":[1,"é"]}}`, `{"x":[1,"é"],"in":"<[1,\"é\"]>"}`},
		{"part", `{"a":3}`, `{"x":null,"in":"<null>"}`},
		{"part", ``, `{"x":null,"in":"<null>"}`},
	}
	for _, tt := range tests {
		if got := string(f.Invoke(0, tt.method, 1, []byte(tt.request)).Payload); got != tt.want {
			t.Errorf("%s(%s) is answered %s, want %s", tt.method, tt.request, got, tt.want)
		}
	}
}

func TestFollowing(t *testing.T) {
	f := mustParse(t, `
devices:
  - {id: faithful}
  - {id: never, follow: never}
  - {id: spoils, follow: {wrong: true, after: 2s}}
  - {id: lies, follow: {wrong: {floor: -1, more: [1]}}}
`)
	desired := `{"floor":3,"on":true,"name":"x","n":{"a":1.5},"l":[1],"gone":null,"big":4503599627370495,"$version":9}`
	tests := []struct {
		kind  fleet.FollowKind
		delay time.Duration
		want  string
	}{
		{fleet.FollowFaithfully, 0, `{"big":4503599627370495,"floor":3,"gone":null,"l":[1],"n":{"a":1.5},"name":"x","on":true}`},
		{fleet.FollowNever, 0, ``},
		{fleet.FollowWrongly, 2 * time.Second, `{"big":4503599627370496,"floor":4,"gone":null,"l":[],"n":{"a":2.5},"name":"not x","on":false}`},
		{fleet.FollowWrongly, 0, `{"big":4503599627370495,"floor":-1,"gone":null,"l":[1],"more":[1],"n":{"a":1.5},"name":"x","on":true}`},
	}
	for i, tt := range tests {
		fl := f.Follow(i, 9)
		if fl.Kind != tt.kind || fl.Delay != tt.delay {
			t.Errorf("%s: Follow = kind %d after %v, want %d after %v", f.ID(i), fl.Kind, fl.Delay, tt.kind, tt.delay)
		}
		if got := string(fl.Reported([]byte(desired))); got != tt.want {
			t.Errorf("%s reports %s, want %s", f.ID(i), got, tt.want)
		}
		for _, bad := range []string{"", "null", "[1]", "{"} {
			if got := fl.Reported([]byte(bad)); got != nil {
				t.Errorf("%s reports %s for %q", f.ID(i), got, bad)
			}
		}
	}
}

func TestFollowSharesAreExact(t *testing.T) {
	f := mustParse(t, "devices: [{idPattern: d%%d, count: 40, follow: [{share: 10%%, never: true}, {share: 25%%, wrong: true}]}]")
	counts := map[fleet.FollowKind]int{}
	for i := range f.Len() {
		counts[f.Follow(i, 2).Kind]++
		if f.Follow(i, 2).Kind != f.Follow(i, 3).Kind {
			t.Errorf("device %d follows another way the next time", i)
		}
	}
	want := map[fleet.FollowKind]int{fleet.FollowNever: 4, fleet.FollowWrongly: 10, fleet.FollowFaithfully: 26}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

// The sections of a twin share one buffer; growing one must not reach the next.
func TestSectionsOfATwinAreApart(t *testing.T) {
	f := mustParse(t, `devices: [{id: a, tags: {x: "${id}"}, desired: {y: "${id}"}}]`)
	tw := f.Twin(0)
	if grown := append(tw.Tags, "overwritten"...); len(grown) <= len(tw.Tags) || string(tw.Desired) != `{"y":"a"}` {
		t.Errorf("desired is %s after tags have grown to %s", tw.Desired, grown)
	}
}
