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

// stateStep is what changed in a job: its status, or one of its rows.
type stateStep struct {
	Job     string    `json:"job"`
	Status  string    `json:"status,omitempty"`
	Failure string    `json:"failure,omitempty"`
	Ended   time.Time `json:"ended,omitzero"`
	At      int       `json:"at,omitempty"` // of Row
	Row     *stateRow `json:"row,omitempty"`
}

// keptJobs are jobs as they are read: whole ones, then their steps.
type keptJobs struct {
	list []*stateJob
	byID map[string]*stateJob
}

// take adds a job. It may stand there again, with its devices or because the
// one before was forgotten.
func (k *keptJobs) take(j *stateJob) {
	if k.byID == nil {
		k.byID = map[string]*stateJob{}
	}
	if k.byID[j.ID] != nil {
		*k.byID[j.ID] = *j
		return
	}
	k.list, k.byID[j.ID] = append(k.list, j), j
}

// step changes a job. One that is not there was forgotten before the state was
// written.
func (k *keptJobs) step(p *stateStep) error {
	j := k.byID[p.Job]
	switch {
	case j == nil:
		return nil
	case p.Row == nil:
		j.Status, j.Failure, j.Ended = p.Status, p.Failure, p.Ended
		return nil
	case p.At < 0 || p.At >= len(j.Rows):
		return fmt.Errorf("job %q has no row %d", p.Job, p.At)
	}
	j.Rows[p.At] = *p.Row
	return nil
}

func (s *Server) restoreJobs(k *keptJobs) error {
	for _, j := range k.list {
		if err := s.restoreJob(j); err != nil {
			return fmt.Errorf("read the state in %q: %w", s.opts.StateFile, err)
		}
	}
	return nil
}

// noteStatus keeps the job's status. It is called with mu held.
func (j *job) noteStatus() {
	if j.server.stateLog != nil {
		j.server.stateLog.note(stateLine{Step: &stateStep{Job: j.id, Status: j.status, Failure: j.failure, Ended: j.ended}})
	}
}

// noteRow keeps a row as it is. It is called with mu held, before a device is
// called: after a crash nobody is called twice.
func (j *job) noteRow(n int) {
	if j.server.stateLog != nil {
		row := j.keepRow(n)
		j.server.stateLog.note(stateLine{Step: &stateStep{Job: j.id, At: n, Row: &row}})
	}
}

// noteWhole keeps the job with all its rows. It is called with mu held.
func (j *job) noteWhole() {
	if j.server.stateLog != nil {
		j.server.stateLog.note(stateLine{Job: j.keepLocked()})
	}
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
	return j.keepLocked()
}

func (j *job) keepLocked() *stateJob {
	kept := &stateJob{
		ID: j.id, Body: json.RawMessage(j.body), Created: j.created, Start: j.start,
		Status: j.status, Failure: j.failure, Ended: j.ended, Begun: j.rows != nil,
	}
	for n := range j.rows {
		kept.Rows = append(kept.Rows, j.keepRow(n))
	}
	return kept
}

func (j *job) keepRow(n int) stateRow {
	r := &j.rows[n]
	row := stateRow{Device: j.deviceOf(r), Module: r.module, Updated: r.updated, State: r.state, Status: r.status, Answer: r.answer}
	if r.refused != nil {
		row.Code, row.Text = r.refused.name, r.refused.text
	}
	return row
}

// restoreJob puts a job back and lets it go on.
func (s *Server) restoreJob(k *stateJob) error {
	j, refusal := s.parseJob(k.ID, k.Body, true)
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
	j.readWrite()
	j.next = len(j.rows)
	j.polled = now.Add(-jobPoll)
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
