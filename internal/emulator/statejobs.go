package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// stateJob is a job as the state file keeps it. What it does is read again
// from the body that made it.
type stateJob struct {
	ID      string          `json:"id"`
	Body    json.RawMessage `json:"body"`
	Created time.Time       `json:"created"`
	Start   time.Time       `json:"start"`
	Status  string          `json:"status"`
	Failure string          `json:"failure,omitempty"`
	Ended   time.Time       `json:"ended,omitzero"`
	Begun   bool            `json:"begun,omitempty"` // its devices are known
	Rows    []stateRow      `json:"rows,omitempty"`
}

type stateRow struct {
	Device  string          `json:"device"`
	Module  string          `json:"module,omitempty"`
	Updated int64           `json:"updated"`
	State   rowState        `json:"state"`
	Status  int32           `json:"status,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Code    string          `json:"code,omitempty"`
	Text    string          `json:"text,omitempty"`
}

func (j *job) keep() *stateJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	kept := &stateJob{
		ID: j.id, Body: json.RawMessage(j.body), Created: j.created, Start: j.start,
		Status: j.status, Failure: j.failure, Ended: j.ended, Begun: j.rows != nil,
	}
	for i := range j.rows {
		r := &j.rows[i]
		row := stateRow{Device: j.deviceOf(r), Module: r.module, Updated: r.updated, State: r.state, Status: r.status, Answer: r.answer}
		if r.refused != nil {
			row.Code, row.Text = r.refused.name, r.refused.text
		}
		kept.Rows = append(kept.Rows, row)
	}
	return kept
}

// restoreJob puts a job back and lets it go on.
func (s *Server) restoreJob(k *stateJob) error {
	j, refusal := s.parseJob(k.ID, k.Body)
	if refusal != nil {
		return fmt.Errorf("job %q: %w", k.ID, refusal)
	}
	if !slices.Contains([]string{jobQueued, jobScheduled, jobRunning, jobCompleted, jobFailed, jobCancelled}, k.Status) {
		return fmt.Errorf("job %q: no such status %q", k.ID, k.Status)
	}
	j.created, j.start, j.status, j.failure, j.ended = k.Created, k.Start, k.Status, k.Failure, k.Ended
	if k.Begun {
		j.rows = make([]jobRow, 0, len(k.Rows))
	}
	for _, r := range k.Rows {
		if r.State >= rowStates {
			return errors.New("a row of job " + k.ID + " has no state")
		}
		j.rows = append(j.rows, s.restoreRow(r))
		j.counts[r.State]++
	}
	s.schedules.add(j)
	switch {
	case !j.ended.IsZero():
	case k.Begun:
		s.clock.at(s.clock.now(), j.goOn)
	default:
		if j.status == jobRunning {
			j.status = jobQueued // it had not come as far as its devices
		}
		s.clock.at(later(j.start, s.clock.now()), s.schedules.startWaiting)
	}
	return nil
}

func (s *Server) restoreRow(r stateRow) jobRow {
	row := jobRow{device: r.Device, module: r.Module, updated: r.Updated, state: r.State, status: r.Status, answer: r.Answer}
	if d, ok := s.store.find(r.Device); ok {
		row.slot = d.slot
	}
	if r.Code != "" {
		row.refused = &apiError{name: r.Code, text: r.Text}
	}
	return row
}

// goOn continues a job after a restart. Calls that were under way have no
// answer any more, and nobody knows whether their devices ran them.
func (j *job) goOn() {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.server.clock.now()
	lost := &apiError{name: "GatewayTimeout", text: "Timed out waiting for the response from device."}
	j.next = len(j.rows)
	j.credit, j.polled = now, now.Add(-jobPoll)
	for n := range j.rows {
		switch j.rows[n].state {
		case rowRunning:
			j.settle(n, methodAnswer{}, lost, now)
		case rowPending:
			j.waiting = append(j.waiting, n)
		case rowCompleted, rowFailed, rowCanceled, rowStates:
		}
	}
	j.step()
}
