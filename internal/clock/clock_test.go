package clock_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"iothub-runner/internal/clock"
)

// hub is an emulated hub whose time stands still unless it is moved.
type hub struct {
	mu  sync.Mutex
	now time.Time
}

// Now is its time.
func (h *hub) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// Advance moves it.
func (h *hub) Advance(d time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
	return nil
}

func rehearse(t *testing.T) time.Time {
	t.Helper()
	start := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	t.Cleanup(clock.Rehearse(&hub{now: start}))
	return start
}

func TestRehearsalJumpsToWhoWaitsFirst(t *testing.T) {
	start := rehearse(t)
	var mu sync.Mutex
	var woken []time.Duration
	var sleepers sync.WaitGroup
	for _, d := range []time.Duration{3 * time.Hour, time.Hour, 48 * time.Hour, 2 * time.Hour} {
		sleepers.Go(func() {
			clock.Work()
			defer clock.Rest()
			if !clock.Sleep(t.Context(), d) {
				t.Errorf("a sleep of %v was cut off", d)
			}
			mu.Lock()
			defer mu.Unlock()
			woken = append(woken, clock.Since(start))
		})
	}
	sleepers.Wait()
	if want := []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour, 48 * time.Hour}; !slices.Equal(woken, want) {
		t.Errorf("woken after %v, want %v", woken, want)
	}
}

// As long as somebody is at work, time passes as it does.
func TestRehearsalWaitsForWhoIsAtWork(t *testing.T) {
	start := rehearse(t)
	clock.Work()
	timer := clock.NewTimer(time.Hour)
	select {
	case <-timer.C:
		t.Fatal("the time was jumped over while somebody was at work")
	case <-time.After(20 * time.Millisecond): // a hundred looks
	}
	clock.Rest()
	<-timer.C
	if d := clock.Since(start); d != time.Hour {
		t.Errorf("rang after %v", d)
	}
	timer.Reset(time.Minute)
	<-timer.C
	if d := clock.Since(start); d != time.Hour+time.Minute {
		t.Errorf("rang again after %v", d)
	}
}

func TestRehearsedDeadline(t *testing.T) {
	start := rehearse(t)
	late := errors.New("late")
	ctx, cancel := clock.WithDeadline(context.Background(), start.Add(time.Hour), late)
	defer cancel()
	if clock.Sleep(ctx, 2*time.Hour) {
		t.Error("slept beyond the deadline")
	}
	if cause := context.Cause(ctx); cause != late { //nolint:errorlint // the cause itself
		t.Errorf("cause %v", cause)
	}
	given, cancelGiven := clock.WithDeadline(context.Background(), start.Add(time.Hour), late)
	cancelGiven()
	if context.Cause(given) == late { //nolint:errorlint // the cause itself
		t.Error("a context that was given up says that it is late")
	}
}

func TestRealClock(t *testing.T) {
	if d := time.Since(clock.Now()); d < 0 || d > time.Minute {
		t.Errorf("the time is %v off", d)
	}
	ctx, cancel := clock.WithDeadline(context.Background(), time.Now().Add(time.Millisecond), errors.New("late"))
	defer cancel()
	if clock.Sleep(ctx, time.Hour) {
		t.Error("slept beyond the deadline")
	}
	timer := clock.NewTimer(time.Hour)
	timer.Reset(time.Millisecond)
	<-timer.C
	timer.Stop()
}
