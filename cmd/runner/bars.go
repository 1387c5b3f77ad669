package main

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"iothub-runner/runner"
)

// bars draws one live line for each job of a run.
type bars struct {
	container *mpb.Progress
	run       *runner.Run
	lines     []*mpb.Bar
	latest    []runner.JobProgress
}

const redrawInterval = 150 * time.Millisecond

func newBars(w io.Writer, run *runner.Run, color bool) *bars {
	b := &bars{
		container: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(redrawInterval), mpb.WithAutoRefresh()),
		run:       run, latest: run.Progress(),
	}
	style := mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]")
	if color {
		style = style.FillerMeta(func(s string) string { return "\x1b[32m" + s + "\x1b[0m" })
	}
	for i, job := range b.latest {
		line := b.container.New(0, style,
			mpb.PrependDecorators(decor.Name(job.Name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.describe(i) })),
		)
		b.lines = append(b.lines, line)
	}
	return b
}

// describe says where a job stands. Progress is counters alone, so it may be
// asked for at every redraw.
func (b *bars) describe(i int) string {
	j := b.run.Progress()[i]
	if !j.Started {
		if wait := time.Until(j.ScheduledAt); wait > 0 {
			return "starts in " + wait.Round(time.Second).String()
		}
		return "waiting"
	}
	text := fmt.Sprintf("%d/%d", j.Done, j.Listed) + outcomeList(j)
	if j.InFlight > 0 {
		text += fmt.Sprintf(", in flight %d", j.InFlight)
	}
	return text
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
		for i, j := range b.run.Progress() {
			b.lines[i].SetTotal(max(1, j.Listed), false)
			b.lines[i].SetCurrent(j.Done)
		}
	}
	for _, line := range b.lines {
		line.SetTotal(-1, true)
	}
	b.container.Wait()
}
