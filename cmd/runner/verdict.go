package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// verdict puts a run that did not succeed into one line, with a hint what to do
// about it. The report tells the rest.
func verdict(rep *spec.Report, cause error, seeWhy string, record *record) *failure {
	f := &failure{code: rep.Run.ExitCode, err: cause}
	switch {
	case f.code == exitHub:
		if e, ok := errors.AsType[*target.HubError](cause); ok {
			f.hint = hubHint(e)
		}
	case f.code == exitSIGINT || f.code == exitSIGTERM || f.code == exitSIGHUP:
		f.hint = untouched(rep) + goOn(record)
	case f.code == exitInternal:
		f.hint = "nothing is sent that cannot be recorded; make room for the journal" + goOn(record)
	case isLate(cause):
		f.hint = lateHint
		if record.past != nil {
			f.hint = "the jobs that had begun went on; to go on with other jobs alone, name them with --job"
		}
	case rep.Summary.Attempts == 0:
		f.err, f.hint = errors.New(missedJobs(rep)), "nothing was sent"
	case f.code == exitStopped:
		f.err = errors.New(missedJobs(rep))
		f.hint = untouched(rep) + goOn(record)
	default:
		f.err, f.hint = errors.New(missedJobs(rep)), missedHint(rep, seeWhy)
	}
	if f.err == nil {
		f.err = errors.New(missedJobs(rep))
	}
	return f
}

// lateHint says what can be done about a job whose time has passed, in the same
// words for apply and preview.
const lateHint = "nothing was sent; with ifLate: run a late job starts at once, with ifLate: skip it is left out"

func isLate(err error) bool {
	_, ok := errors.AsType[*schedule.LateError](err)
	return ok
}

// untouched says which devices the run has not called, and warns of those that
// may have acted all the same.
func untouched(rep *spec.Report) string {
	text := "devices marked notReached were not touched"
	if n := rep.Summary.Outcomes[spec.OutcomeUnanswered]; n > 0 {
		text += fmt.Sprintf("; %s marked unanswered may have run the call", count(n, "device"))
	}
	return text
}

// goOn says how to go on with a run, if its journal is kept.
func goOn(record *record) string {
	if record.shown == "" {
		return ""
	}
	return "; go on with " + again(record)
}

// again is the command that goes on with a run, empty without a journal.
func again(record *record) string {
	if record.shown == "" {
		return ""
	}
	words := []string{"runner apply"}
	for _, arg := range append(record.flags, record.plan, "--resume", record.shown) {
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// mentioned is how many jobs one line can name.
const mentioned = 3

// missedJobs names the jobs that did not succeed and says why.
func missedJobs(rep *spec.Report) string {
	var parts []string
	missed := 0
	for i := range rep.Jobs {
		job := &rep.Jobs[i]
		if job.Status == spec.StatusSucceeded || job.Status == spec.StatusSkipped {
			continue
		}
		if missed++; missed <= mentioned {
			parts = append(parts, "job "+job.Name+": "+whyMissed(job))
		}
	}
	if missed > mentioned {
		parts = append(parts, fmt.Sprintf("and %d more jobs", missed-mentioned))
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
	if list := badOutcomes(job.Outcomes); list != "" {
		text += " (" + list + ")"
	}
	return text
}

func badOutcomes(outcomes map[spec.Outcome]int) string {
	var parts []string
	for _, o := range spec.Outcomes() {
		if n := outcomes[o]; n > 0 && !good(o) {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

// letPass says what a run that went well has let pass, so that it does not hide
// it: misses that the plan tolerates, and jobs that it has left out.
func letPass(rep *spec.Report) string {
	misses, skipped := 0, 0
	for i := range rep.Jobs {
		job := &rep.Jobs[i]
		if job.Status == spec.StatusSkipped {
			skipped++
		}
		for o, n := range job.Outcomes {
			if job.Status == spec.StatusSucceeded && !good(o) {
				misses += n
			}
		}
	}
	text := ""
	if misses > 0 {
		text += fmt.Sprintf(", %d tolerated", misses)
	}
	if skipped > 0 {
		text += fmt.Sprintf(", %s skipped", count(skipped, "job"))
	}
	return text
}

// good tells whether nobody has to look at a device with this outcome.
func good(o spec.Outcome) bool {
	return o == spec.OutcomeSucceeded || o == spec.OutcomeUnchanged || o == spec.OutcomeSkipped
}

// missedHint says what the outcomes ask for. What may have happened unseen
// comes first: it is what a second run would do again.
func missedHint(rep *spec.Report, seeWhy string) string {
	if n := rep.Summary.Outcomes[spec.OutcomeUnanswered]; n > 0 {
		return fmt.Sprintf("%s may have acted without our hearing of it; check before you run the plan again", count(n, "device"))
	}
	return seeWhy
}

// count is "1 error" or "3 errors".
func count(n int, noun string) string { return fmt.Sprintf("%d %s%s", n, noun, plural(n)) }

// shellWord writes an argument so that a shell reads it as one word.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:=@%+,", r) || r > unicode.MaxASCII
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
