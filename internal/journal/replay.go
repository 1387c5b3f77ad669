package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line, its newline included: the largest holds a twin's
// before-values and patch or a method's answer, each far below.
const maxLine = 4 << 20

// readAhead is how much of a journal is read at once.
const readAhead = 256 << 10

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

var errHeader = errors.New("a journal begins with one run line and has no other")

// ReadHeader returns the first record of a journal.
func ReadHeader(r io.Reader) (Header, error) {
	lines := lineReader{in: bufio.NewReaderSize(r, 4<<10)}
	line, _, err := lines.next()
	if err != nil {
		return Header{}, err
	}
	rec, err := Decode(bytes.TrimSuffix(line, []byte{'\n'}))
	if err != nil {
		return Header{}, err
	}
	h, ok := rec.(Header)
	if !ok {
		return Header{}, errHeader
	}
	return h, nil
}

// Replay reads the lines of r in order and hands each to visit with the place
// where it begins. It returns where the last whole line ends: what follows is
// a torn tail, which was never acknowledged.
//
// The raw JSON of a record is good until visit returns. A journal that is being
// written can be replayed too, as far as it goes.
func Replay(r io.Reader, visit func(at Position, rec Record) error) (end Position, err error) {
	lines := lineReader{in: bufio.NewReaderSize(r, readAhead)}
	at, torn, seen := Position(0), (*DamageError)(nil), make(names)
	for number := 1; ; number++ {
		line, size, err := lines.next()
		if err != nil || size == 0 {
			return end, err
		}
		body, sound := unseal(line)
		switch {
		case !sound:
			if torn == nil {
				torn = &DamageError{Line: number, Offset: int64(at)}
			}
		case torn != nil:
			return end, torn
		default:
			if err := visitLine(body, at, number, seen, visit); err != nil {
				return end, err
			}
			end = at + Position(size)
		}
		at += Position(size)
	}
}

func visitLine(body []byte, at Position, number int, seen names, visit func(Position, Record) error) error {
	rec, err := decodeBody(body, seen)
	if err != nil {
		return fmt.Errorf("line %d: %w", number, err)
	}
	if _, header := rec.(Header); header != (number == 1) {
		return fmt.Errorf("line %d: %w", number, errHeader)
	}
	return visit(at, rec)
}

// lineReader splits a journal into lines. Its memory is bounded whatever it
// reads: of a line that is too long for a journal it keeps nothing.
type lineReader struct {
	in   *bufio.Reader
	long []byte // of a line that is longer than the buffer of in
}

// next returns the next line without its newline, and how many bytes it takes
// up. The line is nil if it has no newline or is too long, and its size is 0 at
// the end.
func (l *lineReader) next() (line []byte, size int, err error) {
	part, err := l.in.ReadSlice('\n')
	if err == nil {
		return part[:len(part)-1], len(part), nil
	}
	l.long = l.long[:0]
	for {
		size += len(part)
		if size <= maxLine {
			l.long = append(l.long, part...)
		}
		switch {
		case err == nil && size <= maxLine:
			return l.long[:size-1], size, nil
		case err == nil || errors.Is(err, io.EOF):
			return nil, size, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, size, fmt.Errorf("read journal: %w", err)
		}
		part, err = l.in.ReadSlice('\n')
	}
}
