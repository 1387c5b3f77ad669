package main

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

// droppingWriter is stderr. Once it is detached nobody who writes to it waits for
// its reader, which may be a pager that was stopped or a log shipper that hangs:
// work goes on, and what cannot be written is dropped, the oldest first, because
// what is said last matters most. How much was lost is said when there is
// somebody to hear it.
type droppingWriter struct {
	out  io.Writer
	json bool // all that is said is JSON
	// crashed is told of a panic while writing, on a goroutine that is nobody's.
	crashed func(value any, stack []byte)
	// shows says that keys may be shown: those of an emulated hub, which are made
	// to be copied.
	shows bool

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

// detach makes Write return at once from here on.
func (w *droppingWriter) detach() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detached = true
}

// Write writes one line, or promises to.
func (w *droppingWriter) Write(p []byte) (int, error) {
	n := len(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shows {
		p = withoutSecrets(p)
	}
	if !w.detached {
		_, err := w.out.Write(p)
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
func (w *droppingWriter) write() {
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

func (w *droppingWriter) say(p []byte) {
	defer func() {
		if value := recover(); value != nil {
			w.crashed(value, debug.Stack())
		}
	}()
	_, _ = w.out.Write(p) // there is nobody else to tell
}

// lost is the line that stands in the place of those that were dropped.
func (w *droppingWriter) lost() []byte {
	text := fmt.Sprintf("%s dropped here: nobody read stderr", count(w.dropped, "line"))
	if !w.json {
		return fmt.Appendf(nil, "runner: %s\n", text)
	}
	var line bytes.Buffer
	newJSONLog(&line, slog.LevelInfo).Warn(text, slog.String("event", "dropped"), slog.Int("lines", w.dropped))
	return line.Bytes()
}

// flush waits until all is written, but not for ever.
func (w *droppingWriter) flush() {
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

// below returns the writer that is behind another: the terminal, if there is one.
func below(w io.Writer) io.Writer {
	switch w := w.(type) {
	case *droppingWriter:
		return w.out
	case *render.Escaper:
		return w.Out
	}
	return w
}

// detach lets talk no longer hold up work.
func (env environment) detach() {
	if d, ok := env.stderr.(*droppingWriter); ok {
		d.detach()
	}
}

// showsKeys lets keys stand in what is said.
func (env environment) showsKeys() {
	if d, ok := env.stderr.(*droppingWriter); ok {
		d.shows = true
	}
}

// flush waits a little for what was said to be read.
func (env environment) flush() {
	if d, ok := env.stderr.(*droppingWriter); ok {
		d.flush()
	}
}
