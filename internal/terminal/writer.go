package terminal

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"iothub-runner/internal/render"
)

// A Writer is stderr. Once it is detached nobody who writes to it waits for
// its reader, which may be a pager that was stopped or a log shipper that hangs:
// work goes on, and what cannot be written is dropped, the oldest first, because
// what is said last matters most. How much was lost is said when there is
// somebody to hear it.
type Writer struct {
	Out  io.Writer
	JSON bool // all that is said is JSON
	// crashed is told of a panic while writing, on a goroutine that is nobody's.
	Crashed func(value any, stack []byte)
	// clean takes out what must not be said; nil if anything may be.
	Clean func([]byte) []byte

	mu       sync.Mutex
	detached bool
	queue    [][]byte      // guarded by mu, as all that follows
	bytes    int           // in the queue
	writing  bool          // a write is under way
	dropped  int           // writes since the last one that was said
	idle     chan struct{} // closed when there is nothing to be written; nil while nobody waits
}

const (
	// maxQueued is how much may wait to be written: what a run says in a minute or
	// so of -v, and little beside what a run takes.
	maxQueued = 256 << 10
	// lastSay is how long the end of the program waits for the reader.
	lastSay = 2 * time.Second
)

// Detach makes Write return at once from here on.
func (w *Writer) Detach() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detached = true
}

// Write writes one line, or promises to.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Clean != nil {
		p = w.Clean(p)
	}
	if !w.detached {
		_, err := w.Out.Write(p)
		return n, err
	}
	w.queue = append(w.queue, append([]byte(nil), p...))
	w.bytes += len(p)
	for w.bytes > maxQueued && len(w.queue) > 1 {
		w.bytes -= len(w.queue[0])
		w.queue = w.queue[1:]
		w.dropped++
	}
	if !w.writing {
		w.writing = true
		go w.write() // ends when all is written, or with the process
	}
	return n, nil
}

// write writes what waits until there is no more.
func (w *Writer) write() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 {
		p := w.queue[0]
		if w.dropped > 0 {
			p = append(w.lost(), p...)
			w.dropped = 0
		}
		w.bytes -= len(w.queue[0])
		w.queue = w.queue[1:]
		w.mu.Unlock()
		w.say(p)
		w.mu.Lock()
	}
	w.writing = false
	if w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

func (w *Writer) say(p []byte) {
	defer func() {
		if value := recover(); value != nil {
			w.Crashed(value, debug.Stack())
		}
	}()
	_, _ = w.Out.Write(p) // there is nobody else to tell
}

// lost is the line that stands in the place of those that were dropped.
func (w *Writer) lost() []byte {
	text := fmt.Sprintf("%s dropped here: nobody read stderr", render.Count(w.dropped, "line"))
	if !w.JSON {
		return fmt.Appendf(nil, "runner: %s\n", text)
	}
	var line bytes.Buffer
	NewJSONLog(&line, slog.LevelInfo).Warn(text, slog.String("event", "dropped"), slog.Int("lines", w.dropped))
	return line.Bytes()
}

// Flush waits until all is written, but not for ever.
func (w *Writer) Flush() {
	w.mu.Lock()
	if !w.writing {
		w.mu.Unlock()
		return
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	patience := time.NewTimer(lastSay)
	defer patience.Stop()
	select {
	case <-idle:
	case <-patience.C:
	}
}

// Below returns the writer that is behind another: the terminal, if there is one.
func Below(w io.Writer) io.Writer {
	switch w := w.(type) {
	case *Writer:
		return w.Out
	case *render.Escaper:
		return w.Out
	}
	return w
}
