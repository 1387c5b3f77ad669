package main

import (
	"fmt"
	"strconv"
	"strings"

	"iothub-runner/internal/exit"
	"iothub-runner/spec"
)

// completionVar is the place of a pod in an Indexed Job of Kubernetes, from 0.
const completionVar = "JOB_COMPLETION_INDEX"

// maxShards is far above what a hub is worth sharing among.
const maxShards = 1000

// parseShard reads --shard; empty is the whole.
func parseShard(text string, getenv func(string) string) (spec.Shard, error) {
	if text == "" {
		return spec.Shard{}, nil
	}
	part := text
	if index, of, _ := strings.Cut(text, "/"); index == "auto" {
		n, err := strconv.Atoi(getenv(completionVar))
		if err != nil {
			return spec.Shard{}, exit.Usage(fmt.Sprintf("--shard %q: %s is not set to a number", text, completionVar), "an Indexed Job of Kubernetes sets it; elsewhere write K/N, such as 2/5")
		}
		part = strconv.Itoa(n+1) + "/" + of
	}
	s, ok := spec.ParseShard(part)
	if !ok || s.Index < 1 || s.Index > s.Of || s.Of < 2 || s.Of > maxShards {
		return spec.Shard{}, exit.Usage(fmt.Sprintf("--shard %q: want K/N, the Kth of N parts, such as 2/5", text), fmt.Sprintf("K is from 1 to N, and N from 2 to %d", maxShards))
	}
	return s, nil
}

// checkShard refuses what only a run over all devices can tell.
func (f *applyFlags) checkShard(plan *spec.Plan, pinned bool) error {
	if f.shard.Of == 0 {
		return nil
	}
	if pinned {
		return exit.Usage("--shard and a pinned preview exclude each other", "apply the plan itself")
	}
	for i := range plan.Jobs {
		job, t := &plan.Jobs[i], &plan.Jobs[i].Target
		field := ""
		switch {
		case t.Limit > 0:
			field = "target.limit"
		case t.Top > 0:
			field = "TOP"
		case t.Expect != (spec.Expect{}):
			field = "target.expect"
		case job.Rollout != nil:
			field = "rollout"
		}
		if field != "" {
			return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("job %s: %s counts all devices, and a shard sees a part of them", job.Name, field), Hint: "nothing was sent; leave it out of a plan that is applied in shards"}
		}
	}
	return nil
}
