package spec

import (
	"cmp"
	"time"
)

// build fills in every default: the job's own value, then that of defaults,
// then that of the language.
func build(d *document) *Plan {
	plan := &Plan{Version: *d.Version, Name: *d.Name, Description: or(d.Description, nil, ""), Jobs: make([]Job, len(d.Jobs))}
	if h := d.Hub; h != nil {
		plan.Hub = Hub{HostName: or(h.HostName, nil, ""), SKU: or(h.SKU, nil, ""), Units: or(h.Units, nil, 0)}
		if plan.Hub.SKU != "" {
			plan.Hub.Units = cmp.Or(plan.Hub.Units, 1)
		}
	}
	shared := defaultSection{}
	if d.Defaults != nil {
		shared = *d.Defaults
	}
	for i, j := range d.Jobs {
		plan.Jobs[i] = buildJob(j, &shared)
	}
	return plan
}

func buildJob(j *jobSection, shared *defaultSection) Job {
	job := Job{
		Pos:         Pos{Line: j.node.Line, Column: j.node.Column},
		Name:        *j.Name,
		Type:        JobType(*j.Type),
		Target:      buildTarget(j.Target),
		Delay:       or(j.Delay, nil, 0),
		At:          or(j.At, nil, time.Time{}),
		Concurrency: or(j.Concurrency, shared.Concurrency, 64),
		Rate:        or(j.Rate, shared.Rate, 0),
		Deadline:    or(j.Deadline, shared.Deadline, 0),
		Retry:       effectiveRetry(j, shared),
		Offline:     OfflineFail,
	}
	switch job.Type {
	case TypeDirectMethod:
		job.Offline = OfflinePolicy(or(j.Offline, shared.Offline, string(OfflineFail)))
		job.Method = buildMethod(j, shared)
	case TypeUpdateTwin:
		job.Twin = &TwinUpdate{Desired: j.Desired, Tags: j.Tags}
	}
	return job
}

func buildMethod(j *jobSection, shared *defaultSection) *Method {
	m := &Method{
		Name:            *j.Method,
		Payload:         j.Payload,
		ConnectTimeout:  or(j.ConnectTimeout, shared.ConnectTimeout, 0),
		ResponseTimeout: or(j.ResponseTimeout, shared.ResponseTimeout, 30*time.Second),
		Success:         StatusSet{{From: 200, To: 299}},
		Idempotent:      or(j.Idempotent, shared.Idempotent, false),
	}
	if s := cmp.Or(j.Success, shared.Success); s != nil {
		m.Success = s.Status
	}
	return m
}

func buildTarget(t *targetSection) Target {
	target := Target{
		Text:       targetText(t),
		Source:     t.found.source,
		All:        or(t.All, nil, false),
		Where:      t.found.where,
		Top:        t.found.top,
		Devices:    deviceIDs(t.Devices),
		Exclude:    deviceIDs(t.Exclude),
		Limit:      or(t.Limit, nil, 0),
		AllowEmpty: or(t.AllowEmpty, nil, false),
	}
	if e := t.Expect; e != nil {
		target.Expect = Expect{Min: or(e.Min, nil, 0), Max: or(e.Max, nil, 0)}
	}
	return target
}

// effectiveRetry takes each field of retry on its own.
func effectiveRetry(j *jobSection, defaults *defaultSection) Retry {
	own, shared := retrySection{}, retrySection{}
	if j.Retry != nil {
		own = *j.Retry
	}
	if defaults != nil && defaults.Retry != nil {
		shared = *defaults.Retry
	}
	return Retry{
		Attempts:   or(own.Attempts, shared.Attempts, 4),
		Backoff:    or(own.Backoff, shared.Backoff, time.Second),
		MaxBackoff: or(own.MaxBackoff, shared.MaxBackoff, time.Minute),
	}
}

// or returns the first value that is given.
func or[T any](own, shared *T, otherwise T) T {
	switch {
	case own != nil:
		return *own
	case shared != nil:
		return *shared
	}
	return otherwise
}
