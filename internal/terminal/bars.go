package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"iothub-runner/runner"
)

// bars draws one live line for each job of a run, below the lines of talk. All
// of them are drawn at once, so that they show the same instant.
type bars struct {
	run    *runner.Run
	out    io.Writer
	look   look
	clocks []stopwatch

	mu     sync.Mutex
	frame  []string // as it stands on the terminal
	widths []int    // of its lines
}

const redrawInterval = 150 * time.Millisecond

func newBars(t *Talk, run *runner.Run) *bars {
	return &bars{
		run: run, out: t.stderr,
		look:   look{color: t.Colors(), unicode: speaksUnicode(t.getenv)},
		clocks: make([]stopwatch, len(run.Progress())),
	}
}

// speaksUnicode tells whether the terminal shows more than ASCII, by the
// variables that say so, in their order of precedence.
func speaksUnicode(getenv func(string) string) bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(key); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// Write writes lines of talk above the bars.
func (b *bars) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.showLocked(string(p), b.frame); err != nil {
		return 0, err
	}
	return len(p), nil
}

// draw brings the bars up to date.
func (b *bars) draw() {
	jobs := b.run.Progress()
	now := time.Now()
	for i := range jobs {
		b.clocks[i].note(jobs[i], now)
	}
	width, height := b.size()
	frame := drawBars(jobs, b.clocks, now, b.look, width, max(1, height-1))
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.showLocked("", frame) // there is nobody else to tell
}

// redraw keeps the bars up to date until quit is closed, and then leaves them
// as they stand at the end.
func (b *bars) redraw(quit <-chan struct{}) {
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for running := true; running; {
		b.draw()
		select {
		case <-tick.C:
		case <-quit:
			running = false
		}
	}
	b.draw()
}

// size returns the terminal's columns and rows.
func (b *bars) size() (width, height int) {
	if f, ok := Below(b.out).(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	return 80, 24
}

// showLocked puts talk and a frame in the place of the frame before, in one
// write. The cursor stands below that one, but perhaps not at the start of its
// Line (an echoed ^C moves it), and a terminal that was made narrower since has
// folded its lines: there are more of them to erase.
func (b *bars) showLocked(talk string, frame []string) error {
	width, _ := b.size()
	var text strings.Builder
	text.WriteByte('\r')
	if up := len(b.widths) + folds(b.widths, width); up > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", up)
	}
	text.WriteString("\x1b[J" + talk)
	widths := make([]int, len(frame))
	for i, line := range frame {
		widths[i] = visibleWidth(line)
		text.WriteString(line + "\n")
	}
	b.frame, b.widths = frame, widths
	_, err := io.WriteString(b.out, text.String())
	return err
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
