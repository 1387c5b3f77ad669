package runner

import (
	"encoding/json"
	"strconv"

	"iothub-runner/spec"
)

// appendRow appends a row's JSON, the same that encoding/json makes of it. The
// rows are most of what a run writes, so they are written without reflection.
func appendRow(b []byte, r *spec.Row) []byte {
	b = append(b, '{')
	if r.Hub != "" {
		b = append(appendString(append(b, `"hub":`...), r.Hub), ',')
	}
	b = appendString(append(b, `"deviceId":`...), r.DeviceID)
	if r.ModuleID != "" {
		b = appendString(append(b, `,"moduleId":`...), r.ModuleID)
	}
	b = appendString(append(b, `,"outcome":`...), string(r.Outcome))
	if r.StartedAt != nil {
		b = appendTime(append(b, `,"startedAt":`...), *r.StartedAt)
	}
	if r.EndedAt != nil {
		b = appendTime(append(b, `,"endedAt":`...), *r.EndedAt)
	}
	if r.ConfirmedAt != nil {
		b = appendTime(append(b, `,"confirmedAt":`...), *r.ConfirmedAt)
	}
	b = append(b, `,"attempts":`...)
	b = strconv.AppendInt(b, int64(r.Attempts), 10)
	if r.Confirm != nil {
		b = appendJSON(append(b, `,"confirm":`...), r.Confirm)
	}
	if m := r.Method; m != nil {
		b = append(b, `,"method":{"status":`...)
		b = strconv.AppendInt(b, int64(m.Status), 10)
		b = append(b, `,"payload":`...)
		if m.Payload == nil {
			b = append(b, "null"...)
		}
		b = append(append(b, m.Payload...), '}')
	}
	if r.Twin != nil {
		b = appendTwin(append(b, `,"twin":`...), r.Twin)
	}
	if r.Error != nil {
		b = appendJSON(append(b, `,"error":`...), r.Error)
	}
	if len(r.History) > 0 {
		b = appendJSON(append(b, `,"history":`...), r.History)
	}
	return append(b, '}')
}

func appendTwin(b []byte, t *spec.TwinResult) []byte {
	lead := byte('{')
	next := func(key string) {
		b = append(b, lead)
		b = append(append(append(b, '"'), key...), '"', ':')
		lead = ','
	}
	if t.Before != nil {
		next("before")
		b = appendSections(b, t.Before)
	}
	if t.Patch != nil {
		next("patch")
		b = appendSections(b, t.Patch)
	}
	if t.Version != 0 {
		next("version")
		b = strconv.AppendInt(b, t.Version, 10)
	}
	if t.ETag != "" {
		next("etag")
		b = appendString(b, t.ETag)
	}
	if lead == '{' {
		b = append(b, '{')
	}
	return append(b, '}')
}

func appendSections(b []byte, s *spec.Sections) []byte {
	b = append(b, '{')
	if s.Desired != nil {
		b = append(append(b, `"desired":`...), s.Desired...)
	}
	if s.Tags != nil {
		if s.Desired != nil {
			b = append(b, ',')
		}
		b = append(append(b, `"tags":`...), s.Tags...)
	}
	return append(b, '}')
}

func appendTime(b []byte, t spec.Time) []byte {
	b = append(b, '"')
	b, err := t.AppendText(b)
	if err != nil {
		panic("a time always has a text form: " + err.Error())
	}
	return append(b, '"')
}

// appendString appends s as JSON. Nearly all of ours are plain ASCII.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendJSON(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("a row always has a JSON form: " + err.Error())
	}
	return append(b, text...)
}
