package decide

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// lastKind returns the last kind of the closed set: the one before the first
// that has no name.
func lastKind() hub.Kind {
	k := hub.Kind(1)
	for !strings.HasPrefix((k + 1).String(), "kind(") {
		k++
	}
	return k
}

// always is what a kind comes to in every phase and under every policy.
func always(s Step, o spec.Outcome) func(Phase, Policy) Verdict {
	return func(Phase, Policy) Verdict { return Verdict{s, o} }
}

func TestDecide(t *testing.T) {
	unknown := func(p Phase, pol Policy) Verdict {
		switch {
		case p == Reading:
			return Verdict{StepRetry, spec.OutcomeFailed}
		case p == Patching || pol.Idempotent:
			return Verdict{StepRetry, spec.OutcomeUnanswered}
		}
		return Verdict{StepEnd, spec.OutcomeUnanswered}
	}
	table := []struct {
		kind   hub.Kind
		reason string
		want   func(Phase, Policy) Verdict
	}{
		{hub.KindNotSent, "nothing left us: again is the first time", always(StepRetry, spec.OutcomeFailed)},
		{hub.KindCancelled, "we gave up before it was sent", always(StepEnd, spec.OutcomeNotReached)},
		{hub.KindInvalid, "the same request stays malformed", always(StepEnd, spec.OutcomeFailed)},
		{hub.KindUnauthorized, "every other call would be refused as well", always(StepAbort, spec.OutcomeFailed)},
		{hub.KindTokenExpired, "refused before anything was done; a new token is there", always(StepRetry, spec.OutcomeFailed)},
		{hub.KindForbidden, "a quota does not come back by asking", always(StepEnd, spec.OutcomeFailed)},
		{hub.KindNotFound, "404001: a device does not come to be by asking", always(StepEnd, spec.OutcomeFailed)},
		{hub.KindOffline, "404103: the call never reached the device, so the plan decides", func(_ Phase, pol Policy) Verdict {
			return map[spec.OfflinePolicy]Verdict{
				spec.OfflineFail: {StepRetry, spec.OutcomeOffline},
				spec.OfflineSkip: {StepEnd, spec.OutcomeSkipped},
				spec.OfflineWait: {StepWait, spec.OutcomeOffline},
			}[pol.Offline]
		}},
		{hub.KindConflict, "what exists keeps existing", always(StepEnd, spec.OutcomeFailed)},
		{hub.KindPrecondition, "the twin is another by now: recompute", always(StepReread, spec.OutcomeFailed)},
		{hub.KindThrottled, "the hub refused us, not the device", always(StepWait, spec.OutcomeFailed)},
		{hub.KindNotReady, "refused before anything was done, and it passes", always(StepRetry, spec.OutcomeFailed)},
		{hub.KindNoAnswer, "the device has the call", unknown},
		{hub.KindServer, "the hub may have passed it on before it failed", unknown},
		{hub.KindCut, "the request was written", unknown},
		{hub.KindBadAnswer, "it was done; what came back is of no use", unknown},
	}
	decided := map[hub.Kind]bool{}
	for _, tt := range table {
		decided[tt.kind] = true
		for _, p := range []Phase{Reading, Patching, Invoking} {
			for _, pol := range policies() {
				if got, want := After(tt.kind, p, pol), tt.want(p, pol); got != want {
					t.Errorf("decide(%s, %d, %+v) = %v, want %v: %s", tt.kind, p, pol, got, want, tt.reason)
				}
			}
		}
	}
	for k := hub.Kind(1); k <= lastKind(); k++ {
		if !decided[k] {
			t.Errorf("the table does not decide about %s", k)
		}
	}
}

func policies() []Policy {
	var all []Policy
	for _, o := range []spec.OfflinePolicy{spec.OfflineFail, spec.OfflineSkip, spec.OfflineWait} {
		all = append(all, Policy{Offline: o}, Policy{Offline: o, Idempotent: true})
	}
	return all
}

func TestDecideKnowsNoOtherKind(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("decide of a kind outside the closed set did not panic")
		}
	}()
	After(lastKind()+1, Reading, Policy{})
}

func TestBackoff(t *testing.T) {
	const s = time.Second
	most := func(d time.Duration) time.Duration { return d }
	least := func(time.Duration) time.Duration { return 0 }
	tests := []struct {
		name      string
		base, cap time.Duration
		n         int
		hint      time.Duration
		random    func(time.Duration) time.Duration
		want      time.Duration
	}{
		{"first", 2 * s, 60 * s, 1, 0, most, 2 * s},
		{"doubles", 2 * s, 60 * s, 4, 0, most, 16 * s},
		{"is capped", 2 * s, 60 * s, 6, 0, most, 60 * s},
		{"stays capped", 2 * s, 60 * s, 1000, 0, most, 60 * s},
		{"base above the cap", 90 * s, 60 * s, 1, 0, most, 60 * s},
		{"full jitter goes down to nothing", 2 * s, 60 * s, 9, 0, least, 0},
		{"hint", 2 * s, 60 * s, 1, 10 * s, least, 10 * s},
		{"hint above the cap", 2 * s, 60 * s, 9, 300 * s, most, 300 * s},
		{"more than the hint", 2 * s, 60 * s, 9, 10 * s, most, 60 * s},
		{"no backoff at all", 0, 0, 3, 0, most, 0},
		{"a base that would overflow", 24 * time.Hour, 48 * time.Hour, 25, 0, most, 48 * time.Hour},
		{"the largest base", 1<<63 - 1, 1<<63 - 1, 2, 0, most, 1<<63 - 1},
	}
	for _, tt := range tests {
		r := spec.Retry{Backoff: tt.base, MaxBackoff: tt.cap}
		if got := Backoff(r, tt.n, tt.hint, tt.random); got != tt.want {
			t.Errorf("%s: backoff(%v..%v, %d, %v) = %v, want %v", tt.name, tt.base, tt.cap, tt.n, tt.hint, got, tt.want)
		}
	}
	for n := 1; n < 200; n++ {
		for base := time.Duration(1); base > 0 && base < 1<<62; base *= 7 {
			r := spec.Retry{Backoff: base, MaxBackoff: 1 << 62}
			if got := Backoff(r, n, 0, most); got < base || got > 1<<62 {
				t.Fatalf("backoff(%v.., %d) = %v, want at least the base and at most the cap", base, n, got)
			}
		}
	}
}

func TestJitter(t *testing.T) {
	if got := Jitter(-time.Second); got != 0 {
		t.Errorf("jitter(-1s) = %v, want 0", got)
	}
	seen := map[time.Duration]bool{}
	for range 200 {
		seen[Jitter(3)] = true
	}
	if diff := cmp.Diff(map[time.Duration]bool{0: true, 1: true, 2: true, 3: true}, seen); diff != "" {
		t.Errorf("200 times jitter(3ns) (-want +have):\n%s", diff)
	}
}

func TestErrorsOfOthers(t *testing.T) {
	plain := errors.New("surprise")
	if got := AsHubError(plain); got.Kind != hub.KindServer || got.Message != "surprise" || !errors.Is(got, plain) {
		t.Errorf("asHubError(%v) = %+v, want one that may have had an effect", plain, got)
	}
	known := &hub.Error{Kind: hub.KindOffline}
	if got := AsHubError(errors.Join(known)); got != known {
		t.Errorf("asHubError of a joined error = %v, want %v", got, known)
	}
}
