package main

import (
	"fmt"
	"log/slog"
	"time"

	"iothub-runner/runner"
)

// paused says what a run waits for that has nothing else to show.
func (t *talk) paused(p runner.Pause) {
	if t.progress == "none" {
		return
	}
	until := p.Until.UTC().Truncate(time.Second)
	t.line(fmt.Sprintf("hub %s: %s wait until %s, in %s: %v", p.Hub, className(p.Calls),
		until.Format(time.RFC3339), round(time.Until(p.Until)), p.Err),
		slog.String("event", "hubPaused"), slog.String("hub", p.Hub), slog.String("calls", p.Calls),
		slog.Time("until", until), slog.String("reason", p.Err.Error()))
}
