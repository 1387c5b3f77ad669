package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Record is one line read back. Which it is, tells its dynamic type: Header,
// Intent, Result, Targets or Mark.
type Record interface{ Append(b []byte) []byte }

var (
	errLine = errors.New("not a journal line")
	// ErrVersion means that the journal was written by a later version of the program.
	ErrVersion = errors.New("written by a later version of runner")
)

// Decode reads one line, without its newline. Raw JSON of the record shares
// the memory of line.
//
// It reads what Append writes and nothing else: appending the record again
// gives the same line. A sealed line that is drawn in another way has a meaning
// that this version does not know, so it is an [ErrVersion].
func Decode(line []byte) (Record, error) {
	body, ok := unseal(line)
	if !ok || bytes.IndexByte(line, '\n') >= 0 {
		return nil, errLine
	}
	return decodeBody(body, nil)
}

// decodeBody reads the text of an object without its closing brace and
// checksum.
func decodeBody(body []byte, seen names) (Record, error) {
	s := scan{rest: body, seen: seen}
	s.must(`{"t":"`)
	kind, rest, _ := bytes.Cut(s.rest, []byte{'"'})
	s.rest = rest
	var rec Record
	switch string(kind) {
	case "run":
		s.must(`,"journal":`)
		if v := s.number(); v != Version && !s.bad {
			return nil, fmt.Errorf("%w: format %d, this program reads %d", ErrVersion, v, Version)
		}
		rec = s.header()
	case "intent":
		rec = s.intent()
	case "result":
		rec = s.result()
	case "targets":
		rec = s.targets()
	case "mark":
		rec = s.mark()
	default:
		return nil, fmt.Errorf("%w: a line of kind %q", ErrVersion, kind)
	}
	if s.bad || len(s.rest) > 0 {
		return nil, fmt.Errorf("%w: a %s line unlike those that this program writes", ErrVersion, kind)
	}
	return rec, nil
}

// names keeps one copy of each job name, which would else be made a million
// times. A nil one keeps none.
type names map[string]string

// maxNames bounds what a journal can make us remember.
const maxNames = 1 << 10

func (n names) intern(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	if n != nil && len(n) < maxNames {
		n[s] = s
	}
	return s
}

// scan reads a line's text in the order in which it was written. The first
// thing that is not as expected makes it bad, and what it returns worthless.
type scan struct {
	rest []byte
	seen names
	bad  bool
}

// has consumes prefix if it comes next.
func (s *scan) has(prefix string) bool {
	if len(s.rest) < len(prefix) || string(s.rest[:len(prefix)]) != prefix {
		return false
	}
	s.rest = s.rest[len(prefix):]
	return true
}

func (s *scan) must(prefix string) {
	if !s.has(prefix) {
		s.bad = true
	}
}

// text reads a string. What it returns shares the memory of the line unless
// the string has escapes.
func (s *scan) text() []byte {
	s.must(`"`)
	for i, c := range s.rest {
		switch {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text
		case c == '\\' || c >= utf8.RuneSelf:
			return s.escaped(i)
		case c < 0x20:
			s.bad = true
			return nil
		}
	}
	s.bad = true
	return nil
}

// escaped reads the rest of a string of which the first i bytes are plain.
func (s *scan) escaped(i int) []byte {
	text := append([]byte(nil), s.rest[:i]...)
	s.rest = s.rest[i:]
	for len(s.rest) > 0 && s.rest[0] >= 0x20 {
		switch {
		case s.has(`"`):
			s.bad = s.bad || !utf8.Valid(text)
			return text
		case s.has(`\"`):
			text = append(text, '"')
		case s.has(`\\`):
			text = append(text, '\\')
		case s.has(`\u00`):
			text = append(text, s.control())
		case s.rest[0] == '\\':
			s.bad = true
			return nil
		default:
			text = append(text, s.rest[0])
			s.rest = s.rest[1:]
		}
	}
	s.bad = true
	return nil
}

// control reads the last two digits of an escape: those of a control character.
func (s *scan) control() byte {
	if len(s.rest) < 2 || s.rest[0] > '1' || bytes.IndexByte([]byte("0123456789abcdef"), s.rest[1]) < 0 {
		s.bad = true
		return 0
	}
	c, err := strconv.ParseUint(string(s.rest[:2]), 16, 8)
	s.bad = s.bad || err != nil
	s.rest = s.rest[2:]
	return byte(c)
}

// number reads a whole number, written in the one way that AppendInt has.
func (s *scan) number() int {
	n := 0
	for n < len(s.rest) && (s.rest[n] == '-' || s.rest[n]-'0' <= 9) {
		n++
	}
	v, err := strconv.Atoi(string(s.rest[:n]))
	var again [20]byte
	if err != nil || !bytes.Equal(strconv.AppendInt(again[:0], int64(v), 10), s.rest[:n]) {
		s.bad = true
	}
	s.rest = s.rest[n:]
	return v
}

// optional reads the string that follows prefix, if prefix comes next. An empty
// one is not written.
func (s *scan) optional(prefix string) string {
	if !s.has(prefix) {
		return ""
	}
	text := string(s.text())
	s.bad = s.bad || text == ""
	return text
}

// last reads a JSON text that goes on to the end of the line.
func (s *scan) last(prefix string) json.RawMessage {
	if !s.has(prefix) {
		return nil
	}
	text := s.rest
	s.rest, s.bad = nil, s.bad || len(text) == 0
	return text
}

func (s *scan) job() string {
	s.must(`,"job":`)
	return s.seen.intern(s.text())
}

func (s *scan) at() time.Time {
	s.must(`,"at":"`)
	if len(s.rest) < len(timeLayout) {
		s.bad = true
		return time.Time{}
	}
	at, ok := parseTime(s.rest[:len(timeLayout)])
	s.bad = s.bad || !ok
	s.rest = s.rest[len(timeLayout):]
	s.must(`"`)
	return at
}

// parseTime reads timeLayout, at a third of what time.Parse takes.
func parseTime(b []byte) (time.Time, bool) {
	for i, c := range []byte(timeLayout) {
		if digit := c-'0' <= 9; digit && b[i]-'0' > 9 || !digit && b[i] != c {
			return time.Time{}, false
		}
	}
	number := func(from, to int) int {
		v := 0
		for _, c := range b[from:to] {
			v = 10*v + int(c-'0')
		}
		return v
	}
	month, day, hour, minute, second := number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19)
	at := time.Date(number(0, 4), time.Month(month), day, hour, minute, second, 1000*number(20, 26), time.UTC)
	// Date carries over what is too large, so that a day which there is not
	// comes out as another one.
	whole := int(at.Month()) == month && at.Day() == day && at.Hour() == hour && at.Minute() == minute && at.Second() == second
	return at, whole
}

func (s *scan) target() Target {
	t := Target{}
	if s.has(`,"hub":`) {
		t.Hub = s.number()
		s.bad = s.bad || t.Hub == 0
	}
	s.must(`,"device":`)
	t.Device = string(s.text())
	t.Module = s.optional(`,"module":`)
	return t
}

func (s *scan) header() Header {
	h := Header{}
	for _, f := range []struct {
		prefix string
		value  *string
	}{
		{`,"run":`, &h.Run},
		{`,"plan":`, &h.Plan},
		{`,"file":`, &h.File},
		{`,"sha256":`, &h.SHA256},
		{`,"runner":`, &h.Runner},
	} {
		s.must(f.prefix)
		*f.value = string(s.text())
	}
	s.must(`,"hubs":[`)
	for !s.bad && !s.has(`]`) {
		if h.Hubs != nil {
			s.must(`,`)
		}
		h.Hubs = append(h.Hubs, string(s.text()))
	}
	h.Jobs, h.Vars, h.Files = s.texts(jobsPrefix), s.texts(varsPrefix), s.texts(filesPrefix)
	h.Pinned, h.Shard = s.optional(pinnedPrefix), s.optional(shardPrefix)
	h.StartedAt = s.at()
	return h
}

// texts reads an object of texts, if prefix comes next. An empty one is not
// written, and the names are in order.
func (s *scan) texts(prefix string) map[string]string {
	if !s.has(prefix) {
		return nil
	}
	texts, last := map[string]string{}, ""
	for !s.bad && !s.has(`}`) {
		if len(texts) > 0 {
			s.must(`,`)
		}
		name := string(s.text())
		s.must(`:`)
		s.bad = s.bad || len(texts) > 0 && name <= last
		texts[name], last = string(s.text()), name
	}
	s.bad = s.bad || len(texts) == 0
	return texts
}

func (s *scan) intent() Intent {
	i := Intent{Job: s.job(), Target: s.target()}
	s.must(`,"attempt":`)
	i.Attempt = s.number()
	i.At = s.at()
	i.ETag = s.optional(etagPrefix)
	if s.has(versionPrefix) {
		i.Version = int64(s.number())
		s.bad = s.bad || i.Version == 0
	}
	if s.has(`,"before":`) {
		end := valueEnd(s.rest)
		i.Before = s.rest[:end:end]
		s.rest, s.bad = s.rest[end:], s.bad || end == 0
	}
	i.Patch = s.last(patchPrefix)
	return i
}

// valueEnd returns where the JSON value at the beginning of b ends: at the
// first comma that is neither in a string nor inside the value.
func valueEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == ',' && depth == 0:
			return i
		}
	}
	return len(b)
}

func (s *scan) result() Result {
	return Result{Job: s.job(), Target: s.target(), Row: s.last(rowPrefix)}
}

func (s *scan) targets() Targets {
	t := Targets{Job: s.job()}
	if s.has(wavePrefix) {
		t.Wave = s.number()
		s.bad = s.bad || t.Wave <= 0
	}
	t.Part = s.optional(partPrefix)
	s.must(`,"ids":[`)
	index := 0
	for !s.bad && !s.has(`]`) {
		if t.Targets != nil {
			s.must(`,`)
		}
		if len(s.rest) > 0 && s.rest[0] != '"' && s.rest[0] != '[' {
			before := index
			index = s.number()
			s.bad = s.bad || index == before
			s.must(`,`)
		}
		t.Targets = append(t.Targets, s.id(index))
	}
	return t
}

func (s *scan) id(index int) Target {
	if !s.has(`[`) {
		return Target{Hub: index, Device: string(s.text())}
	}
	t := Target{Hub: index, Device: string(s.text()), Module: s.optional(`,`)}
	s.bad = s.bad || t.Module == ""
	s.must(`]`)
	return t
}

func (s *scan) mark() Mark {
	m := Mark{}
	s.must(`,"event":`)
	m.Event = Event(s.text())
	s.bad = s.bad || !m.Event.known()
	m.Job = s.optional(`,"job":`)
	m.At = s.at()
	m.Detail = s.optional(`,"detail":`)
	return m
}
