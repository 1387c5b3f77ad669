package runner

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// item is a target on its way through a job: between its listing and its
// outcome. Exactly one goroutine has it at a time.
type item struct {
	cohort.Key
	index    uint32        // in the cohort
	sight    *target.Sight // the twin as the query page showed it; nil if it did not
	attempts int           // made so far
	rereads  int           // how often the twin had changed under our hands
	spent    int           // of those, how many count against retry.attempts
	began    time.Time     // when the first request was made; zero until then
	last     decide.Verdict
	unsure   bool // an attempt of ours may have had an effect that we did not see
	err      *hub.Error
	expired  bool        // the last attempt found the token expired
	away     bool        // it is offline, and waited for
	excuse   pace.Excuse // of attempts that found the hub not ready
	history  []spec.Attempt
	due      time.Time // when to try again

	// What an earlier run left of a target that is done again. It stands until
	// something newer is known.
	was    spec.Outcome     // empty for a target that had not ended
	row    *spec.Row        // nil if it had none
	line   journal.Position // of the row, or noLine
	before int              // attempts that it tells of
	noted  int              // attempts that the row in line tells of, which this run may have written

	// doubt is what a patch meant to do whose answer never came. Should the
	// twin turn out as wanted later, it was that patch.
	doubt *spec.TwinResult

	// confirm is set once the change was accepted and the device is to report it;
	// its row is in row and in line then.
	confirm *spec.Confirmation
	proving bool // a worker is to look whether the device has
	watched int  // its place among those that are waited for
}

// verdictOf a finished item: what the dispatcher needs to settle or requeue it.
type finished struct {
	*item
	outcome  spec.Outcome     // empty: try again at item.due; its line tells of it so far
	line     journal.Position // of its row
	latency  time.Duration    // of the last answered attempt; 0 if there was none
	attempts int              // made in this pass
	retries  int              // of those, all but the first for the item
	applied  time.Duration    // from the accepted change until it was reported; 0 without confirm
	abort    error            // the run must end
}

// counted is what came of an item in a pass before which so many attempts were made.
func (it *item) counted(f finished, before int) finished {
	f.item = it
	f.attempts = it.attempts - before
	f.retries = max(0, it.attempts-max(1, before)) // all but the first one ever
	return f
}

// Bounds of a row's history: a device that is waited for over days must not
// take more memory than others.
const (
	historyHead = 8
	historyTail = 8
)

// record adds an attempt to the row's history. Of very many, the first and the
// last are kept.
func (it *item) record(began time.Time, took time.Duration, err *hub.Error) {
	a := spec.Attempt{
		Attempt: it.attempts, StartedAt: spec.Time{Time: began}, DurationMs: took.Milliseconds(),
	}
	if err == nil {
		a.HTTPStatus = 200
	} else {
		a.HTTPStatus = err.StatusCode
		a.Error = rowError(err)
	}
	if len(it.history) == historyHead+historyTail {
		copy(it.history[historyHead:], it.history[historyHead+1:])
		it.history = it.history[:len(it.history)-1]
	}
	it.history = append(it.history, a)
}

func rowError(e *hub.Error) *spec.RowError {
	message := e.Message
	if message == "" {
		message = e.Error()
	}
	return &spec.RowError{
		Kind: e.Kind.String(), Code: e.Code, Name: e.Name, HTTPStatus: e.StatusCode,
		TrackingID: e.TrackingID, Message: message,
	}
}

// oneLine returns v without line breaks, because a journal has one record a line,
// and in UTF-8, because a report is.
func oneLine(v json.RawMessage) json.RawMessage {
	if !utf8.Valid(v) {
		v = bytes.ToValidUTF8(v, []byte("\uFFFD"))
	}
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return v
	}
	var b bytes.Buffer
	if err := json.Compact(&b, v); err != nil {
		return json.RawMessage("null") // not JSON, and not ours to repair
	}
	return b.Bytes()
}
