package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
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
}

// Target is one row's key: hub and device, with the module if it is one.
// Hub is an index into the header's Hubs.
type Target struct {
	Hub    int
	Device string
	Module string
}

// Intent says that an attempt is about to be made. Before and Patch are set
// for twin updates: what a crash leaves open can be undone with them.
type Intent struct {
	Job     string
	Target  Target
	Attempt int
	At      time.Time
	Before  json.RawMessage
	Patch   json.RawMessage
}

// Result says how a target ended in a job. Row is its row of the report.
type Result struct {
	Job    string
	Target Target
	Row    json.RawMessage
}

// Targets names targets that belong to a job's cohort, as a page of the query
// listed them.
type Targets struct {
	Job     string
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

// The events. EventListed closes a cohort: no more Targets lines follow for the job.
const (
	EventStarted Event = "started"
	EventListed  Event = "listed"
	EventEnded   Event = "ended"
	EventResumed Event = "resumed"
)

const (
	timeLayout = "2006-01-02T15:04:05.000000Z"
	crcPrefix  = `,"crc":"`
	tailLength = len(crcPrefix) + 8 + len(`"}`)
	rowPrefix  = `,"row":`
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// seal closes the object that began at start with its checksum and ends the line.
func seal(b []byte, start int) []byte {
	sum := crc32.Checksum(b[start:], castagnoli())
	b = append(b, crcPrefix...)
	var raw [4]byte
	raw[0], raw[1], raw[2], raw[3] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	b = hex.AppendEncode(b, raw[:])
	return append(b, '"', '}', '\n')
}

// unseal checks a line, without its newline, and returns the object's text up
// to the checksum.
func unseal(line []byte) ([]byte, bool) {
	if len(line) <= tailLength || line[0] != '{' {
		return nil, false
	}
	body, tail := line[:len(line)-tailLength], line[len(line)-tailLength:]
	if !bytes.HasPrefix(tail, []byte(crcPrefix)) || !bytes.HasSuffix(tail, []byte(`"}`)) {
		return nil, false
	}
	var raw [4]byte
	if _, err := hex.Decode(raw[:], tail[len(crcPrefix):len(crcPrefix)+8]); err != nil {
		return nil, false
	}
	sum := uint32(raw[0])<<24 | uint32(raw[1])<<16 | uint32(raw[2])<<8 | uint32(raw[3])
	return body, sum == crc32.Checksum(body, castagnoli())
}

// appendString appends s as a JSON string. Ids are plain ASCII nearly always.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("a string always has a JSON form: " + err.Error())
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
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
	b = append(b, `{"t":"run","journal":`...)
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
	return seal(appendTime(b, h.StartedAt), start)
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
	if i.Before != nil {
		b = append(append(b, `,"before":`...), i.Before...)
	}
	if i.Patch != nil {
		b = append(append(b, `,"patch":`...), i.Patch...)
	}
	return seal(b, start)
}

// Append appends the result's line to b.
func (r Result) Append(b []byte) []byte {
	start := len(b)
	b = append(b, `{"t":"result","job":`...)
	b = appendString(b, r.Job)
	b = appendTarget(b, r.Target)
	b = append(append(b, rowPrefix...), r.Row...)
	return seal(b, start)
}

// Append appends the line of a page of targets to b. A device stands as its
// id, a module as an array of device and module.
func (t Targets) Append(b []byte) []byte {
	start := len(b)
	b = append(b, `{"t":"targets","job":`...)
	b = appendString(b, t.Job)
	if len(t.Targets) > 0 && t.Targets[0].Hub != 0 {
		b = append(b, `,"hub":`...)
		b = strconv.AppendInt(b, int64(t.Targets[0].Hub), 10)
	}
	b = append(b, `,"ids":[`...)
	for i, target := range t.Targets {
		if i > 0 {
			b = append(b, ',')
		}
		if target.Module == "" {
			b = appendString(b, target.Device)
			continue
		}
		b = appendString(append(b, '['), target.Device)
		b = appendString(append(b, ','), target.Module)
		b = append(b, ']')
	}
	return seal(append(b, ']'), start)
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

// Record is one line read back. Which it is, tells its dynamic type: Header,
// Intent, Result, Targets or Mark.
type Record interface{ Append(b []byte) []byte }

var (
	errLine = errors.New("not a journal line")
	// ErrVersion means that the journal was written by a later version of the program.
	ErrVersion = errors.New("written by a later version of runner")
)

// Decode reads one line, without its newline. Raw JSON of the record may share
// the memory of line.
func Decode(line []byte) (Record, error) {
	body, ok := unseal(line)
	if !ok {
		return nil, errLine
	}
	return decodeBody(body)
}

// decodeBody reads the text of an object without its closing brace. The
// checksum has vouched for it, so it is read as what this package once wrote.
func decodeBody(body []byte) (Record, error) {
	doc := gjson.Parse(string(body) + "}")
	switch kind := doc.Get("t").Str; kind {
	case "run":
		return decodeHeader(doc)
	case "intent":
		return decodeIntent(doc), nil
	case "result":
		return Result{Job: doc.Get("job").Str, Target: decodeTarget(doc), Row: raw(doc.Get("row"))}, nil
	case "targets":
		return decodeTargets(doc), nil
	case "mark":
		m := Mark{Job: doc.Get("job").Str, Event: Event(doc.Get("event").Str), Detail: doc.Get("detail").Str}
		m.At = decodeTime(doc.Get("at"))
		return m, nil
	default:
		return nil, fmt.Errorf("%w: a line of kind %q", ErrVersion, kind)
	}
}

func decodeHeader(doc gjson.Result) (Record, error) {
	if v := doc.Get("journal").Int(); v != Version {
		return nil, fmt.Errorf("%w: format %d, this program reads %d", ErrVersion, v, Version)
	}
	h := Header{
		Run: doc.Get("run").Str, Plan: doc.Get("plan").Str, File: doc.Get("file").Str,
		SHA256: doc.Get("sha256").Str, Runner: doc.Get("runner").Str,
		StartedAt: decodeTime(doc.Get("at")),
	}
	for _, name := range doc.Get("hubs").Array() {
		h.Hubs = append(h.Hubs, name.Str)
	}
	return h, nil
}

func decodeIntent(doc gjson.Result) Intent {
	return Intent{
		Job: doc.Get("job").Str, Target: decodeTarget(doc), Attempt: int(doc.Get("attempt").Int()),
		At: decodeTime(doc.Get("at")), Before: raw(doc.Get("before")), Patch: raw(doc.Get("patch")),
	}
}

func decodeTargets(doc gjson.Result) Targets {
	t := Targets{Job: doc.Get("job").Str}
	index := int(doc.Get("hub").Int())
	doc.Get("ids").ForEach(func(_, id gjson.Result) bool {
		target := Target{Hub: index, Device: id.Str}
		if id.IsArray() {
			target.Device, target.Module = id.Get("0").Str, id.Get("1").Str
		}
		t.Targets = append(t.Targets, target)
		return true
	})
	return t
}

func decodeTarget(doc gjson.Result) Target {
	return Target{Hub: int(doc.Get("hub").Int()), Device: doc.Get("device").Str, Module: doc.Get("module").Str}
}

func decodeTime(v gjson.Result) time.Time {
	at, err := time.Parse(timeLayout, v.Str)
	if err != nil {
		return time.Time{} // a line without a time has the zero time
	}
	return at
}

func raw(v gjson.Result) json.RawMessage {
	if !v.Exists() {
		return nil
	}
	return json.RawMessage(v.Raw)
}

// Row returns the report row that the result line holds, without decoding it.
func Row(line []byte) (json.RawMessage, bool) {
	body, ok := unseal(bytes.TrimSuffix(line, []byte{'\n'}))
	if !ok {
		return nil, false
	}
	_, row, ok := bytes.Cut(body, []byte(rowPrefix))
	return row, ok && bytes.HasPrefix(body, []byte(`{"t":"result",`))
}
