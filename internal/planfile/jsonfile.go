package planfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"iothub-runner/spec"
)

// jsonChecker collects what is wrong with a file of JSON that is valid as such: what
// a plan may not say in a payload of its own, a file may not either. Each has
// its place in the file.
type jsonChecker struct {
	src   *source
	list  []fileFinding
	depth int
}

type fileFinding struct {
	pos           spec.Pos
	rule          spec.Rule
	summary, hint string
}

// checkJSON looks for keys that stand twice, numbers that no reader can hold and
// halves of characters in a text of JSON.
func checkJSON(text string) []fileFinding {
	f := &jsonChecker{src: newSource("", text)}
	in := json.NewDecoder(strings.NewReader(text))
	in.UseNumber()
	f.value(in)
	return f.list
}

func (f *jsonChecker) add(offset int64, rule spec.Rule, summary, hint string) {
	if len(f.list) < maxFileFindings {
		f.list = append(f.list, fileFinding{f.src.pos(int(offset)), rule, summary, hint})
	}
}

// token returns the next token and where it begins.
func (f *jsonChecker) token(in *json.Decoder) (t json.Token, at int64, ok bool) {
	before := in.InputOffset()
	t, err := in.Token()
	if err != nil {
		return nil, 0, false
	}
	raw := f.src.text[before:in.InputOffset()]
	at = before + int64(len(raw)-len(strings.TrimLeft(raw, " \t\r\n,:")))
	if _, isText := t.(string); isText {
		f.text(f.src.text[at:in.InputOffset()], at)
	}
	return t, at, true
}

// value reads one value; false at the end of the text.
func (f *jsonChecker) value(in *json.Decoder) bool {
	t, at, ok := f.token(in)
	if !ok {
		return false
	}
	switch t := t.(type) {
	case json.Number:
		if n, err := strconv.ParseFloat(string(t), 64); err != nil || math.IsInf(n, 0) {
			f.add(at, spec.RuleNumber, fmt.Sprintf("%s is too large for a number", spec.Clip(string(t))), "put it in quotes if it is a text")
		}
	case json.Delim:
		if t == '{' {
			f.object(in)
		} else {
			f.array(in, at)
		}
	}
	return true
}

func (f *jsonChecker) array(in *json.Decoder, at int64) {
	if f.depth++; f.depth > maxDepth {
		f.add(at, spec.RuleNesting, fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
	}
	for in.More() && f.value(in) {
	}
	f.depth--
	_, _, _ = f.token(in) // the bracket
}

func (f *jsonChecker) object(in *json.Decoder) {
	if f.depth++; f.depth > maxDepth {
		f.add(in.InputOffset()-1, spec.RuleNesting, fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
	}
	first := map[string]int64{}
	for in.More() {
		t, at, ok := f.token(in)
		key, isText := t.(string)
		if !ok || !isText {
			return
		}
		if was, twice := first[key]; twice {
			p := f.src.pos(int(was))
			f.add(at, spec.RuleDuplicateKey, fmt.Sprintf("key %q stands twice; first on line %d, column %d", spec.Clip(key), p.Line, p.Column), "keep one of them")
		} else {
			first[key] = at
		}
		if !f.value(in) {
			return
		}
	}
	f.depth--
	_, _, _ = f.token(in) // the brace
}

// text looks for halves of characters in a text, quotes and all.
func (f *jsonChecker) text(raw string, at int64) {
	eachEscape(raw, func(i, length int, form string) {
		if form == "" {
			f.add(at+int64(i), spec.RuleEncoding, fmt.Sprintf("%s is half a character", raw[i:i+length]), `a character beyond U+FFFF is written as two halves, as in "\ud83d\ude00"`)
		}
	})
}

// jsonFault says what is wrong with a text that should be JSON, and where.
func jsonFault(content []byte, err error) (spec.Pos, string) {
	src := newSource("", string(content))
	at, ok := err.(*json.SyntaxError) //nolint:errorlint // as Unmarshal returns it
	switch {
	case !ok:
		return spec.Pos{Line: 1, Column: 1}, "it is not UTF-8"
	case len(bytes.TrimSpace(content)) == 0:
		return spec.Pos{Line: 1, Column: 1}, "it is empty"
	case strings.HasPrefix(at.Error(), "unexpected end"):
		return src.clamp(src.pos(len(content))), io.ErrUnexpectedEOF.Error()
	}
	return src.clamp(src.pos(min(max(int(at.Offset)-1, 0), len(content)))), at.Error()
}
