package terminal

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Looks says how far a long preview is.
type Looks struct {
	talk *Talk

	mu   sync.Mutex
	last time.Time
}

// lookEvery is how often it says so.
const lookEvery = 10 * time.Second

// NewLooks says it on t.
func NewLooks(talk *Talk) *Looks {
	return &Looks{talk: talk, last: time.Now()}
}

// Looked notes how many targets of a job were looked at.
func (p *Looks) Looked(job string, targets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.talk.Progress == "none" || time.Since(p.last) < lookEvery {
		return
	}
	p.last = time.Now()
	p.talk.Line(fmt.Sprintf("job %s: %d devices so far", job, targets), slog.String("event", "looked"), slog.String("job", job), slog.Int("targets", targets))
}
