// Package fold works out of the rows of a run what its report says of them all.
package fold

import (
	"cmp"
	"slices"

	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// Causes groups rows that did not go well, so that nobody has to read a million of
// them to see what went wrong three times. The zero value is ready to use.
type Causes struct {
	Examples int // devices that each names at most; 0 for three
	groups   map[causeKey]*spec.Cause
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

// WentWell tells whether there is nothing to explain about an outcome.
func WentWell(o spec.Outcome) bool {
	return o == spec.OutcomeSucceeded || o == spec.OutcomeUnchanged
}

// Add takes in a row that did not go well, and the name of its target. A row that
// nothing is known of but its outcome is nil.
func (c *Causes) Add(job string, o spec.Outcome, target string, row []byte) {
	if c.groups == nil {
		c.groups = map[causeKey]*spec.Cause{}
	}
	key := causeKey{job: job, outcome: o}
	c.look(&key, row)
	g := c.groups[key]
	if g == nil {
		g = &spec.Cause{Job: key.job, Outcome: o, Kind: key.kind, Code: key.code, Status: key.status}
		if key.answer != "" {
			g.Answer = []byte(key.answer)
		}
		g.Name, g.Message = gjson.GetBytes(row, "error.name").Str, gjson.GetBytes(row, "error.message").Str
		g.Hint = hint(g)
		c.groups[key] = g
	}
	g.Count++
	if len(g.Devices) < cmp.Or(c.Examples, causeExamples) {
		g.Devices = append(g.Devices, target)
	}
}

// Row looks at a row, and takes it in unless it went well.
func (c *Causes) Row(job string, text []byte) Row {
	row := Look(text)
	if !WentWell(row.Outcome) {
		c.Add(job, row.Outcome, row.Target, text)
	}
	return row
}

// look takes from a row what tells it apart from others.
func (c *Causes) look(key *causeKey, row []byte) {
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

// Sorted returns the causes, what failed first, then by how often; and what is left
// out of them, nil for nothing.
func (c *Causes) Sorted() ([]spec.Cause, *spec.MoreCauses) {
	all := make([]spec.Cause, 0, len(c.groups))
	for _, g := range c.groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b spec.Cause) int {
		return cmp.Or(cmp.Compare(gravity(a.Outcome), gravity(b.Outcome)), cmp.Compare(b.Count, a.Count),
			cmp.Compare(a.Job, b.Job), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Status, b.Status), cmp.Compare(string(a.Answer), string(b.Answer)), cmp.Compare(a.Kind, b.Kind))
	})
	if len(all) <= maxCauses {
		return all, nil
	}
	more := &spec.MoreCauses{Causes: len(all) - maxCauses}
	for _, g := range all[maxCauses:] {
		more.Targets += g.Count
	}
	return all[:maxCauses], more
}

// gravity orders outcomes by how much they worry whoever reads of them.
func gravity(o spec.Outcome) int {
	return slices.Index([]spec.Outcome{
		spec.OutcomeUnanswered, spec.OutcomeFailed, spec.OutcomeRejected, spec.OutcomeUnconfirmed,
		spec.OutcomeOffline, spec.OutcomeNotReached, spec.OutcomeSkipped,
	}, o)
}

// hint says what can be done about a cause; empty where there is nothing to say that
// its error does not. What may have happened unseen comes first: it is what a second
// run would do again.
func hint(c *spec.Cause) string {
	switch c.Outcome {
	case spec.OutcomeUnanswered:
		return "they may have run the call, but no usable answer arrived: check one before you call them again"
	case spec.OutcomeRejected:
		return "the devices' own answer says why"
	case spec.OutcomeOffline:
		return "offline: wait in the plan waits for them"
	case spec.OutcomeUnconfirmed:
		return "the hub has the change; look whether the devices are online and act on it"
	case spec.OutcomeNotReached:
		return "they were not touched; resume the run to go on with them"
	case spec.OutcomeFailed:
		return failedHint(c.Kind)
	case spec.OutcomeSucceeded, spec.OutcomeUnchanged, spec.OutcomeSkipped:
	}
	return ""
}

func failedHint(kind string) string {
	switch kind {
	case "notFound":
		return "not registered at this hub any more, or disabled"
	case "hubLost":
		return "nothing was done for them; resume the run when the hub can be used"
	case "missingValue":
		return "the plan fills in a value that their twins do not have; give it a default, or the twins the value"
	}
	return ""
}
