package terminal

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

	"iothub-runner/internal/exit"
	"iothub-runner/runner"
)

// Signals turns SIGINT, SIGTERM and SIGHUP into the ends of a run's two contexts: the
// first signal ends dispatching, the second one, or the end of the grace
// period, cuts off what is in flight.
type Signals struct {
	Dispatch context.Context //nolint:containedctx // handed to the run
	Work     context.Context //nolint:containedctx // handed to the run

	end  context.CancelCauseFunc // of dispatch
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup
}

// ErrOutputClosed ends a run whose report nobody is there to read.
var ErrOutputClosed = errors.New("standard output is closed, so nobody would read the report; nothing more was sent")

// WatchSignals begins the watch. A run that is told to end has so much grace.
func WatchSignals(ctx context.Context, t *Talk, grace time.Duration) *Signals {
	s := &Signals{quit: make(chan struct{})}
	var stop, cut context.CancelCauseFunc
	s.Dispatch, stop = context.WithCancelCause(ctx)
	s.end = stop
	s.Work, cut = context.WithCancelCause(context.WithoutCancel(ctx))
	// Two: a second signal must not be lost while the first is handled.
	came := make(chan os.Signal, 2)
	signal.Notify(came, Ends()...)
	s.done.Go(func() {
		defer signal.Stop(came)
		defer cut(nil)
		select {
		case sig := <-came:
			cause := interrupted(sig)
			t.Line(fmt.Sprintf("%s: no new calls; waiting up to %v for those in flight (press Ctrl-C again to abort)", cause.Signal, grace),
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

func (s *Signals) waitGrace(came <-chan os.Signal, grace time.Duration) {
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

// WatchOutput ends dispatching when the reader of out goes away, at once if it
// has gone already.
func (s *Signals) WatchOutput(out io.Writer) {
	f, ok := Below(out).(*os.File)
	if !ok {
		return
	}
	if gone, err := HungUp(f, 0); gone || err != nil {
		if gone {
			s.end(ErrOutputClosed)
		}
		return
	}
	s.done.Go(func() {
		if awaitClosed(f, s.quit) {
			s.end(ErrOutputClosed)
		}
	})
}

// AwaitClosed returns true when the reader of f has gone away, and false once
// quit is closed or it turns out that it cannot be known.
func awaitClosed(f *os.File, quit <-chan struct{}) bool {
	for {
		gone, err := HungUp(f, outputPoll)
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

// Stop ends the watch. A later signal ends the process, as signals do.
func (s *Signals) Stop() {
	s.once.Do(func() { close(s.quit) })
	s.done.Wait()
}

// UntilSignal returns a context that ends with the first signal. Nothing that
// hangs on it has to be finished: it only reads. The returned function ends the
// watch.
func UntilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	came := make(chan os.Signal, 1) // the first is enough
	signal.Notify(came, Ends()...)
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

// Ends are the signals that end a command. That of a terminal which was closed is
// among them unless it is ignored: nohup asks for that.
func Ends() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

func interrupted(sig os.Signal) *runner.InterruptedError {
	switch sig {
	case syscall.SIGTERM:
		return &runner.InterruptedError{Signal: "SIGTERM", ExitCode: exit.SIGTERM}
	case syscall.SIGHUP:
		return &runner.InterruptedError{Signal: "SIGHUP", ExitCode: exit.SIGHUP}
	}
	return &runner.InterruptedError{Signal: "SIGINT", ExitCode: exit.SIGINT}
}
