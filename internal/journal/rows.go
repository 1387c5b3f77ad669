package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Row returns the report row that the result line holds, without decoding it.
func Row(line []byte) (json.RawMessage, bool) {
	body, ok := unseal(bytes.TrimSuffix(line, []byte{'\n'}))
	if !ok || !bytes.HasPrefix(body, []byte(`{"t":"result",`)) {
		return nil, false
	}
	// Before the row stand strings only, and there a quote is escaped.
	_, row, ok := bytes.Cut(body, []byte(rowPrefix))
	return row, ok
}

// ReadRow reads the report row of the result line that begins at p. The row
// is good until the next call with the same buffer, which is returned grown.
func ReadRow(r io.ReaderAt, p Position, buf []byte) (row, grown []byte, err error) {
	line, buf, err := readAt(r, p, buf)
	if err != nil {
		return nil, buf, err
	}
	row, err = rowOf(line, p)
	return row, buf, err
}

func rowOf(line []byte, p Position) ([]byte, error) {
	row, ok := Row(line)
	if !ok {
		return nil, fmt.Errorf("read journal: no whole result line at byte %d", p)
	}
	return row, nil
}

// ReadIntent reads the intent line that begins at p.
func ReadIntent(r io.ReaderAt, p Position) (Intent, error) {
	line, _, err := readAt(r, p, nil)
	if err != nil {
		return Intent{}, err
	}
	rec, err := Decode(line)
	if err != nil {
		return Intent{}, fmt.Errorf("read journal: byte %d: %w", p, err)
	}
	intent, ok := rec.(Intent)
	if !ok {
		return Intent{}, fmt.Errorf("read journal: no intent at byte %d", p)
	}
	return intent, nil
}

// readAt reads the line that begins at p, without its newline, into buf.
func readAt(r io.ReaderAt, p Position, buf []byte) (line, grown []byte, err error) {
	if cap(buf) < smallRead {
		buf = make([]byte, smallRead)
	}
	buf = buf[:cap(buf)]
	for {
		n, err := r.ReadAt(buf, int64(p))
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return buf[:i], buf, nil
		}
		switch {
		case err != nil:
			return nil, buf, fmt.Errorf("read journal: no whole line at byte %d: %w", p, err)
		case len(buf) >= maxLine:
			return nil, buf, fmt.Errorf("read journal: no whole line at byte %d: %w", p, errLine)
		}
		buf = make([]byte, min(2*len(buf), maxLine))
	}
}

const (
	// smallRead is enough for nearly every line.
	smallRead = 4 << 10
	// rowWindow holds the lines of about a thousand devices: more than are ever
	// under way at once, so that lines which are not quite in order are in it.
	rowWindow = 256 << 10
	// lookBack is how far a window begins before the line that it is read for.
	lookBack = rowWindow / 4
)

// RowReader reads the rows of many results. Where their places mostly ascend it
// reads far ahead, so that a row costs no system call; a row far from the last
// ones costs one, and does not spoil what was read ahead. It takes little more
// memory than its window, and one goroutine at a time.
type RowReader struct {
	r      io.ReaderAt
	window []byte
	start  Position // of window
	astray bool     // the last row was far from the window,
	far    Position // at this place
	buf    []byte
}

// NewRowReader returns a reader of the rows in r.
func NewRowReader(r io.ReaderAt) *RowReader { return &RowReader{r: r} }

// Row reads the report row of the result line that begins at p. It is good
// until the next call.
func (rr *RowReader) Row(p Position) ([]byte, error) {
	line, ok := rr.find(p)
	if !ok && rr.near(p) {
		if err := rr.fill(p); err != nil {
			return nil, err
		}
		line, ok = rr.find(p)
	}
	if rr.astray = !ok; ok {
		return rowOf(line, p)
	}
	rr.far = p
	row, buf, err := ReadRow(rr.r, p, rr.buf)
	rr.buf = buf
	return row, err
}

// find returns the line at p if the window has all of it.
func (rr *RowReader) find(p Position) ([]byte, bool) {
	if p < rr.start || p >= rr.start+Position(len(rr.window)) {
		return nil, false
	}
	rest := rr.window[p-rr.start:]
	i := bytes.IndexByte(rest, '\n')
	return rest[:max(i, 0)], i >= 0
}

// near reports whether it pays to move the window to p: p is not far from it,
// or it is the second in a row that is elsewhere.
func (rr *RowReader) near(p Position) bool {
	end := rr.start + Position(len(rr.window))
	return p >= rr.start-rowWindow && p < end+rowWindow ||
		rr.astray && p >= rr.far-rowWindow && p < rr.far+rowWindow
}

func (rr *RowReader) fill(p Position) error {
	if rr.window == nil {
		rr.window = make([]byte, rowWindow)
	}
	rr.start = max(0, p-lookBack)
	n, err := rr.r.ReadAt(rr.window[:cap(rr.window)], int64(rr.start))
	rr.window = rr.window[:n]
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read journal: %w", err)
	}
	return nil
}
