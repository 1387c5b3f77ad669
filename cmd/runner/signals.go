package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"iothub-runner/runner"
)

// signals turns SIGINT, SIGTERM and SIGHUP into the ends of a run's two contexts: the
// first signal ends dispatching, the second one, or the end of the grace
// period, cuts off what is in flight.
type signals struct {
	dispatch context.Context //nolint:containedctx // handed to the run
	work     context.Context //nolint:containedctx // handed to the run

	end  context.CancelCauseFunc // of dispatch
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup
}

// errOutputClosed ends a run whose report nobody is there to read.
var errOutputClosed = errors.New("standard output is closed, so nobody would read the report; nothing more was sent")

func watchSignals(ctx context.Context, t *talk, grace time.Duration) *signals {
	s := &signals{quit: make(chan struct{})}
	var stop, cut context.CancelCauseFunc
	s.dispatch, stop = context.WithCancelCause(ctx)
	s.end = stop
	s.work, cut = context.WithCancelCause(context.WithoutCancel(ctx))
	// Two: a second signal must not be lost while the first is handled.
	came := make(chan os.Signal, 2)
	signal.Notify(came, ends()...)
	s.done.Go(func() {
		defer signal.Stop(came)
		defer cut(nil)
		select {
		case sig := <-came:
			cause := interrupted(sig)
			t.line(fmt.Sprintf("%s: no new calls; waiting up to %v for those in flight (again to cut them off)", cause.Signal, grace),
				slog.String("event", "interrupted"), slog.String("signal", cause.Signal))
			stop(cause)
			s.waitGrace(came, grace)
			cut(cause)
			<-s.quit
		case <-s.quit:
			stop(nil)
		}
	})
	return s
}

func (s *signals) waitGrace(came <-chan os.Signal, grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-came:
	case <-timer.C:
	case <-s.quit:
	}
}

// outputPoll is how often the watch over the output looks whether it is still
// wanted.
const outputPoll = 250 * time.Millisecond

// watchOutput ends dispatching when the reader of out goes away, at once if it
// has gone already.
func (s *signals) watchOutput(out io.Writer) {
	f, ok := below(out).(*os.File)
	if !ok {
		return
	}
	if gone, err := hungUp(f, 0); gone || err != nil {
		if gone {
			s.end(errOutputClosed)
		}
		return
	}
	s.done.Go(func() {
		if awaitClosed(f, s.quit) {
			s.end(errOutputClosed)
		}
	})
}

// awaitClosed returns true when the reader of f has gone away, and false once
// quit is closed or it turns out that it cannot be known.
func awaitClosed(f *os.File, quit <-chan struct{}) bool {
	for {
		gone, err := hungUp(f, outputPoll)
		if gone || err != nil {
			return gone
		}
		select {
		case <-quit:
			return false
		default:
		}
	}
}

// stop ends the watch. A later signal ends the process, as signals do.
func (s *signals) stop() {
	s.once.Do(func() { close(s.quit) })
	s.done.Wait()
}

// untilSignal returns a context that ends with the first signal. Nothing that
// hangs on it has to be finished: it only reads. The returned function ends the
// watch.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	came := make(chan os.Signal, 1) // the first is enough
	signal.Notify(came, ends()...)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer signal.Stop(came)
		select {
		case sig := <-came:
			cancel(interrupted(sig))
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}

// ends are the signals that end a command. That of a terminal which was closed is
// among them unless it is ignored: nohup asks for that.
func ends() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

func interrupted(sig os.Signal) *runner.InterruptedError {
	switch sig {
	case syscall.SIGTERM:
		return &runner.InterruptedError{Signal: "SIGTERM", ExitCode: exitSIGTERM}
	case syscall.SIGHUP:
		return &runner.InterruptedError{Signal: "SIGHUP", ExitCode: exitSIGHUP}
	}
	return &runner.InterruptedError{Signal: "SIGINT", ExitCode: exitSIGINT}
}
