package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"iothub-runner/runner"
)

// signals turns SIGINT and SIGTERM into the ends of a run's two contexts: the
// first signal ends dispatching, the second one, or the end of the grace
// period, cuts off what is in flight.
type signals struct {
	dispatch context.Context //nolint:containedctx // handed to the run
	work     context.Context //nolint:containedctx // handed to the run

	quit chan struct{}
	done sync.WaitGroup
}

func watchSignals(ctx context.Context, t *talk, grace time.Duration) *signals {
	s := &signals{quit: make(chan struct{})}
	var stop, cut context.CancelCauseFunc
	s.dispatch, stop = context.WithCancelCause(ctx)
	s.work, cut = context.WithCancelCause(context.WithoutCancel(ctx))
	// Two: a second signal must not be lost while the first is handled.
	came := make(chan os.Signal, 2)
	signal.Notify(came, os.Interrupt, syscall.SIGTERM)
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

// stop ends the watch. A later signal ends the process, as signals do.
func (s *signals) stop() {
	close(s.quit)
	s.done.Wait()
}

func interrupted(sig os.Signal) *runner.InterruptedError {
	if sig == syscall.SIGTERM {
		return &runner.InterruptedError{Signal: "SIGTERM", ExitCode: exitSIGTERM}
	}
	return &runner.InterruptedError{Signal: "SIGINT", ExitCode: exitSIGINT}
}
