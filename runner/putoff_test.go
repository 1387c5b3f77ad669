package runner

import (
	"testing"
	"time"

	"iothub-runner/internal/decide"
	"iothub-runner/internal/schedule"
	"iothub-runner/spec"
)

func TestAtStop(t *testing.T) {
	interrupted := &InterruptedError{Signal: "SIGINT", ExitCode: 130}
	tests := []struct {
		last  spec.Outcome
		cause error
		want  spec.Outcome
	}{
		{spec.OutcomeOffline, errDeadline, spec.OutcomeOffline},
		{spec.OutcomeOffline, interrupted, spec.OutcomeNotReached},
		{spec.OutcomeUnanswered, errDeadline, spec.OutcomeUnanswered},
		{spec.OutcomeUnanswered, interrupted, spec.OutcomeUnanswered},
		{spec.OutcomeFailed, errDeadline, spec.OutcomeNotReached},
		{spec.OutcomeFailed, interrupted, spec.OutcomeNotReached},
		{"", errDeadline, spec.OutcomeNotReached},
	}
	for _, tt := range tests {
		if got := atStop(decide.Verdict{Step: decide.StepRetry, Outcome: tt.last}, tt.cause); got != tt.want {
			t.Errorf("atStop(%q, %v) = %s, want %s", tt.last, tt.cause, got, tt.want)
		}
	}
}

func TestDue(t *testing.T) {
	start := time.Date(2026, 11, 22, 23, 15, 0, 0, time.UTC)
	at := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	tests := []struct {
		job  spec.Job
		want time.Time
	}{
		{spec.Job{}, start},
		{spec.Job{Delay: 90 * time.Second}, start.Add(90 * time.Second)},
		{spec.Job{At: at}, at},
		{spec.Job{At: start.Add(-time.Hour)}, start},
	}
	for _, tt := range tests {
		if got := schedule.Due(start, &tt.job); !got.Equal(tt.want) {
			t.Errorf("due(%+v) = %v, want %v", tt.job, got, tt.want)
		}
	}
}
