package main

import (
	"fmt"
	"strings"

	"iothub-runner/internal/exit"
	"iothub-runner/spec"
)

// chosenEngine is that of --engine; empty for the plan's.
func (f *hubFlags) chosenEngine() (spec.Engine, error) {
	switch e := spec.Engine(f.engine); e {
	case "", spec.EngineDirect, spec.EngineHubJobs:
		return e, nil
	}
	return "", exit.Usage(fmt.Sprintf("--engine %q: want %s or %s", f.engine, spec.EngineDirect, spec.EngineHubJobs), "")
}

// checkEngine refuses to pin what the hub's Jobs service carries out: it looks at no
// twin before it changes it.
func checkEngine(plan *spec.Plan, pinned bool) error {
	for i := range plan.Jobs {
		if job := &plan.Jobs[i]; pinned && job.Engine == spec.EngineHubJobs {
			return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("job %s: a pinned preview is not for the engine hubJobs: the hub does not look at twins before it changes them", job.Name), Hint: "use engine: direct, or apply the plan itself"}
		}
	}
	return nil
}

// checkDetach refuses what somebody has to wait for.
func (f *applyFlags) checkDetach(plan *spec.Plan) error {
	if f.emulator != "" {
		return exit.Usage("--detach and --emulator exclude each other: the emulated hub ends with the run", "runner emulator starts one that goes on")
	}
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		var why []string
		if job.Engine != spec.EngineHubJobs {
			why = append(why, "its engine is direct")
		}
		if job.Rollout != nil {
			why = append(why, "it has a rollout")
		}
		if len(job.Needs) > 0 {
			why = append(why, "it needs other jobs")
		}
		if len(why) > 0 {
			return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("job %s cannot be detached: %s", job.Name, strings.Join(why, ", and ")), Hint: "nothing was sent; leave out --detach, or name other jobs with --job"}
		}
	}
	return nil
}
