package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Version is the version of the format that this package writes. Open refuses
// a journal of a later one rather than guess what its lines mean.
const Version = 1

// Header is the first line of a journal: which run it records.
type Header struct {
	Run       string    // id of the run that began the journal
	Plan      string    // name of the plan
	File      string    // path of the plan, as given
	SHA256    string    // of the plan's bytes
	Hubs      []string  // host names
	Runner    string    // version of the program
	StartedAt time.Time // of that run

	// What the run was of besides the plan's file, by name; empty in journals of
	// earlier versions.
	Jobs, Vars, Files map[string]string
	Pinned            string
	Shard             string // which part of the targets, such as 2/5; empty for all
}

// Target is one row's key: hub and device, with the module if it is one.
// Hub is an index into the header's Hubs.
type Target struct {
	Hub    int
	Device string
	Module string
}

// Intent says that an attempt is about to be made. Before and Patch are set
// for twin updates: what a crash leaves open can be undone with them. Both are
// JSON texts; nil and empty are the same. ETag and Version are those of the twin
// that the patch was computed from, as far as they were seen: two patches of one
// twin are told apart by them.
type Intent struct {
	Job     string
	Target  Target
	Attempt int
	At      time.Time
	ETag    string
	Version int64
	Before  json.RawMessage
	Patch   json.RawMessage
}

// Result says how a target ended in a job. Row is its row of the report, a JSON
// text.
type Result struct {
	Job    string
	Target Target
	Row    json.RawMessage
}

// Targets names targets that belong to a job's cohort, as a page of the query
// listed them; with a Wave, targets of the cohort that belong to it; with a Part,
// those that are about to be given to the hub's Jobs service with the job of this
// id.
type Targets struct {
	Job     string
	Wave    int // counted from 1; 0 for the cohort
	Part    string
	Targets []Target
}

// Mark is an event in the life of a job or, with an empty Job, of the run.
type Mark struct {
	Job    string
	Event  Event
	At     time.Time
	Detail string
}

// Event names what a Mark tells.
type Event string

// The events. EventListed closes a cohort: no more Targets lines follow for the
// job. EventWave tells that the wave whose number is the detail began, EventPassed
// that the next one may. EventSummary tells how the run ended, see [Ending], and
// EventEnded without a job is its last line, with FinishedDetail if nothing of it is
// left to do.
const (
	EventStarted Event = "started"
	EventListed  Event = "listed"
	EventEnded   Event = "ended"
	EventWave    Event = "wave"
	EventPassed  Event = "passed"
	EventResumed Event = "resumed"
	EventSummary Event = "summary"
)

// FinishedDetail is the detail of the mark that ends a run of which nothing is
// left to do.
const FinishedDetail = "finished"

func (e Event) known() bool {
	switch e {
	case EventStarted, EventListed, EventEnded, EventResumed, EventWave, EventPassed, EventSummary:
		return true
	}
	return false
}

const (
	timeLayout  = "2006-01-02T15:04:05.000000Z" // what is finer than a microsecond is cut off
	runPrefix   = `{"t":"run","journal":`       // of the first line, in every version
	crcPrefix   = `,"crc":"`
	crcSuffix   = `"}`
	tailLength  = len(crcPrefix) + crcLength + len(crcSuffix)
	crcLength   = 8
	rowPrefix   = `,"row":`
	patchPrefix = `,"patch":`

	jobsPrefix   = `,"jobs":{`
	varsPrefix   = `,"vars":{`
	filesPrefix  = `,"files":{`
	pinnedPrefix = `,"pinned":`
	shardPrefix  = `,"shard":`

	wavePrefix    = `,"wave":`
	partPrefix    = `,"part":`
	etagPrefix    = `,"etag":`
	versionPrefix = `,"version":`
)

func checksum(body []byte) uint32 { return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) }

func appendChecksum(b, body []byte) []byte {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], checksum(body))
	return hex.AppendEncode(b, sum[:])
}

// seal closes the object that began at start with its checksum and ends the line.
func seal(b []byte, start int) []byte {
	body := b[start:]
	b = append(b, crcPrefix...)
	b = appendChecksum(b, body)
	b = append(b, crcSuffix...)
	return append(b, '\n')
}

// unseal checks a line, without its newline, and returns the object's text up
// to the checksum.
func unseal(line []byte) ([]byte, bool) {
	if len(line) <= tailLength || line[0] != '{' {
		return nil, false
	}
	body, tail := line[:len(line)-tailLength], line[len(line)-tailLength:]
	sum, closed := bytes.CutSuffix(tail, []byte(crcSuffix))
	sum, opened := bytes.CutPrefix(sum, []byte(crcPrefix))
	var want [crcLength]byte
	return body, closed && opened && bytes.Equal(sum, appendChecksum(want[:0], body))
}

// appendString appends s as a JSON string. It escapes as little as JSON allows
// and in one way only, whatever the version of the standard library, because a
// journal may be read by a later build. A byte that is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	if isPlain(s) { // ids are, nearly always
		b = append(b, s...)
		return append(b, '"')
	}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = hex.AppendEncode(append(b, `\u00`...), []byte{byte(r)})
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendRaw appends a member whose value is a JSON text, unless it is empty. A
// line break in it becomes a space: between values it means the same, and a
// JSON string cannot hold one.
func appendRaw(b []byte, prefix string, text json.RawMessage) []byte {
	if len(text) == 0 {
		return b
	}
	b = append(b, prefix...)
	start := len(b)
	b = append(b, text...)
	for i := bytes.IndexByte(b[start:], '\n'); i >= 0; i = bytes.IndexByte(b[start:], '\n') {
		start += i
		b[start] = ' '
	}
	return b
}

func appendTarget(b []byte, t Target) []byte {
	if t.Hub != 0 {
		b = append(b, `,"hub":`...)
		b = strconv.AppendInt(b, int64(t.Hub), 10)
	}
	b = append(b, `,"device":`...)
	b = appendString(b, t.Device)
	if t.Module != "" {
		b = append(b, `,"module":`...)
		b = appendString(b, t.Module)
	}
	return b
}

func appendTime(b []byte, at time.Time) []byte {
	b = append(b, `,"at":"`...)
	b = at.UTC().AppendFormat(b, timeLayout)
	return append(b, '"')
}

// Append appends the header's line to b.
func (h Header) Append(b []byte) []byte {
	start := len(b)
	b = append(b, runPrefix...)
	b = strconv.AppendInt(b, Version, 10)
	for _, f := range []struct{ key, value string }{
		{"run", h.Run}, {"plan", h.Plan}, {"file", h.File}, {"sha256", h.SHA256}, {"runner", h.Runner},
	} {
		b = append(b, ',', '"')
		b = append(b, f.key...)
		b = append(b, '"', ':')
		b = appendString(b, f.value)
	}
	b = append(b, `,"hubs":[`...)
	for i, name := range h.Hubs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name)
	}
	b = append(b, ']')
	b = appendTexts(b, jobsPrefix, h.Jobs)
	b = appendTexts(b, varsPrefix, h.Vars)
	b = appendTexts(b, filesPrefix, h.Files)
	if h.Pinned != "" {
		b = appendString(append(b, pinnedPrefix...), h.Pinned)
	}
	if h.Shard != "" {
		b = appendString(append(b, shardPrefix...), h.Shard)
	}
	return seal(appendTime(b, h.StartedAt), start)
}

// appendTexts appends a member whose value is an object of texts, in the order
// of their names, unless there are none.
func appendTexts(b []byte, prefix string, texts map[string]string) []byte {
	if len(texts) == 0 {
		return b
	}
	b = append(b, prefix...)
	for i, name := range slices.Sorted(maps.Keys(texts)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendString(b, name), ':'), texts[name])
	}
	return append(b, '}')
}

// Append appends the intent's line to b.
func (i Intent) Append(b []byte) []byte {
	start := len(b)
	b = append(b, `{"t":"intent","job":`...)
	b = appendString(b, i.Job)
	b = appendTarget(b, i.Target)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(i.Attempt), 10)
	b = appendTime(b, i.At)
	if i.ETag != "" {
		b = appendString(append(b, etagPrefix...), i.ETag)
	}
	if i.Version != 0 {
		b = strconv.AppendInt(append(b, versionPrefix...), i.Version, 10)
	}
	b = appendRaw(b, `,"before":`, i.Before)
	b = appendRaw(b, patchPrefix, i.Patch)
	return seal(b, start)
}

// Append appends the result's line to b.
func (r Result) Append(b []byte) []byte {
	start := len(b)
	b = append(b, `{"t":"result","job":`...)
	b = appendString(b, r.Job)
	b = appendTarget(b, r.Target)
	return seal(appendRaw(b, rowPrefix, r.Row), start)
}

// Append appends the line of a page of targets to b. A device stands as its
// id, a module as an array of device and module. A number is the hub of those
// after it; before the first, that is hub 0.
func (t Targets) Append(b []byte) []byte {
	start := len(b)
	b = append(b, `{"t":"targets","job":`...)
	b = appendString(b, t.Job)
	if t.Wave > 0 {
		b = strconv.AppendInt(append(b, wavePrefix...), int64(t.Wave), 10)
	}
	if t.Part != "" {
		b = appendString(append(b, partPrefix...), t.Part)
	}
	b = append(b, `,"ids":[`...)
	index := 0
	for i, target := range t.Targets {
		if i > 0 {
			b = append(b, ',')
		}
		if target.Hub != index {
			index = target.Hub
			b = append(strconv.AppendInt(b, int64(index), 10), ',')
		}
		b = appendID(b, target)
	}
	return seal(append(b, ']'), start)
}

func appendID(b []byte, t Target) []byte {
	if t.Module == "" {
		return appendString(b, t.Device)
	}
	b = appendString(append(b, '['), t.Device)
	b = appendString(append(b, ','), t.Module)
	return append(b, ']')
}

// Append appends the mark's line to b.
func (m Mark) Append(b []byte) []byte {
	start := len(b)
	b = append(b, `{"t":"mark","event":`...)
	b = appendString(b, string(m.Event))
	if m.Job != "" {
		b = append(b, `,"job":`...)
		b = appendString(b, m.Job)
	}
	b = appendTime(b, m.At)
	if m.Detail != "" {
		b = append(b, `,"detail":`...)
		b = appendString(b, m.Detail)
	}
	return seal(b, start)
}
