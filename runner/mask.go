package runner

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// mask takes the values of sensitive variables out of what is written down or
// shown: what a patch sends, what a twin had, what a device answers. A nil mask
// takes out nothing.
type mask struct{ secrets []string }

// masked stands for a secret.
const masked = "***"

// newMask returns the mask of a plan, nil if it has no secret. The longest comes
// first: another may be a part of it.
func newMask(plan *spec.Plan) *mask {
	m := &mask{}
	for _, name := range plan.Sensitive {
		if value := plan.Vars[name]; value != "" {
			m.secrets = append(m.secrets, value)
		}
	}
	if len(m.secrets) == 0 {
		return nil
	}
	slices.SortFunc(m.secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return m
}

// text takes the secrets out of a text.
func (m *mask) text(s string) string {
	if m == nil {
		return s
	}
	for _, secret := range m.secrets {
		s = strings.ReplaceAll(s, secret, masked)
	}
	return s
}

// json takes them out of a JSON text: from the texts in it, however they are
// escaped, and a number or boolean that is one becomes a text.
func (m *mask) json(v json.RawMessage) json.RawMessage {
	if m == nil || len(v) == 0 {
		return v
	}
	return m.value(nil, gjson.ParseBytes(v))
}

func (m *mask) value(b []byte, v gjson.Result) []byte {
	switch {
	case v.Type == gjson.String:
		if clean := m.text(v.Str); clean != v.Str {
			return appendString(b, clean)
		}
	case v.IsObject() || v.IsArray():
		return m.members(b, v)
	case slices.Contains(m.secrets, v.Raw):
		return appendString(b, masked)
	}
	return append(b, v.Raw...)
}

// members masks what an object or an array holds.
func (m *mask) members(b []byte, v gjson.Result) []byte {
	open, end := byte('{'), byte('}')
	if v.IsArray() {
		open, end = '[', ']'
	}
	b = append(b, open)
	first := true
	v.ForEach(func(key, member gjson.Result) bool {
		if !first {
			b = append(b, ',')
		}
		first = false
		if v.IsObject() {
			b = append(m.value(b, key), ':')
		}
		b = m.value(b, member)
		return true
	})
	return append(b, end)
}

// sections masks the sections of a twin.
func (m *mask) sections(s *spec.Sections) *spec.Sections {
	if m == nil || s == nil {
		return s
	}
	return &spec.Sections{Desired: m.json(s.Desired), Tags: m.json(s.Tags)}
}

// row masks all of a row that comes from the plan, a twin or a device.
func (m *mask) row(r *spec.Row) *spec.Row {
	if m == nil {
		return r
	}
	row := *r
	if row.Method != nil {
		row.Method = &spec.MethodResult{Status: row.Method.Status, Payload: m.json(row.Method.Payload)}
	}
	if t := row.Twin; t != nil {
		row.Twin = &spec.TwinResult{Before: m.sections(t.Before), Patch: m.sections(t.Patch), Version: t.Version, ETag: t.ETag}
	}
	row.Error = m.rowError(row.Error)
	row.History = slices.Clone(row.History)
	for i := range row.History {
		row.History[i].Error = m.rowError(row.History[i].Error)
	}
	return &row
}

func (m *mask) rowError(e *spec.RowError) *spec.RowError {
	if e == nil {
		return nil
	}
	clean := *e
	clean.Message = m.text(e.Message)
	return &clean
}
