package render

import (
	"fmt"
	"strings"
	"time"

	"iothub-runner/spec"
)

// Tally is "3 targets: 2 succeeded, 1 offline".
func Tally[N int | int64](targets N, outcomes map[spec.Outcome]N) string {
	text := fmt.Sprintf("%d target%s", targets, plural(targets))
	if list := OutcomeList(outcomes); list != "" {
		text += ": " + list
	}
	return text
}

// OutcomeList is "2 succeeded, 1 offline".
func OutcomeList[N int | int64](outcomes map[spec.Outcome]N) string {
	var parts []string
	for _, o := range spec.Outcomes() {
		if n := outcomes[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

func plural[N int | int64](n N) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// Round keeps three digits or so: nobody reads nanoseconds.
func Round(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// BadOutcomes is "1 failed, 2 offline".
func BadOutcomes(outcomes map[spec.Outcome]int) string {
	var parts []string
	for _, o := range spec.Outcomes() {
		if n := outcomes[o]; n > 0 && !Good(o) {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

// LetPass says what a run that went well has let pass, so that it does not hide
// it: misses that the plan tolerates, and jobs that it has left out.
func LetPass(rep *spec.Report) string {
	misses, skipped := 0, 0
	for i := range rep.Jobs {
		job := &rep.Jobs[i]
		if job.Status == spec.StatusSkipped {
			skipped++
		}
		for o, n := range job.Outcomes {
			if job.Status == spec.StatusSucceeded && !Good(o) {
				misses += n
			}
		}
	}
	text := ""
	if misses > 0 {
		text += fmt.Sprintf(", %d tolerated", misses)
	}
	if skipped > 0 {
		text += fmt.Sprintf(", %s skipped", Count(skipped, "job"))
	}
	return text
}

// Good tells whether nobody has to look at a device with this outcome.
func Good(o spec.Outcome) bool {
	return o == spec.OutcomeSucceeded || o == spec.OutcomeUnchanged || o == spec.OutcomeSkipped
}

// Count is "1 error" or "3 errors".
func Count(n int, noun string) string { return fmt.Sprintf("%d %s%s", n, noun, plural(n)) }

// Mentioned is how many jobs one line can name.
const Mentioned = 3
