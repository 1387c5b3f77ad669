package main

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"iothub-runner/runner"
)

// bars draws one live line for each job of a run, below the lines of talk.
//
// The lines are drawn whole by drawBars, once for each refresh, so that all of
// them show the same instant; mpb puts them where they belong.
type bars struct {
	container *mpb.Progress
	run       *runner.Run
	screen    *screen
	look      look
	lines     []*mpb.Bar
	clocks    []stopwatch

	mu    sync.Mutex
	frame []string
}

const redrawInterval = 150 * time.Millisecond

func newBars(env environment, run *runner.Run) *bars {
	jobs := run.Progress()
	b := &bars{
		run: run, screen: &screen{out: env.stderr},
		look:   look{color: env.getenv("NO_COLOR") == "", unicode: speaksUnicode(env)},
		clocks: make([]stopwatch, len(jobs)),
	}
	b.container = mpb.New(mpb.WithOutput(b.screen), mpb.WithRefreshRate(redrawInterval), mpb.WithAutoRefresh())
	b.draw()
	_, height := b.screen.size()
	b.screen.rows = min(len(jobs), max(1, height-1))
	for i := range b.screen.rows {
		b.lines = append(b.lines, b.container.MustAdd(0, mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
			_, err := io.WriteString(w, b.line(i))
			return err
		}), mpb.BarFillerTrim()))
	}
	return b
}

// speaksUnicode tells whether the terminal shows more than ASCII, by the
// variables that say so, in their order of precedence.
func speaksUnicode(env environment) bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env.getenv(key); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// Write writes lines of talk above the bars.
func (b *bars) Write(p []byte) (int, error) { return b.container.Write(p) }

// draw makes the next frame.
func (b *bars) draw() {
	jobs := b.run.Progress()
	now := time.Now()
	for i := range jobs {
		b.clocks[i].note(jobs[i], now)
	}
	width, height := b.screen.size()
	rows := max(1, height-1)
	if len(b.lines) > 0 {
		rows = min(rows, len(b.lines))
	}
	frame := drawBars(jobs, b.clocks, now, b.look, width, rows)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frame = frame
}

// line returns what the frame has in row i.
func (b *bars) line(i int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i >= len(b.frame) {
		return ""
	}
	return b.frame[i]
}

// redraw keeps the bars up to date until quit is closed, and then leaves them
// as they stand at the end.
func (b *bars) redraw(quit <-chan struct{}) {
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
		case <-quit:
			running = false
		}
		b.draw()
	}
	for _, line := range b.lines {
		line.SetTotal(-1, true)
	}
	b.container.Wait()
}

// screen is the terminal below mpb. It repairs what mpb takes for granted: that
// the cursor is at the start of a line (an echoed ^C moves it), and that the
// lines drawn before are still as wide as the terminal (a narrower terminal
// folds them, and there are more of them to erase).
type screen struct {
	out  io.Writer
	rows int   // how many lines mpb draws each time
	last []int // widths of those it drew last
}

// size returns the terminal's columns and rows.
func (s *screen) size() (width, height int) {
	if f, ok := below(s.out).(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	return 80, 24
}

// Write takes one refresh of mpb: lines of talk, if there are any, and the bars.
func (s *screen) Write(p []byte) (int, error) {
	width, _ := s.size()
	lead := "\r" + strings.Repeat("\x1b[A", folds(s.last, width))
	lines := strings.Split(strings.TrimSuffix(string(p), "\n"), "\n")
	s.last = s.last[:0]
	for _, line := range lines[max(0, len(lines)-s.rows):] {
		s.last = append(s.last, visibleWidth(line))
	}
	if _, err := s.out.Write(append([]byte(lead), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// folds returns how many lines more the given ones take on a terminal of the
// given width.
func folds(widths []int, width int) int {
	n := 0
	for _, w := range widths {
		n += max(0, w-1) / max(1, width)
	}
	return n
}
