package planfile

import (
	"cmp"
	"fmt"

	"iothub-runner/spec"
)

// engineOf returns who carries a job out.
func (p *parser) engineOf(j *jobSection, shared *defaultSection) spec.Engine {
	return cmp.Or(p.opts.Engine, spec.Engine(or(j.Engine, shared.Engine, string(spec.EngineDirect))))
}

// checkEngines: a job of the hub sends the same to every device, once, and sees no
// twin.
func checkEngines(p *parser, d *document) {
	shared := &defaultSection{}
	if d.Defaults != nil {
		shared = d.Defaults
	}
	for _, j := range d.Jobs {
		if p.engineOf(j, shared) != spec.EngineHubJobs {
			continue
		}
		for _, lack := range lacks(j) {
			if lack.of {
				p.at(j.key(lack.key), spec.RuleEngine, lack.key+lack.why, "use engine: direct"+lack.instead)
			}
		}
		for _, lack := range lacks((*jobSection)(shared)) {
			if lack.of && !j.has(lack.key) {
				p.at(shared.key(lack.key), spec.RuleEngine, fmt.Sprintf("%s%s; job %s has the engine hubJobs", lack.key, lack.why, or(j.Name, nil, "")), "write it in the jobs that have engine: direct")
			}
		}
		p.checkHubRollout(cmp.Or(j.Rollout, shared.Rollout))
		p.checkHubConfirm(j)
	}
}

// lack is a field that a job of the hub cannot be given.
type lack struct {
	key          string
	of           bool // the job has it
	why, instead string
}

func lacks(j *jobSection) []lack {
	const differs, alike = " differs by device, which a job of the hub cannot do", ", or values that are the same for all"
	const never = " is not for the engine hubJobs: "
	return []lack{
		{"payload", j.Payload.differs(), differs, alike},
		{"desired", j.Desired.differs(), differs, alike},
		{"tags", j.Tags.differs(), differs, alike},
		{"offline", or(j.Offline, nil, "") == string(spec.OfflineSkip), ": skip" + never + "the hub waits for each device until the deadline", ""},
		{"guard", j.Guard != nil && *j.Guard != string(spec.GuardNone), never + "the hub patches in any case", ", or guard: none"},
		{"retry", j.Retry != nil, never + "the hub tries each device once", ""},
		{"rate", j.Rate != nil, never + "the hub has a pace of its own", ""},
		{"concurrency", j.Concurrency != nil, never + "the hub has a pace of its own", ""},
	}
}

// differs tells whether a value is another one for each device.
func (v *jsonValue) differs() bool { return v != nil && v.template != nil }

func (p *parser) checkHubRollout(r *rolloutSection) {
	if r != nil && r.Ramp != nil {
		p.at(r.key("ramp"), spec.RuleEngine, "rollout.ramp is not for the engine hubJobs: the hub has a pace of its own", "use engine: direct, or more waves")
	}
}

func (p *parser) checkHubConfirm(j *jobSection) {
	switch c := j.Confirm; {
	case c == nil:
	case c.Reported.differs():
		p.at(c.key("reported"), spec.RuleEngine, "confirm.reported differs by device, which a job of the hub cannot do", "use engine: direct, or values that are the same for all")
	case c.has("changed"):
		p.at(c.key("changed"), spec.RuleEngine, "confirm.changed is not for the engine hubJobs: it needs the values of before, which a job of the hub does not see", "use engine: direct, or confirm.reported")
	}
}
