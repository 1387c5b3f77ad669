package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"iothub-runner/internal/terminal"
)

// lookProgress says how far a long preview is.
type lookProgress struct {
	talk *terminal.Talk

	mu   sync.Mutex
	last time.Time
}

// lookEvery is how often it says so.
const lookEvery = 10 * time.Second

func newLookProgress(talk *terminal.Talk) *lookProgress {
	return &lookProgress{talk: talk, last: time.Now()}
}

func (p *lookProgress) looked(job string, targets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.talk.Progress == "none" || time.Since(p.last) < lookEvery {
		return
	}
	p.last = time.Now()
	p.talk.Line(fmt.Sprintf("job %s: %d devices so far", job, targets), slog.String("event", "looked"), slog.String("job", job), slog.Int("targets", targets))
}
