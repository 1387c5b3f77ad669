package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
)

// Kept is a job as the state file keeps it. What it does is read again
// from the body that made it.
type Kept struct {
	ID      string          `json:"id"`
	Body    json.RawMessage `json:"body"`
	Created time.Time       `json:"created"`
	Start   time.Time       `json:"start"`
	Status  string          `json:"status"`
	Failure string          `json:"failure,omitempty"`
	Ended   time.Time       `json:"ended,omitzero"`
	Begun   bool            `json:"begun,omitempty"` // its devices are known
	Rows    []KeptRow       `json:"rows,omitempty"`
}

// KeptStep is what changed in a job: its status, or one of its rows.
type KeptStep struct {
	Job     string    `json:"job"`
	Status  string    `json:"status,omitempty"`
	Failure string    `json:"failure,omitempty"`
	Ended   time.Time `json:"ended,omitzero"`
	At      int       `json:"at,omitempty"` // of Row
	Row     *KeptRow  `json:"row,omitempty"`
}

// KeptJobs are jobs as they are read: whole ones, then their steps.
type KeptJobs struct {
	list []*Kept
	byID map[string]*Kept
}

// Take adds a job. It may stand there again, with its devices or because the
// one before was forgotten.
func (k *KeptJobs) Take(j *Kept) {
	if k.byID == nil {
		k.byID = map[string]*Kept{}
	}
	if k.byID[j.ID] != nil {
		*k.byID[j.ID] = *j
		return
	}
	k.list, k.byID[j.ID] = append(k.list, j), j
}

// Step changes a job. One that is not there was forgotten before the state was
// written.
func (k *KeptJobs) Step(p *KeptStep) error {
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

// RestoreJobs puts back what was kept.
func (s *Schedules) RestoreJobs(k *KeptJobs) error {
	for _, j := range k.list {
		if err := s.restoreJob(j); err != nil {
			return err
		}
	}
	return nil
}

// noteStatus keeps the job's status. It is called with mu held.
func (j *Job) noteStatus() {
	if j.server.NoteJob != nil {
		j.server.NoteStep(&KeptStep{Job: j.ID, Status: j.status, Failure: j.failure, Ended: j.ended})
	}
}

// noteRow keeps a row as it is. It is called with mu held, before a device is
// called: after a crash nobody is called twice.
func (j *Job) noteRow(n int) {
	if j.server.NoteJob != nil {
		row := j.keepRow(n)
		j.server.NoteStep(&KeptStep{Job: j.ID, At: n, Row: &row})
	}
}

// noteWhole keeps the job with all its rows. It is called with mu held.
func (j *Job) noteWhole() {
	if j.server.NoteJob != nil {
		j.server.NoteJob(j.keepLocked())
	}
}

// KeptRow is a row of a job there.
type KeptRow struct {
	Device  string          `json:"device"`
	Module  string          `json:"module,omitempty"`
	Updated int64           `json:"updated"`
	State   rowState        `json:"state"`
	Status  int32           `json:"status,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Code    string          `json:"code,omitempty"`
	Text    string          `json:"text,omitempty"`
}

// Keep returns the job as the state file has it.
func (j *Job) Keep() *Kept {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	return j.keepLocked()
}

func (j *Job) keepLocked() *Kept {
	kept := &Kept{
		ID: j.ID, Body: json.RawMessage(j.body), Created: j.created, Start: j.start,
		Status: j.status, Failure: j.failure, Ended: j.ended, Begun: j.Rows != nil,
	}
	for n := range j.Rows {
		kept.Rows = append(kept.Rows, j.keepRow(n))
	}
	return kept
}

func (j *Job) keepRow(n int) KeptRow {
	r := &j.Rows[n]
	row := KeptRow{Device: j.deviceOf(r), Module: r.module, Updated: r.updated, State: r.state, Status: r.status, Answer: r.answer}
	if r.refused != nil {
		row.Code, row.Text = r.refused.Name, r.refused.Text
	}
	return row
}

// restoreJob puts a job back and lets it go on.
func (s *Schedules) restoreJob(k *Kept) error {
	j, refusal := s.ParseJob(k.ID, k.Body, true)
	if refusal != nil {
		return fmt.Errorf("job %q: %w", k.ID, refusal)
	}
	if !slices.Contains([]string{Queued, jobScheduled, jobRunning, jobCompleted, jobFailed, jobCancelled}, k.Status) {
		return fmt.Errorf("job %q: no such status %q", k.ID, k.Status)
	}
	j.created, j.start, j.status, j.failure, j.ended = k.Created, k.Start, k.Status, k.Failure, k.Ended
	if k.Begun {
		j.Rows = make([]Row, 0, len(k.Rows))
	}
	for _, r := range k.Rows {
		if r.State >= rowStates {
			return errors.New("a row of job " + k.ID + " has no state")
		}
		j.Rows = append(j.Rows, s.restoreRow(r))
		j.counts[r.State]++
	}
	s.add(j)
	switch {
	case !j.ended.IsZero():
	case k.Begun:
		s.Clock.At(s.Clock.Now(), j.goOn)
	default:
		if j.status == jobRunning {
			j.status = Queued // it had not come as far as its devices
		}
		s.Clock.At(core.Later(j.start, s.Clock.Now()), s.startWaiting)
	}
	return nil
}

func (s *Schedules) restoreRow(r KeptRow) Row {
	row := Row{device: r.Device, module: r.Module, updated: r.Updated, state: r.State, status: r.Status, answer: r.Answer}
	if d, ok := s.Store.Find(r.Device); ok {
		row.slot = d.Slot
	}
	if r.Code != "" {
		row.refused = &refuse.Error{Name: r.Code, Text: r.Text}
	}
	return row
}

// goOn continues a job after a restart. Calls that were under way have no
// answer any more, and nobody knows whether their devices ran them.
func (j *Job) goOn() {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	now := j.server.Clock.Now()
	lost := &refuse.Error{Name: "GatewayTimeout", Text: "Timed out waiting for the response from device."}
	j.readWrite()
	j.next = len(j.Rows)
	j.polled = now.Add(-jobPoll)
	for n := range j.Rows {
		switch j.Rows[n].state {
		case rowRunning:
			j.settle(n, core.MethodAnswer{}, lost, now)
		case rowPending:
			j.waiting = append(j.waiting, n)
		case rowCompleted, rowFailed, rowCanceled, rowStates:
		}
	}
	j.Step()
}
