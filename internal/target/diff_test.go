package target

import (
	"bytes"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/tidwall/gjson"
)

// same tells whether two JSON texts mean the same, numbers by their value.
func same(a, b []byte) bool {
	x, errX := decodeExact(a)
	y, errY := decodeExact(b)
	return errX == nil && errY == nil && sameValue(x, y)
}

func decodeExact(text []byte) (v any, err error) {
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	err = in.Decode(&v)
	return v, err
}

func sameValue(a, b any) bool {
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		return ok && sameNumber(x.String(), y.String())
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !sameValue(x[i], y[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k := range x {
			if v, has := y[k]; !has || !sameValue(x[k], v) {
				return false
			}
		}
		return true
	}
	return a == b
}

// sameNumber compares as a hub does that holds integers exactly and the rest
// as float64.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	if okX && okY && x.Cmp(y) == 0 {
		return true
	}
	f, errF := strconv.ParseFloat(a, 64)
	g, errG := strconv.ParseFloat(b, 64)
	whole := okX && okY && x.IsInt() && y.IsInt()
	return errF == nil && errG == nil && f == g && !whole
}

func merge(tb testing.TB, doc, patch []byte) []byte {
	tb.Helper()
	if patch == nil {
		return doc
	}
	merged, err := jsonpatch.MergePatch(doc, patch)
	if err != nil {
		tb.Fatalf("MergePatch(%s, %s): %v", doc, patch, err)
	}
	return merged
}

func TestDiff(t *testing.T) {
	tests := []struct {
		name, current, wanted string
		patch, before         string // empty: no difference
	}{
		{"as wanted", `{"a":1,"b":2}`, `{"a":1}`, "", ""},
		{"nothing wanted", `{"a":1}`, `{}`, "", ""},
		{"other value", `{"a":1,"b":2}`, `{"a":3,"b":2}`, `{"a":3}`, `{"a":1}`},
		{"new key", `{"a":1}`, `{"b":{"c":2}}`, `{"b":{"c":2}}`, `{"b":null}`},
		{"no section", ``, `{"a":1}`, `{"a":1}`, `{"a":null}`},
		{"section is null", `null`, `{"a":1,"":2}`, `{"a":1,"":2}`, `{"a":null,"":null}`},
		{"nested", `{"a":{"b":{"c":1,"d":2},"e":3}}`, `{"a":{"b":{"c":9,"d":2},"e":3}}`, `{"a":{"b":{"c":9}}}`, `{"a":{"b":{"c":1}}}`},
		{"nested and as wanted", `{"a":{"b":{"c":1}},"x":1}`, `{"a":{"b":{"c":1}},"x":2}`, `{"x":2}`, `{"x":1}`},
		{"remove", `{"a":1,"b":2}`, `{"a":null}`, `{"a":null}`, `{"a":1}`},
		{"remove what is not there", `{"b":2}`, `{"a":null,"c":{"d":null}}`, `{"c":{"d":null}}`, `{"c":null}`},
		{"remove what is nested", `{"a":{"b":1,"c":2}}`, `{"a":{"b":null,"x":null}}`, `{"a":{"b":null}}`, `{"a":{"b":1}}`},
		{"object over a number", `{"a":5}`, `{"a":{"b":null,"c":1}}`, `{"a":{"b":null,"c":1}}`, `{"a":5}`},
		{"number over an object", `{"a":{"b":1}}`, `{"a":5}`, `{"a":5}`, `{"a":{"b":1}}`},
		{"empty object over nothing", `{}`, `{"a":{}}`, `{"a":{}}`, `{"a":null}`},
		{"empty object over an object", `{"a":{"b":1}}`, `{"a":{}}`, "", ""},
		{"array is one value", `{"a":[1,2,{"x":1}]}`, `{"a":[1,2,{"x":2}]}`, `{"a":[1,2,{"x":2}]}`, `{"a":[1,2,{"x":1}]}`},
		{"same array", `{"a":[1, 2.0, {"x":1,"y":"z"}, []]}`, `{"a":[1.0,2,{"y":"z","x":1},[]]}`, "", ""},
		{"array has other order", `{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[2,1]}`, `{"a":[1,2]}`},
		{"array is longer", `{"a":[1,2]}`, `{"a":[1]}`, `{"a":[1]}`, `{"a":[1,2]}`},
		{"object in an array has more", `{"a":[{"x":1,"y":2}]}`, `{"a":[{"x":1}]}`, `{"a":[{"x":1}]}`, `{"a":[{"x":1,"y":2}]}`},
		{"array over an object", `{"a":{}}`, `{"a":[]}`, `{"a":[]}`, `{"a":{}}`},
		{"43 and 43.0", `{"a":43.0}`, `{"a":43}`, "", ""},
		{"43 and 4.3e1", `{"a":4.3e1}`, `{"a":43}`, "", ""},
		{"43 and a string", `{"a":"43"}`, `{"a":43}`, `{"a":43}`, `{"a":"43"}`},
		{"largest integers of a twin", `{"a":4503599627370496}`, `{"a":4503599627370495}`, `{"a":4503599627370495}`, `{"a":4503599627370496}`},
		{"integers that a float64 takes for one", `{"a":9007199254740992}`, `{"a":9007199254740993}`, `{"a":9007199254740993}`, `{"a":9007199254740992}`},
		{"the same big integer", `{"a":9007199254740993}`, `{"a":9007199254740993}`, "", ""},
		{"out of range of a float64", `{"a":1e400}`, `{"a":1e401}`, `{"a":1e401}`, `{"a":1e400}`},
		{"false and null", `{"a":false}`, `{"a":true}`, `{"a":true}`, `{"a":false}`},
		{
			"keys that are paths elsewhere", `{"a.b":1,"a":{"b":2},"*":3,"a*":4,"#":5}`, `{"a.b":1,"*":9,"a*":4,"#":6,"@this":7}`,
			`{"*":9,"#":6,"@this":7}`, `{"*":3,"#":5,"@this":null}`,
		},
		{"keys in other writing", `{"d\u00e9j\u00e0":1,"q\"":2,"\ud83d\ude00":3}`, `{"déjà":1,"q\u0022":2,"😀":4}`, `{"😀":4}`, `{"😀":3}`},
		{"strings in other writing", `{"a":"d\u00e9j\u00e0\/"}`, `{"a":"déjà/"}`, "", ""},
		{"metadata is the hub's", `{"a":1,"$metadata":{"a":{"$lastUpdated":"x"}},"$version":7}`, `{"a":2}`, `{"a":2}`, `{"a":1}`},
		{"whitespace", "{ \"a\" : { \"b\" : 1 } }", `{"a":{"b":1}}`, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var current json.RawMessage
			if tt.current != "" {
				current = json.RawMessage(tt.current)
			}
			d := Diff(current, json.RawMessage(tt.wanted))
			if string(d.Patch) != tt.patch || string(d.Before) != tt.before {
				t.Errorf("diff(%s, %s) = %s, before %s\nwant %s, before %s", tt.current, tt.wanted, d.Patch, d.Before, tt.patch, tt.before)
			}
		})
	}
}

func TestDiffOfNoSection(t *testing.T) {
	if d := Diff(json.RawMessage(`{"a":1}`), nil); d.Patch != nil || d.Before != nil {
		t.Errorf("diff with nothing wanted of a section = %s, %s", d.Patch, d.Before)
	}
}

// checkDiff holds a difference against RFC 7396 as somebody else implements it.
func checkDiff(tb testing.TB, current, wanted []byte) {
	tb.Helper()
	d := Diff(current, wanted)
	want := merge(tb, current, wanted)
	have := merge(tb, current, d.Patch)
	if !same(have, want) {
		tb.Fatalf("diff(%s, %s) = %s\nleads to %s\nwant     %s", current, wanted, d.Patch, have, want)
	}
	if (d.Patch == nil) != (d.Before == nil) {
		tb.Fatalf("diff(%s, %s) = %s, before %s", current, wanted, d.Patch, d.Before)
	}
	if d.Patch != nil && same(want, current) {
		tb.Fatalf("diff(%s, %s) = %s, and it already is as wanted", current, wanted, d.Patch)
	}
	if again := Diff(have, wanted); again.Patch != nil {
		tb.Fatalf("diff(%s, %s) = %s\nonce it is done, there is still a difference: %s", current, wanted, d.Patch, again.Patch)
	}
	if back := merge(tb, have, d.Before); !same(back, current) {
		tb.Fatalf("diff(%s, %s), before %s\nrestores %s", current, wanted, d.Before, back)
	}
}

// documents makes JSON objects that have much in common.
type documents struct{ *rand.Rand }

func (r documents) object(depth int, nulls bool) string {
	keys := []string{`"a"`, `"b"`, `"a.b"`, `"*"`, `"\""`, `"é"`, `"\u00e8"`, `""`, `"$version"`}
	var members []string
	for _, i := range r.Perm(len(keys))[:r.IntN(4)] {
		members = append(members, keys[i]+":"+r.value(depth-1, nulls))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (r documents) value(depth int, nulls bool) string {
	scalars := []string{`1`, `1.0`, `2`, `"x"`, `"\u0078"`, `true`, `false`, `""`, `9007199254740993`, `9007199254740992`, `-0`, `0`}
	switch n := r.IntN(10); {
	case n < 4 && depth > 0:
		return r.object(depth, nulls)
	case n == 4 && depth > 0:
		return "[" + r.value(depth-1, false) + "," + r.value(depth-1, false) + "]"
	case n == 5 && nulls:
		return `null`
	}
	return scalars[r.IntN(len(scalars))]
}

func TestDiffOfRandomDocuments(t *testing.T) {
	r := documents{rand.New(rand.NewPCG(5, 6))}
	for range 5_000 {
		checkDiff(t, []byte(r.object(4, false)), []byte(r.object(4, true)))
	}
}

// plain tells whether a text is an object as twins and plans hold them: no key
// twice, and no null where nulls is false, which is everywhere in arrays.
func plain(text []byte, nulls bool) bool {
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	first, err := in.Token()
	if err != nil || first != json.Delim('{') || !plainObject(in, nulls) {
		return false
	}
	_, err = in.Token()
	return err != nil && json.Valid(text)
}

func plainObject(in *json.Decoder, nulls bool) bool {
	seen := map[string]bool{}
	for in.More() {
		key, err := in.Token()
		name, ok := key.(string)
		if err != nil || !ok || seen[name] || strings.ContainsRune(name, '\uFFFD') {
			return false
		}
		seen[name] = true
		if !plainValue(in, nulls) {
			return false
		}
	}
	_, err := in.Token()
	return err == nil
}

func plainValue(in *json.Decoder, nulls bool) bool {
	v, err := in.Token()
	if err != nil {
		return false
	}
	switch v := v.(type) {
	case json.Delim:
		if v == '{' {
			return plainObject(in, nulls)
		}
		for in.More() {
			if !plainValue(in, false) {
				return false
			}
		}
		_, err := in.Token()
		return err == nil
	case nil:
		return nulls
	case json.Number:
		_, err := v.Float64()
		return err == nil && len(v) < 40
	case string:
		return !strings.ContainsRune(v, '\uFFFD')
	}
	return true
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":[1,2]}}`), []byte(`{"a":null,"b":{"c":[2],"d":{"e":null}}}`))
	f.Add([]byte(`{"a.b":43.0,"*":1e2}`), []byte(`{"a.b":43,"*":100}`))
	f.Add([]byte(`{"é":"\u00e9"}`), []byte(`{"\u00e9":"é"}`))
	f.Add([]byte(`null`), []byte(`{"":{}}`))
	f.Fuzz(func(t *testing.T, current, wanted []byte) {
		_ = Diff(current, wanted) // whatever it is given, it does not panic
		if plain(current, false) && plain(wanted, true) {
			checkDiff(t, current, wanted)
		}
	})
}

func TestWhole(t *testing.T) {
	for _, tt := range []struct{ current, wanted, patch, before string }{
		{`{"a":1,"b":2}`, `{"a":1,"b":3}`, `{"a":1,"b":3}`, `{"a":1,"b":2}`},
		{`{"a":{"x":1,"y":2}}`, `{"a":{"x":1,"z":null},"n":null}`, `{"a":{"x":1,"z":null},"n":null}`, `{"a":{"x":1,"z":null},"n":null}`},
		{`{"a":{}}`, `{"a":{},"b":1}`, `{"b":1}`, `{"b":null}`},
		{``, `{"a":{"x":1}}`, `{"a":{"x":1}}`, `{"a":null}`},
	} {
		var current json.RawMessage
		if tt.current != "" {
			current = json.RawMessage(tt.current)
		}
		got := whole(current, json.RawMessage(tt.wanted))
		if string(got.Patch) != tt.patch || string(got.Before) != tt.before {
			t.Errorf("whole(%s, %s) = %s before %s, want %s before %s", tt.current, tt.wanted, got.Patch, got.Before, tt.patch, tt.before)
		}
	}
}

// A number is equal to itself however it is written.
func TestEqualNumbers(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1e20", "1e+20", true},
		{"1e20", "100000000000000000000", true},
		{"1.50", "15e-1", true},
		{"0", "-0.0", true},
		{"0", "0e5", true},
		{"9007199254740993", "9007199254740993.0", true},
		{"9007199254740993", "9007199254740992", false},
		{"1e300", "1.0E+300", true},
		{"-1e20", "1e20", false},
		{"1e20", "1e21", false},
		{"0.1", "0.10000000000000001", true},
		{"123000", "1.23e5", true},
		{"0.00120", "12e-4", true},
		{"100000000000000000001", "100000000000000000000", false},
		{"3", "3.0", true},
		{"3", "4", false},
	} {
		if got := equalNumber(gjson.Parse(tt.a), gjson.Parse(tt.b)); got != tt.want {
			t.Errorf("equalNumber(%s, %s) = %t, want %t", tt.a, tt.b, got, tt.want)
		}
	}
}
