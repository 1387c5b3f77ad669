package render

import (
	"fmt"
	"strings"

	"iothub-runner/spec"
)

// Untouched says which devices the run has not called, and warns of those that
// may have acted all the same.
func Untouched(rep *spec.Report) string {
	text := "devices marked notReached were not touched"
	if n := rep.Summary.Outcomes[spec.OutcomeUnanswered]; n > 0 {
		text += fmt.Sprintf("; %s marked unanswered may have run the call", Count(n, "device"))
	}
	return text
}

// MissedJobs names the jobs that did not succeed and says why.
func MissedJobs(rep *spec.Report) string {
	var parts []string
	missed := 0
	for i := range rep.Jobs {
		job := &rep.Jobs[i]
		if job.Status == spec.StatusSucceeded || job.Status == spec.StatusSkipped {
			continue
		}
		if missed++; missed <= Mentioned {
			parts = append(parts, "job "+job.Name+": "+whyMissed(job))
		}
	}
	if missed > Mentioned {
		parts = append(parts, fmt.Sprintf("and %d more jobs", missed-Mentioned))
	}
	return strings.Join(parts, "; ")
}

// whyMissed says why a job did not succeed: its reason, and what became of the
// devices that are not as wanted.
func whyMissed(job *spec.JobReport) string {
	text := job.Reason
	if text == "" {
		text = string(job.Status)
	}
	if list := BadOutcomes(job.Outcomes); list != "" {
		text += " (" + list + ")"
	}
	return text
}

// MissedHint says what the outcomes ask for. What may have happened unseen
// comes first: it is what a second run would do again.
func MissedHint(rep *spec.Report, seeWhy string) string {
	if n := rep.Summary.Outcomes[spec.OutcomeUnanswered]; n > 0 {
		return fmt.Sprintf("%s may have run the call, but no usable answer arrived; check before you run the plan again", Count(n, "device"))
	}
	return seeWhy
}
