package runner

import (
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/fold"
	"iothub-runner/spec"
)

// causesOf groups the rows that did not go well. One that cannot be read is counted
// by its outcome.
func causesOf(r *Run) ([]spec.Cause, *spec.MoreCauses) {
	var c fold.Causes
	for _, j := range r.jobs {
		l, rows := j.ledger, newRowReader(j.ledger)
		for i := range uint32(l.roster.Cohort.Size()) {
			o, _ := l.roster.Cohort.At(i).Outcome()
			if fold.WentWell(o) {
				continue
			}
			var row []byte
			if l.roster.Cohort.At(i).Position() != cohort.NoLine || o == spec.OutcomeFailed && l.lost[l.roster.Cohort.Pool(i)] != nil {
				row, _ = rows.row(i) // nothing is known of it then but its outcome
			}
			c.Add(j.job().Name, o, idOf(l.roster.Cohort.Target(i)), row)
		}
	}
	return c.Sorted()
}

// idOf is how the example of a cause is written.
func idOf(t cohort.Key) string {
	return spec.DeviceID{Device: t.DeviceID, Module: t.ModuleID}.String()
}
