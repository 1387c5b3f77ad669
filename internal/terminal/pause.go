package terminal

import (
	"fmt"
	"log/slog"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/render"
)

// Paused says what a run waits for that has nothing else to show.
func (t *Talk) Paused(p pace.Pause) {
	if t.Progress == "none" {
		return
	}
	until := p.Until.UTC().Truncate(time.Second)
	attrs := []slog.Attr{
		slog.String("event", "hubPaused"), slog.String("hub", p.Hub), slog.String("calls", p.Calls),
		slog.Time("until", until), slog.Time("giveUp", p.GiveUp.UTC()), slog.String("reason", p.Err.Error()),
	}
	text := fmt.Sprintf("hub %s: %s wait until %s, in %s", p.Hub, render.ClassName(p.Calls), until.Format(time.RFC3339), render.Round(clock.Until(p.Until)))
	switch {
	case p.Over:
		attrs[0] = slog.String("event", "hubResumed")
		text = fmt.Sprintf("hub %s: %s go on, after %s", p.Hub, render.ClassName(p.Calls), render.Round(p.Until.Sub(p.Since)))
	case p.GiveUp.Before(p.Until):
		text += fmt.Sprintf(", but no longer than until %s: %v", p.GiveUp.UTC().Truncate(time.Second).Format(time.RFC3339), p.Err)
	default:
		text += fmt.Sprintf(": %v", p.Err)
	}
	t.Line(text, attrs...)
}
