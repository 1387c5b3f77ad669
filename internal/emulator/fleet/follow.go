package fleet

import (
	"bytes"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"
)

// FollowKind is how a device's reported properties follow its desired ones.
type FollowKind int

// The kinds of following.
const (
	// FollowNever: nothing is reported.
	FollowNever FollowKind = iota + 1
	// FollowFaithfully: what was desired is reported, after the delay.
	FollowFaithfully
	// FollowWrongly: something else is reported, after the delay.
	FollowWrongly
)

// Follow is what one device does with one change of its desired properties.
type Follow struct {
	Kind  FollowKind
	Delay time.Duration
	wrong json.RawMessage // an object merged over what is reported; nil spoils every value
}

// follow is what the devices of a group do: parts of a whole, the rest follows
// faithfully at once.
type follow struct {
	who     stream
	howLong stream
	shares  []float64
	parts   []followPart
}

type followPart struct {
	kind  FollowKind
	delay delay
	wrong json.RawMessage
}

// Follow returns what device i does when its desired properties reach the
// given version. The kind is the same for every version, the delay is drawn
// for each.
func (f *Fleet) Follow(i int, desiredVersion int64) Follow {
	g, k := f.locate(i)
	fl := &g.follow
	if len(fl.parts) == 0 {
		return Follow{Kind: FollowFaithfully}
	}
	n := cut(fl.who.place(k, g.count), 1, fl.shares)
	if n == len(fl.parts) {
		return Follow{Kind: FollowFaithfully}
	}
	p := &fl.parts[n]
	return Follow{Kind: p.kind, Delay: p.delay.at(fl.howLong.unit(k, desiredVersion)), wrong: p.wrong}
}

// Reported returns the patch of the reported properties that follows a patch
// of the desired ones, nil if there is none. Keys that start with $ are the
// hub's and are left out.
func (f Follow) Reported(desired json.RawMessage) json.RawMessage {
	if f.Kind == FollowNever {
		return nil
	}
	var patch map[string]json.RawMessage
	if json.Unmarshal(desired, &patch) != nil || patch == nil {
		return nil
	}
	for key, v := range patch {
		if strings.HasPrefix(key, "$") {
			delete(patch, key)
			continue
		}
		if f.Kind == FollowWrongly && f.wrong == nil {
			patch[key] = encode(spoiled(decode(v)))
		}
	}
	if f.Kind == FollowWrongly {
		maps.Copy(patch, f.instead())
	}
	return encode(patch)
}

// instead returns what the file says is reported in place of the truth.
func (f Follow) instead() map[string]json.RawMessage {
	var values map[string]json.RawMessage
	if f.wrong == nil {
		return nil
	}
	if err := json.Unmarshal(f.wrong, &values); err != nil {
		panic("fleet: a wrong value that is not an object: " + err.Error())
	}
	return values
}

// spoiled returns a value of the same type that is not v. Lists are reported
// empty, and a deletion is kept: there is nothing to say wrongly.
func spoiled(v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case json.Number:
		return more(v)
	case string:
		return "not " + v
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = spoiled(inner)
		}
		return out
	case []any:
		return []any{}
	}
	return v
}

// more returns a number that is greater by one, a whole one if v is.
func more(v json.Number) json.Number {
	if n, err := v.Int64(); err == nil && n < 1<<62 {
		return json.Number(strconv.FormatInt(n+1, 10))
	}
	x, err := v.Float64()
	if err != nil || x+1 == x {
		return "0"
	}
	return json.Number(strconv.FormatFloat(x+1, 'g', -1, 64))
}

// decode keeps numbers as they are written.
func decode(text json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic("fleet: a value that was valid is not: " + err.Error())
	}
	return v
}

func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic("fleet: what was decoded does not encode: " + err.Error())
	}
	return text
}
