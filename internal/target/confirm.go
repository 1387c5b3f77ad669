package target

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// Proof is what the reported properties of a device say about a change that was
// asked of it.
type Proof struct {
	Confirmed bool
	At        time.Time       // when the last of it was reported, by the hub's clock; zero if the hub does not say
	Missing   string          // what is not as it has to be, in words; empty if confirmed
	Last      json.RawMessage // what was reported of it
}

// Prove looks for what is waited for in reported properties, as the hub shows
// them with their $metadata. Wanted is what they must hold: null stands for a
// property that must be gone. Only what was reported since the change counts: an
// old value that happens to match proves nothing. Where the device acknowledges
// as Plug and Play has it, {value, ac, av}, the code has to be 200 and the version
// that of the desired properties, or a later one.
func Prove(reported, wanted json.RawMessage, changed []string, c *spec.Confirmation) Proof {
	doc := gjson.ParseBytes(reported)
	p := prover{since: c.Since, desired: c.DesiredVersion}
	if wanted != nil {
		p.object(doc, member(doc, "$metadata"), gjson.ParseBytes(wanted), "")
	}
	was := gjson.ParseBytes(c.Was)
	for _, path := range changed {
		p.changed(doc, was, path)
	}
	if p.missing == "" && p.undated && member(doc, "$version").Int() <= c.Version {
		p.miss("nothing was reported since")
	}
	proof := Proof{Confirmed: p.missing == "", Missing: p.missing}
	if proof.Confirmed {
		proof.At = p.at
	}
	proof.Last = seen(doc, wanted, changed)
	return proof
}

// prover walks what is wanted. The first thing that is missing is what it names.
type prover struct {
	since   time.Time
	desired int64
	at      time.Time
	undated bool // the hub does not say when some of it was reported
	missing string
}

func (p *prover) miss(format string, args ...any) {
	if p.missing == "" {
		p.missing = fmt.Sprintf(format, args...)
	}
}

func (p *prover) object(reported, metadata, wanted gjson.Result, path string) {
	wanted.ForEach(func(key, value gjson.Result) bool {
		at := strings.TrimPrefix(path+"."+key.Str, ".")
		p.value(member(reported, key.Str), member(metadata, key.Str), value, at)
		return p.missing == ""
	})
}

func (p *prover) value(reported, metadata, wanted gjson.Result, path string) {
	if wanted.Type == gjson.Null {
		if reported.Exists() {
			p.miss("%s is still reported", path)
		}
		return
	}
	switch {
	case !reported.Exists():
		p.miss("%s is not reported", path)
	case acknowledges(reported) && !acknowledges(wanted):
		p.acknowledged(reported, metadata, wanted, path)
	case wanted.IsObject() && reported.IsObject():
		p.object(reported, metadata, wanted, path)
	case !equal(reported, wanted):
		p.miss("%s is reported as %s, not %s", path, short(reported), short(wanted))
	default:
		p.reportedAt(metadata, path)
	}
}

// acknowledges tells whether a value is an answer as Plug and Play devices give it.
func acknowledges(v gjson.Result) bool {
	return v.IsObject() && member(v, "value").Exists() && member(v, "ac").Type == gjson.Number
}

func (p *prover) acknowledged(reported, metadata, wanted gjson.Result, path string) {
	code, version, value := member(reported, "ac").Int(), member(reported, "av"), member(reported, "value")
	switch {
	case code != 200:
		p.miss("%s is acknowledged with code %d%s", path, code, because(member(reported, "ad")))
	case version.Exists() && version.Int() < p.desired:
		p.miss("%s is acknowledged for version %d of the desired properties, which are at %d", path, version.Int(), p.desired)
	case !equal(value, wanted):
		p.miss("%s is acknowledged as %s, not %s", path, short(value), short(wanted))
	default:
		p.reportedAt(metadata, path)
	}
}

func because(description gjson.Result) string {
	if description.Type != gjson.String || description.Str == "" {
		return ""
	}
	return ": " + short(description)
}

// reportedAt takes in when a value was reported.
func (p *prover) reportedAt(metadata gjson.Result, path string) {
	at, err := time.Parse(time.RFC3339Nano, member(metadata, "$lastUpdated").Str)
	switch {
	case err != nil: // then the version of the section has to do
		p.undated = true
	case at.Before(p.since):
		p.miss("%s was reported before the change, not since", path)
	case at.After(p.at):
		p.at = at
	}
}

// changed makes sure of a new value.
func (p *prover) changed(reported, was gjson.Result, path string) {
	value, metadata := along(reported, path), along(member(reported, "$metadata"), path)
	old := member(was, path)
	switch {
	case !value.Exists():
		p.miss("%s is not reported", path)
	case old.Exists() && equal(value, old):
		p.miss("%s is still reported as %s", path, short(value))
	default:
		p.reportedAt(metadata, path)
	}
}

// along returns the value at a path, which need not exist.
func along(value gjson.Result, path string) gjson.Result {
	for key := range strings.SplitSeq(path, ".") {
		value = member(value, key)
	}
	return value
}

// Values returns what is reported at some paths, by path: what has to change.
func Values(reported json.RawMessage, paths []string) json.RawMessage {
	if len(paths) == 0 {
		return nil
	}
	return seen(gjson.ParseBytes(reported), nil, paths)
}

// seen returns what is reported of what is waited for: properties at the first
// level, and others by their path.
func seen(reported gjson.Result, wanted json.RawMessage, paths []string) json.RawMessage {
	b := []byte{'{'}
	add := func(key []byte, value gjson.Result) {
		if !value.Exists() || len(value.Raw) > maxSeen {
			return
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, key...), ':'), value.Raw...)
	}
	gjson.ParseBytes(wanted).ForEach(func(key, _ gjson.Result) bool {
		add([]byte(key.Raw), member(reported, key.Str))
		return true
	})
	for _, path := range paths {
		if name, err := json.Marshal(path); err == nil {
			add(name, along(reported, path))
		}
	}
	return append(b, '}')
}

// maxSeen bounds a value that a row repeats.
const maxSeen = 4 << 10

// short is a value in a sentence.
func short(v gjson.Result) string {
	const most = 60
	if text := []rune(v.Raw); len(text) > most {
		return string(text[:most]) + "..."
	}
	return v.Raw
}

// Version returns that of reported properties, 0 if they have none.
func Version(section json.RawMessage) int64 {
	return member(gjson.ParseBytes(section), "$version").Int()
}

// LastUpdated returns when a section was last written, by the hub's clock; zero if
// the hub does not say.
func LastUpdated(section json.RawMessage) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, member(member(gjson.ParseBytes(section), "$metadata"), "$lastUpdated").Str)
	return at
}
