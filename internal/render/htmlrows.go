package render

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/fold"
	"iothub-runner/spec"
)

const (
	// tableRows is up to how many rows the table of a page has all of them.
	tableRows = 100_000
	// tableLeast is how many of those that went well it has at least.
	tableLeast = 1_000
	// tableText is how much of an answer or an error it shows.
	tableText = 400
)

// sample says which rows the table of a page has: all, or those that did not go well
// and some of the others.
type sample struct {
	rep        *spec.Report
	every      int // of those that went well, one in so many
	good, seen int
	bad        int
}

func newSample(rep *spec.Report) *sample {
	s := &sample{rep: rep, every: 1}
	for o, n := range rep.Summary.Outcomes {
		if wellDone(o) {
			s.good += n
		} else {
			s.bad += n
		}
	}
	if room := max(tableLeast, tableRows-s.bad); s.good+s.bad > tableRows {
		s.every = (s.good + room - 1) / room
	}
	return s
}

// note says what the table leaves out; empty for nothing.
func (s *sample) note() string {
	if s.every <= 1 {
		return ""
	}
	return fmt.Sprintf("Of %s rows the table has all %s that did not go well, and one in %d of the others. The JSON report has them all.", thousands(s.good+s.bad), thousands(s.bad), s.every)
}

// takes tells whether the table has the next row, which ended so.
func (s *sample) takes(o spec.Outcome) bool {
	if !wellDone(o) {
		return true
	}
	s.seen++
	return (s.seen-1)%s.every == 0
}

// write writes the rows as the page's script reads them. It stands within a script
// element, so no text of a device may end that: < is written as an escape.
func (s *sample) write(out *bufio.Writer, d spec.Document) error {
	head := struct {
		Began    spec.Time      `json:"began"`
		Jobs     []string       `json:"jobs"`
		Hubs     []string       `json:"hubs"`
		Outcomes []spec.Outcome `json:"outcomes"`
	}{Began: s.rep.Run.StartedAt, Hubs: strings.Split(s.rep.Run.Hub, ", "), Outcomes: spec.Outcomes()}
	for i := range s.rep.Jobs {
		head.Jobs = append(head.Jobs, s.rep.Jobs[i].Name)
	}
	hubs, outcomes := map[string]int{}, map[spec.Outcome]int{}
	for i, h := range head.Hubs {
		hubs[h] = i
	}
	for i, o := range head.Outcomes {
		outcomes[o] = i
	}
	text, err := json.Marshal(head) // which escapes <
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	fmt.Fprintf(out, "%s,\"rows\":[", text[:len(text)-1])
	before := "\n"
	for job := range s.rep.Jobs {
		err = d.Rows(job, func(text []byte) error {
			row := fold.Look(text)
			if !s.takes(row.Outcome) {
				return nil
			}
			start, took := int64(-1), time.Duration(0)
			if !row.Began.IsZero() {
				start, took = row.Began.Sub(s.rep.Run.StartedAt.Time).Milliseconds(), row.Ended.Sub(row.Began)
			}
			cells, cellErr := json.Marshal([]any{job, row.Target, hubs[row.Hub], outcomes[row.Outcome], row.Attempts, start, took.Milliseconds(), Clip(sayFast(text), tableText)})
			if cellErr == nil {
				_, _ = out.WriteString(before) // the next write returns the error
				before = ",\n"
				_, cellErr = out.Write(cells)
			}
			return cellErr
		})
		if err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	_, err = out.WriteString("]}")
	return err
}

// sayFast is say without decoding the whole row.
func sayFast(text []byte) string {
	row := spec.Row{Outcome: spec.Outcome(gjson.GetBytes(text, "outcome").Str)}
	found := gjson.GetManyBytes(text, "error", "method", "twin.patch")
	if e := found[0]; e.Exists() {
		row.Error = &spec.RowError{Kind: e.Get("kind").Str, Code: int(e.Get("code").Int()), Name: e.Get("name").Str, Message: e.Get("message").Str}
	}
	if m := found[1]; m.Exists() {
		row.Method = &spec.MethodResult{Status: int(m.Get("status").Int()), Payload: json.RawMessage(m.Get("payload").Raw)}
	}
	if p := found[2]; p.Exists() {
		row.Twin = &spec.TwinResult{Patch: &spec.Sections{Desired: json.RawMessage(p.Get("desired").Raw), Tags: json.RawMessage(p.Get("tags").Raw)}}
	}
	return say(&row)
}
