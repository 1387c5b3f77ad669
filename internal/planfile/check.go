package planfile

import (
	"fmt"
	"time"

	"iothub-runner/spec"
)

// check is a rule over several fields. The name is for readers of the list.
type check struct {
	name string
	run  func(*parser, *document)
}

// checks lists the rules over several fields in the order in which they run.
func checks() []check {
	return []check{
		{"job names differ", checkNames},
		{"hub units fit the sku", checkUnits},
		{"one hub, or several that differ", checkHubs},
		{"values of variables", checkVars},
		{"fields belong to the type of the job", checkJobTypes},
		{"one of fields that exclude each other", checkExclusive},
		{"an action is complete", checkActions},
		{"payload files", checkPayloadFiles},
		{"targets", checkTargets},
		{"method timeouts are whole seconds", checkTimeouts},
		{"backoff fits below maxBackoff", checkRetries},
		{"needs", checkNeeds},
		{"there is something to confirm", checkConfirms},
		{"rows have the values that are asked of them", checkRows},
		{"windows", checkWindows},
		{"only a job with a time can be late", checkLate},
		{"waves rise", checkWaves},
		{"the hub's jobs take no values of devices", checkEngines},
		{"waiting for offline devices has an end", checkOffline},
	}
}

func checkNames(p *parser, d *document) {
	first := map[string]spec.Pos{}
	for _, j := range d.Jobs {
		if j.Name == nil {
			continue
		}
		n := j.value("name")
		if at, taken := first[*j.Name]; taken {
			p.at(n, spec.RuleNameTaken, fmt.Sprintf("another job is called %q, on line %d, column %d", spec.Clip(*j.Name), at.Line, at.Column), "give each job a name of its own")
			continue
		}
		first[*j.Name] = p.src.nodePos(n)
	}
}

func checkUnits(p *parser, d *document) {
	h := d.Hub
	switch {
	case h == nil || h.Units == nil:
	case h.SKU == nil && !h.has("sku"):
		p.at(h.key("units"), spec.RuleUnits, "units without a sku say nothing", "add sku: S1, S2 or S3")
	case h.SKU != nil && *h.SKU == "F1" && *h.Units > 1:
		p.at(h.value("units"), spec.RuleUnits, fmt.Sprintf("a free hub (F1) has one unit, not %d", *h.Units), "")
	case h.SKU != nil && *h.SKU == "S3" && *h.Units > 10:
		p.at(h.value("units"), spec.RuleUnits, fmt.Sprintf("an S3 hub has at most 10 units, not %d", *h.Units), "")
	}
}

// checkJobTypes refuses fields of the other type of job.
func checkJobTypes(p *parser, d *document) {
	for _, j := range d.Jobs {
		if j.Type == nil {
			continue
		}
		for _, e := range j.entries {
			f, ok := p.table.Field(j.child(e.key))
			if ok && f.Only != "" && f.Only != spec.JobType(*j.Type) && knownType(*j.Type) {
				p.at(e.keyNode, spec.RuleJobType, fmt.Sprintf("%q belongs to jobs of type %s; this one is %s", e.key, f.Only, *j.Type), "remove it, or change the type")
			}
		}
	}
}

func knownType(t string) bool {
	return spec.JobType(t) == spec.TypeDirectMethod || spec.JobType(t) == spec.TypeUpdateTwin
}

func checkExclusive(p *parser, d *document) {
	for _, j := range d.Jobs {
		for _, pair := range [][2]string{{"delay", "at"}, {"payload", "payloadFile"}} {
			if j.has(pair[0]) && j.has(pair[1]) {
				p.at(j.key(pair[1]), spec.RuleExclusive, fmt.Sprintf("%s and %s exclude each other", pair[0], pair[1]), "keep one of them")
			}
		}
	}
}

// checkActions: a method job names its method, a twin job what it changes.
func checkActions(p *parser, d *document) {
	for _, j := range d.Jobs {
		if j.Type == nil {
			continue
		}
		switch spec.JobType(*j.Type) {
		case spec.TypeDirectMethod:
			if !p.given(j.object, "method") {
				p.at(j.node, spec.RuleRequired, "a directMethod job has no method", "add method: lockDoor")
			}
		case spec.TypeUpdateTwin:
			if !p.given(j.object, "desired", "tags") {
				p.at(j.node, spec.RuleRequired, "an updateTwin job changes nothing", "add desired: {...}, tags: {...} or both")
			}
		}
	}
}

func checkPayloadFiles(p *parser, d *document) {
	for _, j := range d.Jobs {
		if j.PayloadFile != nil && !j.has("payload") {
			p.payloadFile(j)
		}
	}
}

// checkTimeouts: the hub takes timeouts in whole seconds.
func checkTimeouts(p *parser, d *document) {
	for _, j := range d.withDefaults() {
		for _, t := range []struct {
			key   string
			value *time.Duration
		}{{"connectTimeout", j.ConnectTimeout}, {"responseTimeout", j.ResponseTimeout}} {
			if t.value != nil && *t.value%time.Second != 0 {
				p.at(j.value(t.key), spec.RuleRange, fmt.Sprintf("%s is %s, which is not in whole seconds", t.key, *t.value), "the hub counts timeouts in seconds")
			}
		}
	}
}

// checkRetries compares backoff and maxBackoff as the job ends up with them,
// and shows the finding where one of the two was written.
func checkRetries(p *parser, d *document) {
	for _, j := range d.withDefaults() {
		if j.Retry == nil {
			continue
		}
		r := effectiveRetry(j, d.Defaults)
		if r.Backoff <= r.MaxBackoff {
			continue
		}
		key := "maxBackoff"
		if !j.Retry.has(key) {
			key = "backoff"
		}
		p.at(j.Retry.key(key), spec.RuleRetry, fmt.Sprintf("backoff is %s, longer than maxBackoff, %s", r.Backoff, r.MaxBackoff), "raise maxBackoff, or shorten backoff")
	}
}

// checkOffline: a job that waits for devices needs a deadline, or one device
// that never returns would keep the run alive for ever.
func checkOffline(p *parser, d *document) {
	for _, j := range d.Jobs {
		if j.Type == nil || spec.JobType(*j.Type) != spec.TypeDirectMethod {
			continue
		}
		offline, deadline := j.Offline, j.has("deadline")
		where := j.object
		if d.Defaults != nil {
			deadline = deadline || d.Defaults.has("deadline")
			if !j.has("offline") && d.Defaults.Offline != nil {
				offline, where = d.Defaults.Offline, d.Defaults.object
			}
		}
		if offline != nil && spec.OfflinePolicy(*offline) == spec.OfflineWait && !deadline {
			p.at(where.key("offline"), spec.RuleOfflineWait, "offline: wait without a deadline could wait for ever", "add deadline: 1h, or however long the job may take")
		}
	}
}

// withDefaults lists the jobs, and what stands under defaults as one more.
func (d *document) withDefaults() []*jobSection {
	if d.Defaults == nil {
		return d.Jobs
	}
	shared := jobSection(*d.Defaults)
	return append([]*jobSection{&shared}, d.Jobs...)
}
