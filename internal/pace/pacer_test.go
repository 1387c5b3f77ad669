package pace

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"iothub-runner/internal/hub"
)

// throttledHub is a hub that takes rate calls a second, queues up to queue of
// those that come faster, and refuses the rest.
type throttledHub struct {
	rate   float64
	queue  int
	base   time.Duration // what an answer takes when nothing is queued
	freeAt time.Time     // when the hub will have served what it has
}

// serve says when a call that arrives now is answered, and whether it was taken.
func (h *throttledHub) serve(now time.Time) (answer time.Time, taken bool) {
	if h.freeAt.Before(now) {
		h.freeAt = now
	}
	if waiting := h.freeAt.Sub(now).Seconds() * h.rate; waiting > float64(h.queue) {
		return now.Add(h.base), false
	}
	h.freeAt = h.freeAt.Add(time.Duration(float64(time.Second) / h.rate))
	return h.freeAt.Add(h.base), true
}

// event is an answer on its way to us.
type event struct {
	at, sent time.Time
	taken    bool
}

// simulate runs callers in a closed loop against a hub, on a clock of its own,
// and returns how many calls were taken and how many refused.
func simulate(h *throttledHub, l *lane, callers int, length time.Duration) (taken, refused int) {
	now := time.Unix(1_800_000_000, 0)
	end := now.Add(length)
	waiting := callers
	var answers []event // unordered; at most as many as callers
	for now.Before(end) {
		turn := end
		if waiting > 0 {
			wait, _ := l.book(now, 1)
			if wait == 0 {
				waiting--
				at, ok := h.serve(now)
				answers = append(answers, event{at: at, sent: now, taken: ok})
				continue
			}
			turn = now.Add(wait)
		}
		next := -1
		for i := range answers {
			if answers[i].at.Before(turn) && (next < 0 || answers[i].at.Before(answers[next].at)) {
				next = i
			}
		}
		if next < 0 {
			now = turn
			continue
		}
		e := answers[next]
		answers[next] = answers[len(answers)-1]
		answers = answers[:len(answers)-1]
		now = later(now, e.at)
		waiting++
		if e.taken {
			taken++
			l.answered(now, e.sent)
		} else {
			refused++
			l.refusedFor(now, e.sent, &hub.Error{Kind: hub.KindThrottled})
		}
	}
	return taken, refused
}

// TestPaceUnderThrottle holds the pacer to what it is for: it keeps nearly all
// of what the hub takes, and nearly nothing is refused, whatever the hub's rate
// and however much it queues.
func TestPaceUnderThrottle(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{10, 40, 200, 1000, 5000} {
		for _, queue := range []float64{0.1, 0.5, 2, 30} { // in seconds
			t.Run(fmt.Sprintf("rate %v queue %vs", rate, queue), func(t *testing.T) {
				t.Parallel()
				h := &throttledHub{rate: rate, queue: max(2, int(rate*queue)), base: 5 * time.Millisecond}
				// As long as a fleet of 50,000 takes, and at least twenty seconds.
				length := max(20*time.Second, time.Duration(50_000/rate*float64(time.Second)))
				taken, refused := simulate(h, &lane{}, 64, length)
				kept := float64(taken) / (rate * length.Seconds())
				share := float64(refused) / float64(taken+refused)
				t.Logf("kept %.3f, refused %.4f", kept, share)
				if kept < 0.97 {
					t.Errorf("kept %.3f of the hub's rate, want at least 0.97", kept)
				}
				if share > 0.02 {
					t.Errorf("%.4f of the calls were refused, want at most 0.02", share)
				}
			})
		}
	}
}

// TestPaceUnthrottled: a hub that takes everything is never waited for.
func TestPaceUnthrottled(t *testing.T) {
	l := &lane{}
	now := time.Unix(1_800_000_000, 0)
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		if !l.open(now) {
			t.Fatal("a call waits, and the hub has never given a sign")
		}
		now = now.Add(time.Duration(r.IntN(200)) * time.Microsecond)
		l.answered(now, now)
	}
}

// TestPaceOfKnownHub starts at four fifths of the published throttle and never
// exceeds it.
func TestPaceOfKnownHub(t *testing.T) {
	p := New("S1", 2, Options{})
	l := &p.lanes[Method]
	if l.rate != 64 || l.limit != 80 {
		t.Fatalf("methods of S1 with 2 units: rate %v limit %v, want 64 and 80", l.rate, l.limit)
	}
	taken, refused := simulate(&throttledHub{rate: 80, queue: 5, base: 5 * time.Millisecond}, l, 64, 5*time.Minute)
	if kept := float64(taken) / (80 * 300); refused != 0 || kept < 0.97 {
		t.Errorf("kept %.3f with %d refused, want at least 0.97 and none", kept, refused)
	}
	if l.rate > 80 {
		t.Errorf("rate %v, above the published 80", l.rate)
	}
}

func TestSteps(t *testing.T) {
	for payload, want := range map[int]int{0: 1, 1: 1, 4096: 1, 4097: 2, 128 << 10: 32} {
		if got := Steps(payload, MethodStep); got != want {
			t.Errorf("steps(%d) = %d, want %d", payload, got, want)
		}
	}
}
