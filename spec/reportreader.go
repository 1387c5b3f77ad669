package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrNotReport means that a file is no report of a run, or one of a format that
// this version does not read.
var ErrNotReport = errors.New("it is not a report that this version of runner reads")

// ReportReader reads a report as a stream, so that one over a million devices
// takes no memory to speak of. The keys must stand in the order in which runner
// writes them.
type ReportReader struct {
	Run Run // read when the reader is made

	in      *json.Decoder
	opened  bool // the list of jobs
	inRows  bool
	row     json.RawMessage
	summary Summary
}

// NewReportReader reads a report up to what it says of the run. The error is
// [ErrNotReport] for a file that is none.
func NewReportReader(r io.Reader) (*ReportReader, error) {
	rr := &ReportReader{in: json.NewDecoder(r)}
	var schema string
	if rr.token(json.Delim('{')) != nil || rr.field("schema", &schema) != nil || schema != ReportSchema {
		return nil, ErrNotReport
	}
	return rr, rr.field("run", &rr.Run)
}

// Job returns the next job, without its rows, and [io.EOF] after the last one.
// Rows of the job before that were not read are skipped.
func (rr *ReportReader) Job() (*JobReport, error) {
	if err := rr.open(); err != nil {
		return nil, err
	}
	for rr.inRows {
		if _, err := rr.rawRow(); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if !rr.in.More() {
		return nil, rr.end()
	}
	if err := rr.token(json.Delim('{')); err != nil {
		return nil, err
	}
	parts := map[string]json.RawMessage{}
	for rr.in.More() {
		key, err := rr.in.Token()
		if err != nil {
			return nil, rr.damaged(err)
		}
		if key == "devices" {
			rr.inRows = true
			return jobOf(parts, rr)
		}
		var value json.RawMessage
		if err := rr.in.Decode(&value); err != nil {
			return nil, rr.damaged(err)
		}
		name, _ := key.(string) // the keys of an object are
		parts[name] = value
	}
	return nil, rr.damaged(errors.New("a job has no devices"))
}

func jobOf(parts map[string]json.RawMessage, rr *ReportReader) (*JobReport, error) {
	if err := rr.token(json.Delim('[')); err != nil {
		return nil, err
	}
	text, err := json.Marshal(parts)
	job := &JobReport{}
	if err == nil {
		err = json.Unmarshal(text, job)
	}
	if err != nil {
		return nil, rr.damaged(err)
	}
	return job, nil
}

// Offset is where the reader has got to: after Job, where the job's rows begin, which
// [NewRowReader] reads again.
func (rr *ReportReader) Offset() int64 { return rr.in.InputOffset() }

// Row returns the next row of the job, and [io.EOF] after the last one.
func (rr *ReportReader) Row() (*Row, error) {
	text, err := rr.rawRow()
	if err != nil {
		return nil, err
	}
	row := &Row{}
	if err := json.Unmarshal(text, row); err != nil {
		return nil, rr.damaged(err)
	}
	return row, nil
}

// rawRow returns the next row as it is written.
func (rr *ReportReader) rawRow() (json.RawMessage, error) {
	switch {
	case !rr.inRows:
		return nil, io.EOF
	case rr.in.More():
		rr.row = rr.row[:0]
		if err := rr.in.Decode(&rr.row); err != nil {
			return nil, rr.damaged(err)
		}
		return rr.row, nil
	}
	rr.inRows = false
	if err := rr.token(json.Delim(']')); err != nil {
		return nil, err
	}
	if err := rr.token(json.Delim('}')); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// Summary returns the summary of the run.
func (rr *ReportReader) Summary() (*Summary, error) {
	err := rr.open()
	return &rr.summary, err
}

// open reads up to the list of jobs.
func (rr *ReportReader) open() error {
	if rr.opened {
		return nil
	}
	rr.opened = true
	if err := rr.field("summary", &rr.summary); err != nil {
		return err
	}
	if err := rr.token("jobs"); err != nil {
		return err
	}
	return rr.token(json.Delim('['))
}

// end reads what follows the last job: nothing but the ends.
func (rr *ReportReader) end() error {
	if err := rr.token(json.Delim(']')); err != nil {
		return err
	}
	if err := rr.token(json.Delim('}')); err != nil {
		return err
	}
	return io.EOF
}

func (rr *ReportReader) field(name string, value any) error {
	if err := rr.token(name); err != nil {
		return err
	}
	if err := rr.in.Decode(value); err != nil {
		return rr.damaged(err)
	}
	return nil
}

func (rr *ReportReader) token(want json.Token) error {
	have, err := rr.in.Token()
	if err == nil && have != want {
		err = fmt.Errorf("%v stands where %v was expected; keys must be in the order in which runner writes them", have, want)
	}
	if err != nil {
		return rr.damaged(err)
	}
	return nil
}

// damaged says where a report could not be read on.
func (rr *ReportReader) damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the report is cut off after %d bytes", rr.in.InputOffset())
	}
	return fmt.Errorf("the report cannot be read at byte %d: %w", rr.in.InputOffset(), err)
}
