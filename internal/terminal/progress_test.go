package terminal

import (
	"testing"

	"iothub-runner/runner"
	"iothub-runner/spec"
)

// A job says how far it is in whatever moves: what is found while the hub
// lists, what is done afterwards.
func TestWhereabout(t *testing.T) {
	done := map[spec.Outcome]int64{spec.OutcomeSucceeded: 3}
	for _, tt := range []struct {
		name string
		job  runner.JobProgress
		want string
	}{
		{name: "asks for the first page", job: runner.JobProgress{Name: "a"}, want: "job a: 0 done"},
		{name: "lists", job: runner.JobProgress{Name: "a", Listed: 4000}, want: "job a: 0 done, 4000 found so far"},
		{name: "lists and calls", job: runner.JobProgress{Name: "a", Listed: 40, Done: 3, Outcomes: done, InFlight: 2}, want: "job a: 3 done (3 succeeded), 40 found so far, 2 in flight"},
		{
			name: "in a rollout", job: runner.JobProgress{Name: "a", Listed: 40, Whole: true, Done: 3, Outcomes: done, InFlight: 2, Watched: 4, Away: 1, Wave: 2, Waves: 3},
			want: "job a: 3 of 40 done (3 succeeded), 2 in flight, 4 to report the change, 1 offline and waited for, in wave 2 of 3",
		},
		{name: "by the hub", job: runner.JobProgress{Name: "a", Listed: 40, Whole: true, InFlight: 40, AtHub: 12}, want: "job a: 0 of 40 done, 40 in flight, 12 done by the hub"},
		{name: "has them all", job: runner.JobProgress{Name: "a", Listed: 40, Whole: true, Done: 3, Outcomes: done, InFlight: 2}, want: "job a: 3 of 40 done (3 succeeded), 2 in flight"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := whereabout(tt.job); got != tt.want {
				t.Errorf("whereabout(%+v) = %q, want %q", tt.job, got, tt.want)
			}
		})
	}
}
