// Package mask takes the values of sensitive variables out of what is written
// down or shown.
package mask

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// Mask takes the values of sensitive variables out of what is written down or
// shown: what a patch sends, what a twin had, what a device answers. A nil mask
// takes out nothing.
type Mask struct{ secrets []string }

// masked stands for a secret.
const masked = "***"

// New returns the mask of a plan, nil if it has no secret. The longest comes
// first: another may be a part of it.
func New(plan *spec.Plan) *Mask {
	m := &Mask{}
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

// Text takes the secrets out of a text.
func (m *Mask) Text(s string) string {
	if m == nil {
		return s
	}
	for _, secret := range m.secrets {
		s = strings.ReplaceAll(s, secret, masked)
	}
	return s
}

// JSON takes them out of a JSON text: from the texts in it, however they are
// escaped, and a number or boolean that is one becomes a text.
func (m *Mask) JSON(v json.RawMessage) json.RawMessage {
	if m == nil || len(v) == 0 {
		return v
	}
	return m.value(nil, gjson.ParseBytes(v))
}

func (m *Mask) value(b []byte, v gjson.Result) []byte {
	switch {
	case v.Type == gjson.String:
		if clean := m.Text(v.Str); clean != v.Str {
			return gjson.AppendJSONString(b, clean)
		}
	case v.IsObject() || v.IsArray():
		return m.members(b, v)
	case slices.Contains(m.secrets, v.Raw):
		return gjson.AppendJSONString(b, masked)
	}
	return append(b, v.Raw...)
}

// members masks what an object or an array holds.
func (m *Mask) members(b []byte, v gjson.Result) []byte {
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

// Sections masks the sections of a twin.
func (m *Mask) Sections(s *spec.Sections) *spec.Sections {
	if m == nil || s == nil {
		return s
	}
	return &spec.Sections{Desired: m.JSON(s.Desired), Tags: m.JSON(s.Tags)}
}

// Row masks all of a row that comes from the plan, a twin or a device.
func (m *Mask) Row(r *spec.Row) *spec.Row {
	if m == nil {
		return r
	}
	row := *r
	if row.Method != nil {
		row.Method = &spec.MethodResult{Status: row.Method.Status, Payload: m.JSON(row.Method.Payload)}
	}
	if t := row.Twin; t != nil {
		row.Twin = &spec.TwinResult{Before: m.Sections(t.Before), Patch: m.Sections(t.Patch), Version: t.Version, ETag: t.ETag}
	}
	row.Error = m.rowError(row.Error)
	row.History = slices.Clone(row.History)
	for i := range row.History {
		row.History[i].Error = m.rowError(row.History[i].Error)
	}
	return &row
}

func (m *Mask) rowError(e *spec.RowError) *spec.RowError {
	if e == nil {
		return nil
	}
	clean := *e
	clean.Message = m.Text(e.Message)
	return &clean
}
