package runner_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// hinted is err with the hub's wish that we wait.
func hinted(err *hub.Error, wait time.Duration) *hub.Error {
	err.Wait = wait
	return err
}

func TestMethodRetriesByClass(t *testing.T) {
	const sec = time.Second
	once, twice := []time.Duration{0}, []time.Duration{0, 0}
	tests := []struct {
		name   string
		faults []fault
		always *fault
		job    spec.Job
		want   spec.Outcome
		status spec.Status
		starts []time.Duration
		error  string
	}{
		{
			name: "not sent, then sent", faults: []fault{refused(kind(hub.KindNotSent)), refused(kind(hub.KindNotSent))},
			job: method("m"), want: spec.OutcomeSucceeded, starts: []time.Duration{0, 0, 0},
		},
		{
			name: "the hub's hint is kept to", faults: []fault{refused(hinted(kind(hub.KindNotSent), 7*sec))},
			job: method("m"), want: spec.OutcomeSucceeded, starts: []time.Duration{0, 7 * sec},
		},
		{
			name: "429 uses up no attempt", faults: []fault{refused(throttled(10 * sec)), refused(throttled(30 * sec))},
			job: method("m", attempts(1)), want: spec.OutcomeSucceeded, starts: []time.Duration{0, 10 * sec, 40 * sec},
		},
		{
			name: "429 leaves the attempts to others", faults: []fault{refused(throttled(sec)), refused(kind(hub.KindNotSent)), refused(kind(hub.KindNotSent))},
			job: method("m"), want: spec.OutcomeSucceeded, starts: []time.Duration{0, sec, sec + 100*time.Millisecond, sec + 375*time.Millisecond},
		},
		{
			name: "429 without a hint", faults: []fault{refused(throttled(0))},
			job: method("m", attempts(1)), want: spec.OutcomeSucceeded, starts: []time.Duration{0, sec},
		},
		{
			name: "offline fails", always: &fault{err: offline()},
			job: method("m", attempts(2)), want: spec.OutcomeOffline, starts: twice, error: "offline",
		},
		{
			name: "offline, then there", faults: []fault{refused(offline())},
			job: method("m", attempts(2)), want: spec.OutcomeSucceeded, starts: twice,
		},
		{
			name: "offline is skipped", always: &fault{err: offline()},
			job: method("m", whenOffline(spec.OfflineSkip)), want: spec.OutcomeSkipped, status: spec.StatusSucceeded, starts: once, error: "offline",
		},
		{
			name: "offline is waited for", faults: []fault{refused(hinted(offline(), 25*sec)), refused(hinted(offline(), 20*sec))},
			job:  method("m", whenOffline(spec.OfflineWait), attempts(1), deadline(time.Minute)),
			want: spec.OutcomeSucceeded, starts: []time.Duration{0, 25 * sec, 45 * sec},
		},
		{
			name: "offline until the deadline", always: &fault{err: hinted(offline(), 25*sec)},
			job:  method("m", whenOffline(spec.OfflineWait), attempts(1), deadline(time.Minute)),
			want: spec.OutcomeOffline, starts: []time.Duration{0, 25 * sec, 50 * sec}, error: "offline",
		},
		{
			name: "a method that may have run is not called again", always: &fault{err: noAnswer(), acts: true},
			job: method("m"), want: spec.OutcomeUnanswered, starts: once, error: "noAnswer",
		},
		{
			name: "a cut connection", always: &fault{err: kind(hub.KindCut), acts: true},
			job: method("m"), want: spec.OutcomeUnanswered, starts: once, error: "connectionCut",
		},
		{
			name: "a server error", always: &fault{err: serverError()},
			job: method("m"), want: spec.OutcomeUnanswered, starts: once, error: "serverError",
		},
		{
			name: "an answer that is none", always: &fault{err: kind(hub.KindBadAnswer), acts: true},
			job: method("m"), want: spec.OutcomeUnanswered, starts: once, error: "badAnswer",
		},
		{
			name: "idempotent is called again", faults: []fault{acted(noAnswer())},
			job: method("m", idempotent), want: spec.OutcomeSucceeded, starts: twice,
		},
		{
			name: "idempotent and never answered", always: &fault{err: noAnswer(), acts: true},
			job: method("m", idempotent), want: spec.OutcomeUnanswered, starts: []time.Duration{0, 0, 0}, error: "noAnswer",
		},
		{
			name: "unsure, then offline, stays unanswered", faults: []fault{acted(noAnswer()), refused(offline()), refused(offline())},
			job: method("m", idempotent), want: spec.OutcomeUnanswered, starts: []time.Duration{0, 0, 0}, error: "offline",
		},
		{
			name: "unsure, then offline until the deadline", faults: []fault{acted(noAnswer())}, always: &fault{err: hinted(offline(), 20*sec)},
			job:  method("m", idempotent, whenOffline(spec.OfflineWait), deadline(30*sec)),
			want: spec.OutcomeUnanswered, starts: []time.Duration{0, 0, 20 * sec}, error: "offline",
		},
		{
			name: "unsure, then unknown", faults: []fault{acted(noAnswer()), refused(notFound())},
			job: method("m", idempotent), want: spec.OutcomeUnanswered, starts: twice, error: "notFound",
		},
		{name: "invalid", always: &fault{err: kind(hub.KindInvalid)}, job: method("m"), want: spec.OutcomeFailed, starts: once, error: "invalid"},
		{name: "forbidden", always: &fault{err: kind(hub.KindForbidden)}, job: method("m"), want: spec.OutcomeFailed, starts: once, error: "forbidden"},
		{name: "unknown device", always: &fault{err: notFound()}, job: method("m"), want: spec.OutcomeFailed, starts: once, error: "notFound"},
		{name: "conflict", always: &fault{err: kind(hub.KindConflict)}, job: method("m"), want: spec.OutcomeFailed, starts: once, error: "conflict"},
		{
			name: "an expired token costs nothing", faults: []fault{refused(kind(hub.KindTokenExpired))},
			job: method("m", attempts(1)), want: spec.OutcomeSucceeded, starts: twice,
		},
		{name: "a token expires once in a while", faults: []fault{
			refused(kind(hub.KindTokenExpired)), refused(hinted(offline(), sec)), refused(kind(hub.KindTokenExpired)),
		}, job: method("m"), want: spec.OutcomeSucceeded, starts: []time.Duration{0, 0, sec, sec}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "door-1")
				if tt.always != nil {
					g.hub.on(opInvoke, "door-1", 0, *tt.always)
				}
				g.fail(opInvoke, "door-1", tt.faults...)
				res := g.apply(context.Background(), tt.job)
				status := tt.status
				if status == "" && tt.want == spec.OutcomeSucceeded {
					status = spec.StatusSucceeded
				} else if status == "" {
					status = spec.StatusFailed
				}
				wantOutcomes(t, res.job(t, "m"), status, map[spec.Outcome]int{tt.want: 1})
				if diff := cmp.Diff(tt.starts, g.hub.starts(opInvoke, "door-1")); diff != "" {
					t.Errorf("times of the calls (-want +have):\n%s", diff)
				}
				row := res.row(t, "m", "door-1")
				if row.Attempts != len(tt.starts) {
					t.Errorf("attempts = %d, want %d", row.Attempts, len(tt.starts))
				}
				if got := errorKind(row); got != tt.error {
					t.Errorf("error of the row = %q, want %q", got, tt.error)
				}
			})
		})
	}
}

func errorKind(row spec.Row) string {
	if row.Error == nil {
		return ""
	}
	return row.Error.Kind
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1")
		g.hub.on(opInvoke, "door-1", 0, refused(offline()))
		g.apply(context.Background(), method("m", func(j *spec.Job) {
			j.Retry = spec.Retry{Attempts: 40, Backoff: 2 * time.Second, MaxBackoff: 10 * time.Second}
		}))
		starts := g.hub.starts(opInvoke, "door-1")
		if len(starts) != 40 {
			t.Fatalf("%d attempts, want 40", len(starts))
		}
		ceilings := []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second}
		for i := range len(starts) - 1 {
			if wait, most := starts[i+1]-starts[i], ceilings[min(i, 3)]; wait < 0 || wait > most {
				t.Errorf("wait after attempt %d = %v, want at most %v", i+1, wait, most)
			}
		}
		// 36 waits of up to 10 s are 180 s on average: full jitter, not none.
		if total := starts[39] - starts[3]; total < 90*time.Second || total > 270*time.Second {
			t.Errorf("36 waits took %v, want about 180s", total)
		}
	})
}

func TestMethodAnswers(t *testing.T) {
	tests := []struct {
		name    string
		answer  hub.Answer
		want    spec.Outcome
		payload string
		message string
	}{
		{name: "success", answer: hub.Answer{Status: 204, Payload: json.RawMessage(`"done"`)}, want: spec.OutcomeSucceeded, payload: `"done"`},
		{name: "null", answer: hub.Answer{Status: 200, Payload: json.RawMessage(`null`)}, want: spec.OutcomeSucceeded, payload: `null`},
		{name: "no payload at all", answer: hub.Answer{Status: 200}, want: spec.OutcomeSucceeded, payload: `null`},
		{name: "over several lines", answer: hub.Answer{Status: 200, Payload: json.RawMessage("{\r\n\"a\": [1,\n2]}")}, want: spec.OutcomeSucceeded, payload: `{"a":[1,2]}`},
		{
			name: "other status", answer: hub.Answer{Status: 418, Payload: json.RawMessage(`{"why":"tea"}`)}, want: spec.OutcomeRejected,
			payload: `{"why":"tea"}`, message: "the device answered status 418, success is 200-202, 204",
		},
		{
			name: "negative status", answer: hub.Answer{Status: -7, Payload: json.RawMessage(`1`)}, want: spec.OutcomeRejected,
			payload: `1`, message: "the device answered status -7, success is 200-202, 204",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, "door-1")
				g.hub.answer = func(call) hub.Answer { return tt.answer }
				res := g.apply(context.Background(), method("m", func(j *spec.Job) {
					j.Method.Success = spec.StatusSet{{From: 200, To: 202}, {From: 204, To: 204}}
				}))
				row := res.row(t, "m", "door-1")
				if row.Outcome != tt.want || row.Method.Status != tt.answer.Status || string(row.Method.Payload) != tt.payload {
					t.Errorf("row = %s, status %d, payload %s, want %s, %d, %s",
						row.Outcome, row.Method.Status, row.Method.Payload, tt.want, tt.answer.Status, tt.payload)
				}
				if row.Error != nil && row.Error.Message != tt.message || row.Error == nil && tt.message != "" {
					t.Errorf("error = %+v, want %q", row.Error, tt.message)
				}
			})
		})
	}
}

func TestUnauthorizedEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.hub.takes[opInvoke] = time.Second
		g.hub.on(opInvoke, "device-000003", 0, fault{err: unauthorized(), takes: time.Second / 2})
		res := g.apply(context.Background(),
			method("m", func(j *spec.Job) { j.Concurrency = 2 }),
			method("other", delay(time.Hour)))
		cause := hubErrorOf(t, res)
		if cause.Hub != "test.example" {
			t.Errorf("Cause() = %v, want the hub's name in it", cause)
		}
		// 0 and 1 at once, 2 and 3 a second later, 4 when 2 has ended; then 3 is refused.
		wantOutcomes(t, res.job(t, "m"), spec.StatusFailed, map[spec.Outcome]int{
			spec.OutcomeSucceeded: 4, spec.OutcomeFailed: 1, spec.OutcomeNotReached: 5,
		})
		wantOutcomes(t, res.job(t, "other"), spec.StatusNotStarted, map[spec.Outcome]int{})
		if n := len(g.hub.of(opInvoke, "")); n != 5 {
			t.Errorf("%d calls, want 5", n)
		}
		if res.run.Status() != spec.StatusFailed {
			t.Errorf("Status() = %s, want failed", res.run.Status())
		}
	})
}

// Nobody waits for a turn that would be refused as well.
func TestUnauthorizedEndsTheRunAtOnce(t *testing.T) {
	tests := map[string]struct {
		job   spec.Job
		op    operation
		calls int
	}{
		"method with a rate":       {method("m", func(j *spec.Job) { j.Rate, j.Concurrency = 1.0/6, 64 }), opInvoke, 1},
		"twin with a rate":         {update("m", `{"floor":3}`, "", func(j *spec.Job) { j.Rate, j.Concurrency = 1.0/6, 64 }), opPatch, 1},
		"as many as are under way": {method("m", func(j *spec.Job) { j.Concurrency = 64 }), opInvoke, 64},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, devices(200)...)
				g.hub.takes[tt.op] = time.Second
				g.hub.on(tt.op, "", 0, refused(unauthorized()))
				g.options.Grace = time.Minute
				other := method("other", delay(time.Hour))
				res := g.apply(context.Background(), tt.job, other)
				hubErrorOf(t, res)
				if n := len(g.hub.of(tt.op, "")); n > tt.calls {
					t.Errorf("%d calls, want at most %d", n, tt.calls)
				}
				if took := res.report.Run.EndedAt.Sub(g.hub.begin); took > 2*time.Second {
					t.Errorf("the run took %v", took)
				}
			})
		})
	}
}

// Whose calls the hub refuses over and over, while it takes those of others,
// uses up its attempts; the run goes on.
func TestTokenRefusedToOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "door-1", "door-2")
		g.hub.on(opInvoke, "door-1", 0, refused(kind(hub.KindTokenExpired)))
		res := g.apply(context.Background(), method("m", serial))
		wantOutcomes(t, res.job(t, "m"), spec.StatusFailed, map[spec.Outcome]int{spec.OutcomeFailed: 1, spec.OutcomeSucceeded: 1})
		if starts := g.hub.starts(opInvoke, "door-1"); len(starts) != 4 { // one of them is free
			t.Errorf("calls at %v, want four", starts)
		}
	})
}

// While a fresh token is in doubt, nothing else is sent: all of it might be
// refused.
func TestTokenInDoubtHoldsOthersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(10)...)
		g.fail(opInvoke, "device-000000", refused(kind(hub.KindTokenExpired)), refused(hinted(kind(hub.KindTokenExpired), time.Second)))
		g.hub.takes[opInvoke] = 10 * time.Millisecond
		res := g.apply(context.Background(), method("m", serial))
		wantOutcomes(t, res.job(t, "m"), spec.StatusSucceeded, map[spec.Outcome]int{spec.OutcomeSucceeded: 10})
		starts := g.hub.starts(opInvoke, "")
		for i, at := range starts[1:] {
			if at-starts[i] > 10*time.Millisecond {
				if at-starts[i] != 10*time.Millisecond+time.Second {
					t.Errorf("calls at %v, want a pause of a second", starts)
				}
				return
			}
		}
		t.Errorf("calls at %v, want a pause", starts)
	})
}

// A row begins with the device's first request: it does not tell of the time
// that the device stood in line for it.
func TestRowsBeginWithTheFirstRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, devices(3)...)
		g.hub.set("device-000002", `{"floor":3}`, `{}`)
		for _, op := range []operation{opInvoke, opRead, opPatch} {
			g.hub.takes[op] = 10 * time.Millisecond
		}
		slowly := func(j *spec.Job) { j.Rate, j.Concurrency = 1, 1 }
		res := g.apply(context.Background(), method("m", slowly), update("u", `{"floor":3}`, "", slowly))
		for i, id := range devices(3) {
			row := res.row(t, "m", id)
			if at := row.StartedAt.Sub(g.hub.begin); at != time.Duration(i)*time.Second || row.EndedAt.Sub(row.StartedAt.Time) != 10*time.Millisecond {
				t.Errorf("%s took from %v to %v, want its call alone", id, row.StartedAt, row.EndedAt)
			}
		}
		if most := res.job(t, "u").LatencyMs.Max; most > 10 {
			t.Errorf("the slowest answer took %d ms, want 10", most)
		}
	})
}

// A patch that is computed anew is another attempt, and all but the first of an
// item are retries.
func TestRereadsAreRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, "a")
		g.hub.on(opPatch, "a", 1, fault{before: func(t *fakeTwin) { t.version++ }})
		res := g.apply(context.Background(), update("u", `{"floor":3}`, ""))
		if j := res.job(t, "u"); j.Attempts != 2 || j.Retries != 1 {
			t.Errorf("%d attempts and %d retries, want 2 and 1", j.Attempts, j.Retries)
		}
	})
}
