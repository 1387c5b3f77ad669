package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine bounds a line: the largest holds a twin's before-values and patch or
// a method's answer, each far below.
const maxLine = 4 << 20

// ErrEmpty means that a journal holds no whole line, so that nothing was begun.
var ErrEmpty = errors.New("the journal is empty")

// DamageError is a broken line with whole ones after it. No crash of ours
// leaves that behind, so nothing after it can be trusted.
type DamageError struct {
	Line   int
	Offset int64
}

// Error says where the damage is.
func (e *DamageError) Error() string {
	return fmt.Sprintf("line %d (byte %d) is damaged, and whole lines follow it", e.Line, e.Offset)
}

// Replay reads the lines of r in order and hands each to visit with the place
// where it begins. It returns where the last whole line ends: what follows is
// a torn tail, which was never acknowledged.
func Replay(r io.Reader, visit func(at Position, rec Record) error) (end Position, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	at, torn := Position(0), (*DamageError)(nil)
	for number := 1; ; number++ {
		line, whole, err := readLine(in)
		if err != nil {
			return end, err
		}
		if len(line) == 0 {
			return end, nil
		}
		body, sound := unseal(bytes.TrimSuffix(line, []byte{'\n'}))
		switch {
		case !whole || !sound:
			if torn == nil {
				torn = &DamageError{Line: number, Offset: int64(at)}
			}
		case torn != nil:
			return end, torn
		default:
			if err := visitLine(body, at, number, visit); err != nil {
				return end, err
			}
			end = at + Position(len(line))
		}
		at += Position(len(line))
	}
}

func visitLine(body []byte, at Position, number int, visit func(Position, Record) error) error {
	rec, err := decodeBody(body)
	if err != nil {
		return fmt.Errorf("line %d: %w", number, err)
	}
	if _, header := rec.(Header); header != (number == 1) {
		return fmt.Errorf("line %d: %w", number, errHeader)
	}
	return visit(at, rec)
}

var errHeader = errors.New("a journal begins with one run line and has no other")

// readLine reads up to the next newline. It gives up on a line that no writer
// of ours makes, in pieces that count as broken lines of their own.
func readLine(in *bufio.Reader) (line []byte, whole bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if line == nil && err == nil {
			return part, true, nil
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, true, nil
		case errors.Is(err, io.EOF):
			return line, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, fmt.Errorf("read journal: %w", err)
		case len(line) > maxLine:
			return line, false, nil
		}
	}
}

// Open reads a journal that a run left behind, hands its records to visit, cuts
// off a torn tail and returns a Writer that goes on where it ends. A journal
// without a whole line is [ErrEmpty] and left as it is.
func Open(path string, d Durability, visit func(at Position, rec Record) error) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	end, err := Replay(f, visit)
	if err == nil && end == 0 {
		err = ErrEmpty
	}
	if err == nil {
		err = cutTail(f, end)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), f.Close())
	}
	return NewWriter(f, int64(end), d), nil
}

func cutTail(f *os.File, end Position) error {
	info, err := f.Stat()
	if err != nil || info.Size() == int64(end) {
		return err
	}
	if err := f.Truncate(int64(end)); err != nil {
		return err
	}
	return f.Sync()
}

// ReadRow reads the report row of the result line that begins at p. The row
// is good until the next call with the same buffer, which is returned grown.
func ReadRow(r io.ReaderAt, p Position, buf []byte) (row, grown []byte, err error) {
	line, buf, err := readAt(r, p, buf)
	if err != nil {
		return nil, buf, err
	}
	row, ok := Row(line)
	if !ok {
		return nil, buf, fmt.Errorf("read journal: %w at byte %d", errLine, p)
	}
	return row, buf, nil
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
	if cap(buf) < 512 {
		buf = make([]byte, 4<<10)
	}
	buf = buf[:cap(buf)]
	for {
		n, err := r.ReadAt(buf, int64(p))
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return buf[:i], buf, nil
		}
		if err != nil || len(buf) > maxLine {
			return nil, buf, fmt.Errorf("read journal: the line at byte %d does not end: %w", p, errors.Join(err, errLine))
		}
		buf = make([]byte, 2*len(buf))
	}
}
