package hubclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/hub"
)

// The answers are read by scanning their top level: nothing is decoded that
// nobody asked for, and no maps are made. Every body is checked to be JSON
// first, because the scanner itself forgives what is not.

var errNotJSON = errors.New("the body is not JSON")

func parse(body []byte) (gjson.Result, error) {
	if !valid(body) {
		return gjson.Result{}, errNotJSON
	}
	return gjson.ParseBytes(body), nil
}

// maxDepth is how deep the standard library reads JSON, and so do we.
const maxDepth = 10_000

// valid tells whether body is JSON. The fast scanner recurses without a bound,
// and an answer of brackets alone would end the process; what has that many of
// them is left to the standard library, which refuses.
func valid(body []byte) bool {
	if bytes.Count(body, []byte{'['})+bytes.Count(body, []byte{'{'}) > maxDepth {
		return json.Valid(body)
	}
	return gjson.ValidBytes(body)
}

// decodePage reads the array of a query's answer. All strings of a page share
// its one copy of the body.
func decodePage(body []byte) ([]hub.Row, error) {
	page, err := parse(body)
	if err != nil {
		return nil, err
	}
	if !page.IsArray() {
		return nil, errors.New("a query's answer is not an array")
	}
	var rows []hub.Row
	page.ForEach(func(_, item gjson.Result) bool {
		var row hub.Row
		if row, err = decodeRow(item); err != nil {
			err = fmt.Errorf("row %d: %w", len(rows)+1, err)
			return false
		}
		if rows == nil {
			rows = make([]hub.Row, 0, 1+len(page.Raw)/max(1, len(item.Raw)))
		}
		rows = append(rows, row)
		return true
	})
	return rows, err
}

// decodeRow reads one row. Which letter case the hub gives a selected key has
// changed over the years, so keys are compared without it.
func decodeRow(item gjson.Result) (hub.Row, error) {
	var row hub.Row
	if !item.IsObject() {
		return row, errors.New("not an object")
	}
	item.ForEach(func(key, value gjson.Result) bool {
		switch {
		case strings.EqualFold(key.Str, "deviceId"):
			row.DeviceID = value.Str
		case strings.EqualFold(key.Str, "moduleId"):
			row.ModuleID = value.Str
		case strings.EqualFold(key.Str, "etag"):
			row.ETag = value.Str
		case strings.EqualFold(key.Str, "lastActivityTime"):
			row.Seen = parseTime(value.Str)
		case strings.EqualFold(key.Str, "tags"):
			row.Tags = object(value)
		case strings.EqualFold(key.Str, "desired"):
			row.Desired = object(value)
		case strings.EqualFold(key.Str, "reported"):
			row.Reported = object(value)
		}
		return true
	})
	if row.DeviceID == "" {
		return row, errors.New("no deviceId")
	}
	return row, nil
}

// parseTime reads a time, with or without a zone; zero for one that never was.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339, strings.TrimSuffix(text, "Z")+"Z")
	if err != nil {
		return time.Time{}
	}
	return t
}

// object returns the text of an object, nil for anything else.
func object(value gjson.Result) json.RawMessage {
	if !value.IsObject() {
		return nil
	}
	return json.RawMessage(value.Raw)
}

// decodeTwin reads a twin with its sections.
func decodeTwin(body []byte) (hub.Twin, error) {
	return scanTwin(body, true)
}

func scanTwin(body []byte, sections bool) (hub.Twin, error) {
	var t hub.Twin
	doc, err := parse(body)
	if err != nil {
		return t, err
	}
	if !doc.IsObject() {
		return t, errors.New("a twin is not an object")
	}
	doc.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "etag":
			t.ETag = value.Str
		case "version":
			t.Version = value.Int()
		case "tags":
			if sections {
				t.Tags = object(value)
			}
		case "properties":
			if sections {
				t.Desired = object(value.Get("desired"))
				t.Reported = object(value.Get("reported"))
			}
		}
		return true
	})
	if t.ETag == "" {
		return t, errors.New("the twin has no etag")
	}
	return t, nil
}

// decodeAnswer reads what a device answered. A payload that is missing is one
// that is null; a status that is missing is no answer.
func decodeAnswer(body []byte) (hub.Answer, error) {
	var a hub.Answer
	doc, err := parse(body)
	if err != nil {
		return a, err
	}
	var status string
	a.Payload = json.RawMessage("null")
	doc.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "status":
			status = value.Raw
		case "payload":
			a.Payload = json.RawMessage(value.Raw)
		}
		return true
	})
	if a.Status, err = strconv.Atoi(status); err != nil {
		return a, errors.New("the answer has no integer status")
	}
	return a, nil
}
