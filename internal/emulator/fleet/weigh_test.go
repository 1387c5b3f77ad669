package fleet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"iothub-runner/internal/emulator/fleet"
)

// size is what the hub counts of a section: a second reading of its rule.
func size(tb testing.TB, raw []byte) int {
	tb.Helper()
	if raw == nil {
		return 0
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatalf("%s: %v", raw, err)
	}
	return sizeOf(v)
}

func sizeOf(v any) int {
	text := func(s string) int {
		return len(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, s))
	}
	n := 0
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			n += text(key) + sizeOf(inner)
		}
	case []any:
		for _, inner := range v {
			n += sizeOf(inner)
		}
	case string:
		n = text(v)
	case float64:
		n = 8
	default:
		n = 4
	}
	return n
}

func checkSizes(tb testing.TB, f *fleet.Fleet, i int) {
	tb.Helper()
	twins := []fleet.Twin{f.Twin(i)}
	for m := range f.Modules(i) {
		twins = append(twins, f.ModuleTwin(i, m))
	}
	for _, tw := range twins {
		if tags, desired, reported := size(tb, tw.Tags), size(tb, tw.Desired), size(tb, tw.Reported); tags > 8<<10 || desired > 32<<10 || reported > 32<<10 {
			tb.Errorf("device %d has %d bytes of tags, %d of desired and %d of reported properties", i, tags, desired, reported)
		}
	}
}

// TestTwinsAreWeighedAtWorst fills tags up to what the hub takes for the
// heaviest device of the fleet: one byte more, and the file is refused.
func TestTwinsAreWeighedAtWorst(t *testing.T) {
	for _, value := range []string{
		`${id}`, `${index}`, `"<${index}>"`, `"${number}"`, `"n${number * 7 - 40}"`, `"${number:06}"`, `"${number:04x}/${index:x}"`,
		`"${index / 7 + 1}-${index % 12}"`, `"${number % 1000 - 50}x"`, `"${index - 5}${index * 3}"`, `"${index * 2147483647 * 2147483647 * 4 % 10}"`,
		`true`, `1.5`, `-3`, `[1, two, [three, {four: 4}]]`, `{a: "\tx\n", "é": ü}`, `"$${x} ${id}"`,
		`{$cycle: [a, bcd, 17, {e: fghij}]}`, `{$oneOf: ["${id}", 5]}`, `{$weighted: [{weight: 1, value: [xx, yy]}, {weight: 0, value: zzzzzzzzzzzzzzz}]}`,
		`{$random: {from: 1, to: 1000000, digits: 3}}`, `{$cycle: [{$oneOf: [x, yyyy]}, zz]}`,
	} {
		file := func(filler int) string {
			var b strings.Builder
			fmt.Fprintf(&b, "version: 1\ndevices:\n  - idPattern: dev-%%d\n    start: 95\n    count: 1500\n    tags:\n      v: %s\n", value)
			for k := 0; filler > 0; k++ {
				n := min(filler, 2000)
				filler -= n
				fmt.Fprintf(&b, "      %c: %q\n", 'a'+k, strings.Repeat("x", n-1))
			}
			return b.String()
		}
		f := mustParseWhole(t, file(0))
		worst := 0
		for i := range f.Len() {
			worst = max(worst, size(t, f.Twin(i).Tags))
		}
		room := 8<<10 - worst
		full := mustParseWhole(t, file(room))
		checkSizes(t, full, full.Len()-1)
		if _, err := fleet.Parse("f", []byte(file(room+1))); err == nil || !strings.Contains(err.Error(), "tags: up to 8193 bytes for one twin; the hub takes 8192") {
			t.Errorf("%s: one byte more than the hub takes: Parse = %v", value, err)
		}
	}
}

func mustParseWhole(tb testing.TB, src string) *fleet.Fleet {
	tb.Helper()
	f, err := fleet.Parse("f", []byte(src))
	if err != nil {
		tb.Fatalf("%v\n%s", err, src[:min(len(src), 200)])
	}
	return f
}
