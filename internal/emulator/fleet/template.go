package fleet

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// A template is a JSON value in which some parts depend on the device or on
// the call: compiled once from the fleet file, rendered by appending.
type template struct {
	pieces []piece
	size   int // about how many bytes it renders to
}

// A piece is literal JSON text, an expression or a choice between templates.
type piece struct {
	text []byte
	expr *expression
	pick *pick
}

// A scene is what a template may speak of: a device, and in payloads a call.
type scene struct {
	group   *group
	index   int // of the device in its group, from 0
	module  string
	method  string
	nth     int64 // of the device's calls, from 1; 0 outside of a call
	request []byte
}

// static returns the text of a template without moving parts.
func (t *template) static() ([]byte, bool) {
	switch len(t.pieces) {
	case 0:
		return nil, true
	case 1:
		p := t.pieces[0]
		return p.text, p.expr == nil && p.pick == nil
	}
	return nil, false
}

// value renders the template, or returns the shared text of a static one.
func (t *template) value(sc *scene) json.RawMessage {
	if t == nil {
		return nil
	}
	if text, ok := t.static(); ok {
		return text
	}
	return t.render(make([]byte, 0, t.size), sc)
}

// render appends the template as the scene fills it in.
func (t *template) render(dst []byte, sc *scene) []byte {
	for i := range t.pieces {
		switch p := &t.pieces[i]; {
		case p.expr != nil:
			dst = p.expr.render(dst, sc)
		case p.pick != nil:
			dst = p.pick.render(dst, sc)
		default:
			dst = append(dst, p.text...)
		}
	}
	return dst
}

// literal appends text to the template, to the last piece where that is text.
func (t *template) literal(text string) {
	t.size += len(text)
	if n := len(t.pieces); n > 0 && t.pieces[n-1].text != nil {
		t.pieces[n-1].text = append(t.pieces[n-1].text, text...)
		return
	}
	t.pieces = append(t.pieces, piece{text: []byte(text)})
}

// An expression is what stands between ${ and } in a string.
type expression struct {
	name   string // id, index, number, module, method, nth or request
	path   []string
	ops    []operation
	width  int  // digits, padded with zeros; 0 leaves the number as it is
	hex    bool // in hexadecimal
	inText bool // inside a longer string: its text, without quotes
}

// An operation is one step of integer arithmetic on a number.
type operation struct {
	op  byte
	arg int64
}

func (e *expression) render(dst []byte, sc *scene) []byte {
	switch e.name {
	case "id":
		return e.quoted(dst, func(dst []byte) []byte { return sc.group.appendID(dst, sc.index) })
	case "module":
		return e.quoted(dst, func(dst []byte) []byte { return append(dst, sc.module...) })
	case "method":
		return e.text(dst, sc.method)
	case "request":
		return e.echo(dst, sc.request)
	case "nth":
		return e.number(dst, sc.nth)
	case "number":
		return e.number(dst, sc.group.number(sc.index))
	default: // index, the only one left
		return e.number(dst, int64(sc.index))
	}
}

// quoted appends what needs no escaping, as ids do not.
func (e *expression) quoted(dst []byte, fill func([]byte) []byte) []byte {
	if e.inText {
		return fill(dst)
	}
	return append(fill(append(dst, '"')), '"')
}

// text appends a string that may need escaping.
func (e *expression) text(dst []byte, s string) []byte {
	quoted := quote(s)
	if e.inText {
		quoted = quoted[1 : len(quoted)-1]
	}
	return append(dst, quoted...)
}

func (e *expression) number(dst []byte, v int64) []byte {
	for _, op := range e.ops {
		v = op.apply(v)
	}
	base := 10
	if e.hex {
		base = 16
	}
	if e.width == 0 && !e.hex {
		return strconv.AppendInt(dst, v, 10)
	}
	if !e.inText {
		dst = append(dst, '"')
	}
	dst = appendPadded(dst, v, e.width, base)
	if !e.inText {
		dst = append(dst, '"')
	}
	return dst
}

// echo appends the part of the request that the path names, null if there is
// none. Inside a string it appends text: that of a string, or compact JSON.
func (e *expression) echo(dst, request []byte) []byte {
	part := lookup(request, e.path)
	if !e.inText {
		return append(dst, part...)
	}
	var s string
	if json.Unmarshal(part, &s) == nil && part[0] == '"' {
		return e.text(dst, s)
	}
	return e.text(dst, string(part))
}

func lookup(request []byte, path []string) []byte {
	null := []byte("null")
	if !json.Valid(request) {
		return null
	}
	for _, key := range path {
		var object map[string]json.RawMessage
		if json.Unmarshal(request, &object) != nil || object[key] == nil {
			return null
		}
		request = object[key]
	}
	var compact bytes.Buffer
	if json.Compact(&compact, request) != nil {
		return null
	}
	return compact.Bytes()
}

// apply computes with wrap-around, as Go does; division never meets a zero,
// the parser sees to that, and remainders are never negative.
func (o operation) apply(v int64) int64 {
	switch o.op {
	case '*':
		return v * o.arg
	case '/':
		return v / o.arg
	case '%':
		return ((v % o.arg) + o.arg) % o.arg
	case '-':
		return v - o.arg
	default:
		return v + o.arg
	}
}

// A pick chooses one of its options, or a number in a range.
type pick struct {
	draws   stream
	cycle   bool // by the device's index, one after the other
	options []template
	weights []float64 // laid side by side over total
	total   float64
	random  *numberRange
}

// A numberRange yields numbers from from to to, rounded to digits after the point.
type numberRange struct {
	from, to float64
	digits   int
}

func (p *pick) render(dst []byte, sc *scene) []byte {
	if p.cycle {
		return p.options[sc.index%len(p.options)].render(dst, sc)
	}
	u := p.draws.unit(sc.index, sc.nth)
	if sc.nth == 0 {
		u = p.draws.place(sc.index, sc.group.count)
	}
	if p.random != nil {
		return p.random.render(dst, u)
	}
	return p.options[min(cut(u, p.total, p.weights), len(p.options)-1)].render(dst, sc)
}

// render gives every value of the range the same room, both ends included.
func (r *numberRange) render(dst []byte, u float64) []byte {
	scale := math.Pow10(r.digits)
	from, to := math.Round(r.from*scale), math.Round(r.to*scale)
	v := (from + math.Floor(u*(to-from+1))) / scale
	return strconv.AppendFloat(dst, v, 'f', r.digits, 64)
}

// appendPadded appends v with at least width digits.
func appendPadded(dst []byte, v int64, width, base int) []byte {
	size := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		size = -size
	}
	var buf [64]byte
	digits := strconv.AppendUint(buf[:0], size, base)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// quote returns s as JSON, without the escapes that HTML would need.
func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("a string that is not JSON: " + err.Error())
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
