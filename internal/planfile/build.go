package planfile

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"iothub-runner/spec"
)

// build fills in every default: the job's own value, then that of defaults,
// then that of the language.
func (p *parser) build(d *document) *spec.Plan {
	plan := &spec.Plan{Version: *d.Version, Name: *d.Name, Description: or(d.Description, nil, ""), Jobs: make([]spec.Job, len(d.Jobs))}
	if h := d.Hub; h != nil {
		plan.Hub = spec.Hub{HostName: or(h.HostName, nil, ""), SKU: or(h.SKU, nil, ""), Units: or(h.Units, nil, 0)}
		if plan.Hub.SKU != "" {
			plan.Hub.Units = cmp.Or(plan.Hub.Units, 1)
		}
	}
	for _, h := range d.Hubs {
		hub := spec.Hub{HostName: *h.HostName, SKU: or(h.SKU, nil, ""), Units: or(h.Units, nil, 0), ConnectionStringEnv: or(h.ConnectionStringEnv, nil, "")}
		if hub.SKU != "" {
			hub.Units = cmp.Or(hub.Units, 1)
		}
		plan.Hubs = append(plan.Hubs, hub)
	}
	plan.Vars, plan.Sensitive = p.values(), p.secretVars()
	shared := defaultSection{}
	if d.Defaults != nil {
		shared = *d.Defaults
	}
	for i, j := range d.Jobs {
		plan.Jobs[i] = p.buildJob(j, &shared)
		p.checkQueryLength(j.Target, &plan.Jobs[i])
	}
	return plan
}

func (p *parser) buildJob(j *jobSection, shared *defaultSection) spec.Job {
	job := spec.Job{
		Pos:         spec.Pos{Line: j.node.Line, Column: j.node.Column},
		Name:        *j.Name,
		Type:        spec.JobType(*j.Type),
		Target:      buildTarget(j.Target),
		Delay:       or(j.Delay, nil, 0),
		At:          or(j.At, nil, time.Time{}),
		Concurrency: or(j.Concurrency, shared.Concurrency, 64),
		Rate:        or(j.Rate, shared.Rate, 0),
		Deadline:    or(j.Deadline, shared.Deadline, 0),
		Retry:       effectiveRetry(j, shared),
		Offline:     spec.OfflineFail,
		Window:      buildWindow(cmp.Or(j.Window, shared.Window), or(j.Timezone, shared.Timezone, "UTC")),
		IfLate:      spec.LatePolicy(or(j.IfLate, shared.IfLate, string(spec.LateFail))),
		Rollout:     buildRollout(cmp.Or(j.Rollout, shared.Rollout)),
		Engine:      p.engineOf(j, shared),
		Files:       slices.Concat(j.Target.files, j.files),
	}
	for _, n := range j.Needs {
		job.Needs = append(job.Needs, spec.Need{Job: *n.Job, If: spec.NeedIf(or(n.If, nil, string(spec.NeedSucceeded)))})
	}
	if t := cmp.Or(j.Tolerate, shared.Tolerate); t != nil {
		job.Tolerate = spec.Tolerate{Failed: or(t.Failed, nil, spec.Share{}), Offline: or(t.Offline, nil, spec.Share{}), Hubs: or(t.Hubs, nil, spec.Share{})}
	}
	switch job.Type {
	case spec.TypeDirectMethod:
		job.Offline = spec.OfflinePolicy(or(j.Offline, shared.Offline, string(spec.OfflineFail)))
		job.Method = buildMethod(j, shared)
	case spec.TypeUpdateTwin:
		guard := spec.GuardETag
		if job.Engine == spec.EngineHubJobs {
			guard = spec.GuardNone
		}
		job.Twin = &spec.TwinUpdate{Guard: spec.Guard(or(j.Guard, shared.Guard, string(guard)))}
		job.Twin.Desired, job.Twin.DesiredTemplate = j.Desired.parts()
		job.Twin.Tags, job.Twin.TagsTemplate = j.Tags.parts()
	}
	if c := j.Confirm; c != nil {
		job.Confirm = &spec.Confirm{Within: or(c.Within, nil, 15*time.Minute), Changed: c.Changed}
		job.Confirm.Reported, job.Confirm.Template = c.Reported.parts()
	}
	return job
}

func buildMethod(j *jobSection, shared *defaultSection) *spec.Method {
	m := &spec.Method{
		Name:            *j.Method,
		ConnectTimeout:  or(j.ConnectTimeout, shared.ConnectTimeout, 0),
		ResponseTimeout: or(j.ResponseTimeout, shared.ResponseTimeout, 30*time.Second),
		Success:         spec.StatusSet{{From: 200, To: 299}},
		Idempotent:      or(j.Idempotent, shared.Idempotent, false),
	}
	m.Payload, m.Template = j.Payload.parts()
	if s := cmp.Or(j.Success, shared.Success); s != nil {
		m.Success = s.Status
	}
	return m
}

func buildTarget(t *targetSection) spec.Target {
	target := spec.Target{
		Text:       targetText(t),
		Source:     t.found.source,
		All:        or(t.All, nil, false),
		Where:      t.found.where,
		Top:        t.found.top,
		Devices:    t.ids,
		Exclude:    deviceIDs(t.Exclude),
		Limit:      or(t.Limit, nil, 0),
		AllowEmpty: or(t.AllowEmpty, nil, false),
	}
	if t.rows != nil {
		target.Rows = t.rows
	}
	if e := t.Expect; e != nil {
		target.Expect = spec.Expect{Min: or(e.Min, nil, 0), Max: or(e.Max, nil, 0), Excluded: or(e.Excluded, nil, false)}
	}
	return target
}

// parts returns the JSON or the template, of which one is nil.
func (v *jsonValue) parts() (json.RawMessage, *spec.Template) {
	switch {
	case v == nil:
		return nil, nil
	case v.template != nil:
		return nil, v.template
	}
	return v.json, nil
}

func buildWindow(w *windowSection, zone string) *spec.Window {
	if w == nil {
		return nil
	}
	zone = or(w.Timezone, nil, zone)
	location, err := time.LoadLocation(zone)
	if err != nil {
		panic("spec: a time zone that was valid is not: " + err.Error())
	}
	return &spec.Window{From: *w.From, To: *w.To, Days: weekdays(w.Days), Timezone: zone, Location: location}
}

func buildRollout(r *rolloutSection) *spec.Rollout {
	if r == nil {
		return nil
	}
	rollout := &spec.Rollout{Pause: or(r.Pause, nil, 0), Manual: r.manual, Scope: spec.RolloutScope(or(r.Scope, nil, string(spec.ScopePlan)))}
	for _, w := range r.Waves {
		rollout.Waves = append(rollout.Waves, spec.Wave{Size: or(w.Size, nil, spec.Share{}), Devices: deviceIDs(w.Devices), Query: w.selected.found.where})
	}
	if ramp := r.Ramp; ramp != nil {
		rollout.Ramp = &spec.Ramp{From: *ramp.From, Factor: or(ramp.Factor, nil, 2), Every: *ramp.Every}
	}
	if s := r.StopWhen; s != nil {
		rollout.StopWhen = spec.StopWhen{Failed: s.Failed, Offline: s.Offline, MinDone: or(s.MinDone, nil, 0)}
	}
	return rollout
}

// effectiveRetry takes each field of retry on its own.
func effectiveRetry(j *jobSection, defaults *defaultSection) spec.Retry {
	own, shared := retrySection{}, retrySection{}
	if j.Retry != nil {
		own = *j.Retry
	}
	if defaults != nil && defaults.Retry != nil {
		shared = *defaults.Retry
	}
	return spec.Retry{
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
