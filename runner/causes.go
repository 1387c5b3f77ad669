package runner

import (
	"cmp"
	"slices"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/cohort"
	"iothub-runner/spec"
)

// causes groups the rows of a run that did not go well, so that nobody has to
// read a million of them to see what went wrong three times.
type causes struct {
	run    *Run
	groups map[causeKey]*spec.Cause
}

type causeKey struct {
	job          string
	outcome      spec.Outcome
	kind         string
	code, status int
	answer       string
}

const (
	maxCauses     = 50   // that a report has
	maxTold       = 1000 // that are told apart by what the devices answered
	causeExamples = 3    // devices of each
	maxAnswer     = 200  // bytes of a device's answer
)

// causesOf reads the rows. One that cannot be read is counted by its outcome.
func causesOf(r *Run) []spec.Cause {
	c := causes{run: r, groups: map[causeKey]*spec.Cause{}}
	for _, j := range r.jobs {
		rows := newRowReader(j.ledger)
		for i := range uint32(j.ledger.roster.Cohort.Size()) {
			if o, _ := j.ledger.roster.Cohort.At(i).Outcome(); o != spec.OutcomeSucceeded && o != spec.OutcomeUnchanged {
				c.add(j, rows, i, o)
			}
		}
	}
	return c.sorted()
}

func (c *causes) add(j *jobRun, rows *rowReader, index uint32, o spec.Outcome) {
	key := causeKey{job: j.job().Name, outcome: o}
	var row []byte
	l := j.ledger
	if l.roster.Cohort.At(index).Position() != cohort.NoLine || o == spec.OutcomeFailed && l.lost[l.roster.Cohort.Pool(index)] != nil {
		row, _ = rows.row(index) // nothing is known of it then but its outcome
		c.look(&key, row)
	}
	g := c.groups[key]
	if g == nil {
		g = &spec.Cause{Job: key.job, Outcome: o, Kind: key.kind, Code: key.code, Status: key.status}
		if key.answer != "" {
			g.Answer = []byte(key.answer)
		}
		g.Name, g.Message = gjson.GetBytes(row, "error.name").Str, gjson.GetBytes(row, "error.message").Str
		c.groups[key] = g
	}
	g.Count++
	if len(g.Devices) < causeExamples {
		g.Devices = append(g.Devices, idOf(j.ledger.roster.Cohort.Target(index)))
	}
}

// look takes from a row what tells it apart from others.
func (c *causes) look(key *causeKey, row []byte) {
	found := gjson.GetManyBytes(row, "error.kind", "error.code", "method.status", "method.payload")
	key.kind, key.code = found[0].Str, int(found[1].Int())
	if key.outcome != spec.OutcomeRejected {
		return
	}
	key.status = int(found[2].Int())
	if answer := found[3].Raw; len(answer) <= maxAnswer && answer != "null" {
		key.answer = answer
	}
	if c.groups[*key] == nil && len(c.groups) >= maxTold {
		key.answer = "" // each device answers something else
	}
}

// idOf is how the example of a cause is written.
func idOf(t cohort.Key) string {
	return spec.DeviceID{Device: t.DeviceID, Module: t.ModuleID}.String()
}

// sorted returns the causes: what failed first, then by how often.
func (c *causes) sorted() []spec.Cause {
	all := make([]spec.Cause, 0, len(c.groups))
	for _, g := range c.groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b spec.Cause) int {
		return cmp.Or(cmp.Compare(gravity(a.Outcome), gravity(b.Outcome)), cmp.Compare(b.Count, a.Count),
			cmp.Compare(a.Job, b.Job), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Status, b.Status), cmp.Compare(string(a.Answer), string(b.Answer)), cmp.Compare(a.Kind, b.Kind))
	})
	if len(all) > maxCauses {
		all = all[:maxCauses]
	}
	return all
}

// gravity orders outcomes by how much they worry whoever reads of them.
func gravity(o spec.Outcome) int {
	return slices.Index([]spec.Outcome{
		spec.OutcomeUnanswered, spec.OutcomeFailed, spec.OutcomeRejected, spec.OutcomeUnconfirmed,
		spec.OutcomeOffline, spec.OutcomeNotReached, spec.OutcomeSkipped,
	}, o)
}
