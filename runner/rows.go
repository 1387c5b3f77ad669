package runner

import (
	"io"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// rowReader finds the rows of a job in a journal.
type rowReader struct {
	all   *cohort.Cohort
	in    io.ReaderAt
	lines *journal.RowReader
	hubs  []string     // where the plan has several
	byHub bool         // the hub's Jobs service carries the job out
	lost  []error      // why a hub cannot be used any more
	dead  func() error // why the journal cannot be read, if that is so
	made  []byte
}

func newRowReader(l *ledger) *rowReader {
	rr := &rowReader{all: l.roster.Cohort, in: l.journal, lines: journal.NewRowReader(l.journal), byHub: l.byHub(), lost: l.lost, dead: l.journal.Err}
	for _, p := range l.roster.Pools {
		rr.hubs = append(rr.hubs, p.Name)
	}
	return rr
}

// each yields the rows in the order of reports.
func (rr *rowReader) each(yield func(row []byte) error) error {
	for _, index := range rr.all.Sorted() {
		row, err := rr.row(index)
		if err != nil {
			return err
		}
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

// row returns the row of a target, good until the next call.
func (rr *rowReader) row(index uint32) ([]byte, error) {
	e := rr.all.At(index)
	outcome := soFar(e)
	switch {
	case e.Position() == cohort.NoLine:
		return rr.bare(index), nil
	case e.Begun():
		return rr.begun(index)
	}
	row, err := rr.lines.Row(e.Position())
	if err != nil && rr.dead() != nil {
		return rr.bare(index), nil //nolint:nilerr // the journal broke before the line was in it; the outcome is known all the same
	}
	if err != nil && outcome == spec.OutcomeUnanswered {
		return rr.begun(index)
	}
	if err == nil && outcome == spec.OutcomeFailed && rr.lostHub(index) != nil {
		return rr.left(index, row)
	}
	return row, err
}

// soFar is how a target has ended, or would if the run ended now.
func soFar(e *cohort.Entry) spec.Outcome {
	if o, ended := e.Outcome(); ended {
		return o
	}
	if was, again := e.Reopened(); again {
		return was
	}
	if e.Begun() {
		return spec.OutcomeUnanswered
	}
	return spec.OutcomeNotReached
}

func (rr *rowReader) lostHub(index uint32) error {
	if rr.lost == nil {
		return nil
	}
	return rr.lost[rr.all.Pool(index)]
}

// left makes the row of a target whose hub was lost while it was to be tried again.
// The journal has it as one that was not reached, so that a run that goes on with this
// one has another go at it.
func (rr *rowReader) left(index uint32, line []byte) ([]byte, error) {
	if headOf(line).outcome != spec.OutcomeNotReached {
		return line, nil
	}
	row, err := parseRow(line, &item{Key: rr.all.Target(index)})
	if err != nil {
		return nil, err
	}
	row.Outcome, row.Error = spec.OutcomeFailed, errorOfLoss(rr.lostHub(index))
	rr.made = appendRow(rr.made[:0], row)
	return rr.made, nil
}

// errorOfLoss is the error of a row whose hub was lost.
func errorOfLoss(err error) *spec.RowError {
	return &spec.RowError{Kind: "hubLost", Message: "the hub cannot be used, and nothing was done for this device: " + causeOfLoss(err)}
}

// begun makes the row of a target of which an earlier run left no more than an
// intent, and to which this one did not get.
func (rr *rowReader) begun(index uint32) ([]byte, error) {
	intent, err := journal.ReadIntent(rr.in, rr.all.At(index).Position())
	if err != nil {
		return nil, err
	}
	row, at := rr.rowOf(index), spec.Time{Time: intent.At}
	row.StartedAt, row.EndedAt, row.Attempts = &at, &at, intent.Attempt
	row.Error = rowError(errForgotten())
	row.History = []spec.Attempt{{Attempt: intent.Attempt, StartedAt: at, Error: row.Error}}
	if len(intent.Patch) > 0 {
		row.Twin = &spec.TwinResult{Before: parseSections(intent.Before), Patch: parseSections(intent.Patch)}
	}
	rr.made = appendRow(rr.made[:0], row)
	return rr.made, nil
}

// bare makes the row of a target that has no line in the journal: nothing was
// ever sent for it, or the journal broke before the line was in it.
func (rr *rowReader) bare(index uint32) []byte {
	rr.made = appendRow(rr.made[:0], rr.rowOf(index))
	return rr.made
}

func (rr *rowReader) rowOf(index uint32) *spec.Row {
	key, outcome := rr.all.Target(index), soFar(rr.all.At(index))
	row := &spec.Row{DeviceID: key.DeviceID, ModuleID: key.ModuleID, Outcome: outcome}
	if rr.byHub && outcome == spec.OutcomeUnanswered {
		row.Error = &spec.RowError{Kind: "hubJob", Message: "the run ended before the job of the hub had; resume it to learn what became of this device"}
	}
	if outcome == spec.OutcomeFailed && rr.lostHub(index) != nil {
		row.Error = errorOfLoss(rr.lostHub(index))
	}
	if len(rr.hubs) > 1 {
		row.Hub = rr.hubs[key.Pool]
	}
	return row
}
