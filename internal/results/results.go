// Package results opens what a run has left behind as a document: its report, its
// journal, or the reports of its shards.
package results

import (
	"errors"
	"fmt"
	"io"
	"os"

	"iothub-runner/internal/journal"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// Opened is a document and the files that its rows come from.
type Opened struct {
	spec.Document
	// Path is the file of a document that is in one.
	Path  string
	files []*os.File
}

// Close closes the files.
func (o *Opened) Close() {
	for _, f := range o.files {
		_ = f.Close() // only read
	}
}

// Errors of files that are no results of a run.
var (
	errNeither = errors.New("it is neither a report of a run nor a journal")
	errEmpty   = errors.New("it is empty")
)

// Open opens a report or a journal, or the reports of all shards of a run. The name -
// is stdin.
func Open(paths []string, stdin io.Reader) (*Opened, error) {
	o := &Opened{}
	if len(paths) == 1 {
		o.Path = paths[0]
	}
	var parts []spec.Document
	for _, path := range paths {
		d, err := o.open(path, stdin)
		if err != nil {
			o.Close()
			return nil, fmt.Errorf("%q: %w", path, err)
		}
		parts = append(parts, d)
	}
	if o.Document = parts[0]; len(parts) == 1 {
		return o, nil
	}
	var err error
	if o.Document, err = merge(parts, paths); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *Opened) open(path string, stdin io.Reader) (spec.Document, error) {
	f, err := o.file(path, stdin)
	if err != nil {
		return nil, err
	}
	o.files = append(o.files, f)
	d, err := newReport(f)
	if !errors.Is(err, spec.ErrNotReport) {
		return d, err
	}
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	past := runner.NewPast()
	if err = journal.Read(f, past.Visit); errors.Is(err, journal.ErrNotJournal) {
		return nil, errNeither
	} else if errors.Is(err, journal.ErrEmpty) {
		return nil, errEmpty
	} else if err != nil {
		return nil, err
	}
	return past.Document(f)
}

// file opens a file that can be read from any place. What comes through a pipe is
// kept in a temporary one.
func (o *Opened) file(path string, stdin io.Reader) (*os.File, error) {
	in := stdin
	if path != "-" {
		path, _ = journal.Lookup(path) // opening it says what is wrong
		if info, err := os.Stat(path); err == nil && (info.Mode().IsRegular() || info.IsDir()) {
			return journal.OpenRead(path)
		}
		f, err := os.Open(path) //nolint:gosec // the user names it
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // only read
		in = f
	}
	return journal.Spool(func(to io.Writer) error {
		_, err := io.Copy(to, in)
		return err
	})
}

// report is the document of a report's file.
type report struct {
	file *os.File
	head spec.Report
	at   []int64 // where the rows of each job begin
}

func newReport(f *os.File) (*report, error) {
	in, err := spec.NewReportReader(f)
	if err != nil {
		return nil, err
	}
	d := &report{file: f, head: spec.Report{Schema: spec.ReportSchema, Run: in.Run}}
	sum, err := in.Summary()
	if err != nil {
		return nil, err
	}
	d.head.Summary = *sum
	for {
		job, err := in.Job()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return nil, err
		}
		d.head.Jobs, d.at = append(d.head.Jobs, *job), append(d.at, in.Offset())
	}
}

// Head returns the report less its rows.
func (d *report) Head() *spec.Report { return &d.head }

// Rows yields those of a job.
func (d *report) Rows(job int, yield func(row []byte) error) error {
	const unlimited = 1 << 62
	rows := spec.NewRowReader(io.NewSectionReader(d.file, d.at[job], unlimited))
	for {
		row, err := rows.Row()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = yield(row)
		}
		if err != nil {
			return err
		}
	}
}
