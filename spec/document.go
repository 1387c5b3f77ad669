package spec

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Document is a report whose rows can be gone through as often as somebody needs, one
// at a time, so that one over a million devices takes no memory to speak of.
type Document interface {
	// Head returns the report less its rows.
	Head() *Report
	// Rows yields the rows of a job in their order, each in JSON and good until the
	// next one.
	Rows(job int, yield func(row []byte) error) error
}

// WriteReport writes a report: the frame indented, each row on a line of its own.
func WriteReport(w io.Writer, d Document) error {
	rep := d.Head()
	out := bufio.NewWriterSize(w, 64<<10)
	frame := []struct {
		key   string
		value any
	}{{"schema", rep.Schema}, {"run", rep.Run}, {"summary", rep.Summary}}
	fmt.Fprint(out, "{\n")
	for _, f := range frame {
		text, err := json.MarshalIndent(f.value, "  ", "  ")
		if err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
		fmt.Fprintf(out, "  %q: %s,\n", f.key, text)
	}
	fmt.Fprint(out, "  \"jobs\": [")
	for i := range rep.Jobs {
		if i > 0 {
			fmt.Fprint(out, ",")
		}
		if err := writeJob(out, d, i); err != nil {
			return err
		}
	}
	fmt.Fprint(out, "\n  ]\n}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// writeJob writes one job. Its frame ends in an empty "devices", which is where
// the rows go.
func writeJob(out *bufio.Writer, d Document, job int) error {
	rep := d.Head().Jobs[job]
	rep.Devices = []Row{}
	frame, err := json.MarshalIndent(rep, "    ", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	const tail = "[]\n    }"
	fmt.Fprintf(out, "\n    %s[", frame[:len(frame)-len(tail)])
	before := "\n        "
	err = d.Rows(job, func(row []byte) error {
		_, _ = out.WriteString(before) // the row's Write returns the error
		before = ",\n        "
		if _, writeErr := out.Write(row); writeErr != nil {
			return fmt.Errorf("write report: %w", writeErr)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if before[0] == ',' {
		fmt.Fprint(out, "\n      ")
	}
	fmt.Fprint(out, "]\n    }")
	return nil
}
