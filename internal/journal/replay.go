package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// maxLine bounds a line, its newline included: the largest holds a twin's
// before-values and patch or a method's answer, each far below.
const maxLine = 4 << 20

const (
	// readAtOnce is how much of a journal is read at once.
	readAtOnce = 256 << 10
	// batchSize is how much text a batch of lines has, but for its last line.
	batchSize = 128 << 10
)

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
// written can be replayed too, as far as it goes. Lines are read and decoded
// ahead of visit, by goroutines that end before Replay returns.
func Replay(r io.Reader, visit func(at Position, rec Record) error) (end Position, err error) {
	ahead := newReadAhead(r)
	defer ahead.stop()
	at, torn, number := Position(0), (*DamageError)(nil), 0
	for b := range ahead.read {
		<-b.decoded
		for _, l := range b.lines {
			number++
			switch {
			case !l.sound:
				if torn == nil {
					torn = &DamageError{Line: number, Offset: int64(at)}
				}
			case torn != nil:
				return end, torn
			default:
				if err := visitLine(l, at, number, visit); err != nil {
					return end, err
				}
				end = at + Position(l.size)
			}
			at += Position(l.size)
		}
		if b.err != nil {
			return end, b.err
		}
		ahead.free <- b
	}
	return end, nil
}

func visitLine(l lineRead, at Position, number int, visit func(Position, Record) error) error {
	if l.err != nil {
		return fmt.Errorf("line %d: %w", number, l.err)
	}
	if _, header := l.rec.(Header); header != (number == 1) {
		return fmt.Errorf("line %d: %w", number, errHeader)
	}
	return visit(at, l.rec)
}

// lineRead is a line of which more than a checksum is known.
type lineRead struct {
	size  int // in the file; 0 after the last line
	end   int // in the text of the batch
	sound bool
	rec   Record
	err   error // of a sound line
}

// batch is some lines of a journal that are decoded together.
type batch struct {
	text    []byte // of the lines, without what is too long for one
	lines   []lineRead
	err     error         // of reading on
	decoded chan struct{} // receives once lines are
}

// readAhead reads and decodes a journal in batches, a few ahead of whoever takes
// them in.
type readAhead struct {
	read   chan *batch // in the order of the file, decoded or about to be
	todo   chan *batch
	free   chan *batch
	cancel chan struct{}
	ended  sync.WaitGroup
}

func newReadAhead(r io.Reader) *readAhead {
	decoders := runtime.GOMAXPROCS(0)
	batches := 2*decoders + 1
	a := &readAhead{
		read: make(chan *batch, batches), todo: make(chan *batch, batches),
		free: make(chan *batch, batches), cancel: make(chan struct{}),
	}
	for range batches {
		a.free <- &batch{decoded: make(chan struct{}, 1)}
	}
	for range decoders {
		a.ended.Go(func() {
			seen := make(names)
			for b := range a.todo {
				b.decode(seen)
			}
		})
	}
	a.ended.Go(func() {
		defer close(a.todo)
		defer close(a.read)
		a.run(lineReader{in: bufio.NewReaderSize(r, readAtOnce)})
	})
	return a
}

// stop ends the reading, wherever it is.
func (a *readAhead) stop() {
	close(a.cancel)
	a.ended.Wait()
}

func (a *readAhead) run(lines lineReader) {
	for more := true; more; {
		select {
		case <-a.cancel:
			return
		case b := <-a.free:
			more = b.fill(&lines)
			a.todo <- b // has room for all batches that there are, as read has
			a.read <- b
		}
	}
}

// fill reads the next lines; false tells that there are no more.
func (b *batch) fill(lines *lineReader) bool {
	b.text, b.lines = b.text[:0], b.lines[:0]
	for len(b.text) < batchSize {
		line, size, err := lines.next()
		if b.err = err; err != nil || size == 0 {
			return false
		}
		b.text = append(b.text, line...)
		b.lines = append(b.lines, lineRead{size: size, end: len(b.text)})
	}
	return true
}

func (b *batch) decode(seen names) {
	start := 0
	for i := range b.lines {
		l := &b.lines[i]
		line := b.text[start:l.end:l.end]
		start = l.end
		var body []byte
		if body, l.sound = unseal(line); l.sound {
			l.rec, l.err = decodeBody(body, seen)
		}
	}
	b.decoded <- struct{}{}
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
