package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// ReadReport takes in the report of an earlier run, for when its journal is
// gone: rows that have ended become results of the past. Only what Check needs
// is read before begin is called; begin returns the journal to go on in, with
// its header written, which says that it is a copy. The rows are copied into it,
// so that the next report has them as well.
func (p *Past) ReadReport(r io.Reader, begin func() (*journal.Writer, error)) error {
	in := reportReader{dec: json.NewDecoder(r), past: p, begin: begin}
	err := in.object(func(key string) error {
		switch key {
		case "schema":
			return in.schema()
		case "run":
			return in.run()
		case "jobs":
			return in.array(in.job)
		}
		return in.skip()
	})
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	if in.journal == nil {
		return errors.New("read report: it has no run")
	}
	if err := in.append(journal.Mark{Event: journal.EventCopied, At: time.Now()}); err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	return in.journal.Flush()
}

// reportReader reads a report as a stream: its rows may be too many to hold.
type reportReader struct {
	dec     *json.Decoder
	past    *Past
	begin   func() (*journal.Writer, error)
	journal *journal.Writer
	line    []byte
}

func (in *reportReader) schema() error {
	var schema string
	if err := in.dec.Decode(&schema); err != nil {
		return err
	}
	if schema != spec.ReportSchema {
		return fmt.Errorf("its schema is %q, this program reads %q", schema, spec.ReportSchema)
	}
	return nil
}

func (in *reportReader) run() (err error) {
	var run spec.Run
	if err = in.dec.Decode(&run); err != nil {
		return err
	}
	in.past.Header = journal.Header{
		Run: run.ID, Plan: run.Plan.Name, File: run.Plan.File, SHA256: run.Plan.SHA256,
		Hubs: []string{run.Hub}, Runner: run.Runner, StartedAt: run.StartedAt.Time,
	}
	if was := run.Plan.Inputs; was != nil {
		h := &in.past.Header
		h.Jobs, h.Vars, h.Files, h.Pinned = was.Jobs, was.Vars, was.Files, was.Pinned
	}
	in.journal, err = in.begin()
	return err
}

// job reads one job. Unless all that it listed has ended, nobody can say
// whether all of its target was listed, and it is asked for again.
func (in *reportReader) job() error {
	if in.journal == nil {
		return fmt.Errorf("its jobs come before its run")
	}
	var name string
	var status spec.Status
	var startedAt *time.Time
	reached := true
	err := in.object(func(key string) error {
		switch key {
		case "name":
			return in.dec.Decode(&name)
		case "status":
			return in.dec.Decode(&status)
		case "startedAt":
			return in.dec.Decode(&startedAt)
		case "devices":
			return in.array(func() error { return in.row(name, &reached) })
		}
		return in.skip()
	})
	if err != nil {
		return err
	}
	if startedAt != nil {
		if err := in.append(journal.Mark{Job: name, Event: journal.EventStarted, At: *startedAt}); err != nil {
			return err
		}
	}
	whole := status == spec.StatusSucceeded || status == spec.StatusFailed
	in.past.job(name).listed = whole && reached
	if !in.past.job(name).listed {
		return nil
	}
	return in.append(journal.Mark{Job: name, Event: journal.EventListed})
}

// row copies one row. What was not reached is left for this run; its attempts
// go on being counted.
func (in *reportReader) row(job string, reached *bool) error {
	var raw json.RawMessage
	if err := in.dec.Decode(&raw); err != nil {
		return err
	}
	var row struct {
		DeviceID string       `json:"deviceId"`
		ModuleID string       `json:"moduleId"`
		Outcome  spec.Outcome `json:"outcome"`
		Attempts int          `json:"attempts"`
	}
	if err := json.Unmarshal(raw, &row); err != nil {
		return err
	}
	if row.DeviceID == "" || !slices.Contains(spec.Outcomes(), row.Outcome) {
		return fmt.Errorf("a row of job %q has no deviceId or the unknown outcome %q", job, row.Outcome)
	}
	target := journal.Target{Device: row.DeviceID, Module: row.ModuleID}
	if row.Outcome == spec.OutcomeNotReached {
		*reached = false
	}
	if row.Outcome == spec.OutcomeNotReached && row.Attempts == 0 {
		return in.append(journal.Targets{Job: job, Targets: []journal.Target{target}})
	}
	return in.append(journal.Result{Job: job, Target: target, Row: oneLine(raw)})
}

// append writes a record into the journal and takes it in.
func (in *reportReader) append(rec journal.Record) error {
	in.line = rec.Append(in.line[:0])
	at, err := in.journal.Append(in.line)
	if err != nil {
		return err
	}
	return in.past.Visit(at, rec)
}

// object hands the keys of the next object to visit, which reads the values.
func (in *reportReader) object(visit func(key string) error) error {
	if err := in.delimiter('{'); err != nil {
		return err
	}
	for in.dec.More() {
		token, err := in.dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if err := visit(key); err != nil {
			return err
		}
	}
	return in.delimiter('}')
}

// array calls visit for each element of the next array.
func (in *reportReader) array(visit func() error) error {
	if err := in.delimiter('['); err != nil {
		return err
	}
	for in.dec.More() {
		if err := visit(); err != nil {
			return err
		}
	}
	return in.delimiter(']')
}

func (in *reportReader) delimiter(want json.Delim) error {
	token, err := in.dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %v should stand", token, want)
	}
	return nil
}

func (in *reportReader) skip() error {
	var ignored json.RawMessage
	return in.dec.Decode(&ignored)
}
