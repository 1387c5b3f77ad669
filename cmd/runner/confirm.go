package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/target"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// handful is how many targets a job may have that nobody is asked about.
const handful = 5

// confirm asks a person who sits at a terminal whether the plan is meant: it says
// how many devices of which hub each job would touch. Nobody is asked elsewhere,
// or about an emulated hub, or about a run that was begun before.
func (f *applyFlags) confirm(ctx context.Context, env environment, talk *terminal.Talk, hubs *openedHubs, plan *spec.Plan, pinned *preview.Pinned) error {
	if f.yes || hubs.emulated || f.resume != "" || env.getenv("CI") != "" || !terminal.IsTerminal(env.stdin) || !terminal.IsTerminal(env.stderr) {
		return nil
	}
	var lines []string
	most := 0
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		n, err := targetsOf(ctx, hubs, job)
		if err != nil {
			return err
		}
		if pinned != nil {
			n = min(n, pinned.Devices())
		}
		most = max(most, n)
		lines = append(lines, fmt.Sprintf("job %s: %s on %s", job.Name, deed(job), render.Count(n, kindOf(job))))
	}
	if most <= handful {
		return nil
	}
	for _, line := range lines {
		talk.Line(line)
	}
	fmt.Fprintf(env.stderr, "runner: on %s %s. Go on? [y/N] ", plural(len(hubs.named), "hub"), strings.Join(hubs.names(), ", "))
	env.flush()
	answer, _ := bufio.NewReader(env.stdin).ReadString('\n') // nothing is no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &exit.Error{Code: exit.Stopped, Err: fmt.Errorf("not confirmed"), Hint: "nothing was sent; --yes does not ask"}
}

// targetsOf is about how many targets a job has: the hub counts them by its index,
// exclusions among them.
func targetsOf(ctx context.Context, hubs *openedHubs, job *spec.Job) (int, error) {
	t := &job.Target
	n := t.Devices.Len()
	if text := t.CountQuery(); text != "" {
		for i, count := range hubs.counts {
			found, err := count(ctx, text)
			if err != nil {
				return 0, &target.HubError{Hub: hubs.named[i].Name, Err: err}
			}
			n += found
		}
	}
	if t.Limit > 0 {
		n = min(n, t.Limit)
	}
	return n, nil
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// deed is what a job does, in a few words.
func deed(job *spec.Job) string {
	if job.Method != nil {
		return "calls " + job.Method.Name
	}
	return "patches the twins"
}

func kindOf(job *spec.Job) string {
	if job.Target.Source == spec.SourceModules {
		return "module"
	}
	return "device"
}
