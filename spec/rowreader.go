package spec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// RowReader reads the rows of one job of a report, from where [ReportReader.Offset]
// says that they begin. Runner writes each on a line of its own, which is ten times as
// fast to find as the end of any JSON value.
type RowReader struct {
	lines *bufio.Reader
	any   *json.Decoder // of a report that somebody has written anew; nil as long as lines are rows
	row   json.RawMessage
	ended bool
}

// NewRowReader returns a reader of rows.
func NewRowReader(r io.Reader) *RowReader { return &RowReader{lines: bufio.NewReaderSize(r, 64<<10)} }

// Row returns the next row, good until the next call, and [io.EOF] after the last one.
func (rr *RowReader) Row() ([]byte, error) {
	switch {
	case rr.ended:
		return nil, io.EOF
	case rr.any != nil:
		return rr.anyRow()
	}
	for {
		line, err := rr.line()
		text := bytes.TrimSpace(line)
		switch {
		case err == nil && len(text) == 0:
			continue
		case err == nil && text[0] == ']':
			rr.ended = true
			return nil, io.EOF
		case err == nil:
			if row := bytes.TrimSuffix(text, []byte{','}); row[0] == '{' && json.Valid(row) {
				return row, nil
			}
		case !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read report: %w", err)
		}
		rest := append([]byte{'['}, bytes.TrimPrefix(text, []byte{','})...)
		rr.any = json.NewDecoder(io.MultiReader(bytes.NewReader(rest), rr.lines))
		if _, err := rr.any.Token(); err != nil {
			return nil, cutOff(err)
		}
		return rr.anyRow()
	}
}

// line returns the next line. A long one is not kept whole by the reader.
func (rr *RowReader) line() ([]byte, error) {
	line, err := rr.lines.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	rr.row = append(rr.row[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = rr.lines.ReadSlice('\n')
		rr.row = append(rr.row, line...)
	}
	return rr.row, err
}

func (rr *RowReader) anyRow() ([]byte, error) {
	if !rr.any.More() {
		if _, err := rr.any.Token(); err != nil {
			return nil, cutOff(err)
		}
		rr.ended = true
		return nil, io.EOF
	}
	rr.row = rr.row[:0]
	if err := rr.any.Decode(&rr.row); err != nil {
		return nil, cutOff(err)
	}
	return rr.row, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the report is cut off in its rows")
	}
	return fmt.Errorf("read report: %w", err)
}
