package runner

import (
	"encoding/json"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// effect is what a job does to one target, worked out from its twin.
type effect struct {
	desired, tags difference      // of a twin job
	payload       json.RawMessage // of a method job; nil sends none
}

// unchanged tells whether a twin job has nothing to do.
func (e *effect) unchanged() bool { return e.desired.patch == nil && e.tags.patch == nil }

// sight keeps what a row shows of a twin, if the job needs to see it. Without
// an etag it proves nothing, and the twin is read directly.
func (r *roster) sight(row *hub.Row) *sight {
	if !r.looks.ETag || row.ETag == "" {
		return nil
	}
	return &sight{etag: row.ETag, desired: row.Desired, tags: row.Tags, reported: row.Reported}
}

// effect works out what the job does to a target. The twin may be nil for a
// job that does not look at it. An error means that the twin lacks a value that
// the plan fills in: nothing can be sent.
func (r *roster) effect(t hub.Target, s *sight) (effect, error) {
	if s == nil {
		s = &sight{}
	}
	device := spec.Device{ID: t.DeviceID, ModuleID: t.ModuleID, Tags: s.tags, Desired: s.desired, Reported: s.reported}
	if m := r.job.Method; m != nil {
		payload, err := filled(m.Payload, m.Template, device)
		return effect{payload: payload}, err
	}
	u := r.job.Twin
	desired, err := filled(u.Desired, u.DesiredTemplate, device)
	if err != nil {
		return effect{}, err
	}
	tags, err := filled(u.Tags, u.TagsTemplate, device)
	if err != nil {
		return effect{}, err
	}
	return effect{desired: r.difference(s.desired, desired), tags: r.difference(s.tags, tags)}, nil
}

// difference is what to send of one section; nothing if it is as wanted.
func (r *roster) difference(current, wanted json.RawMessage) difference {
	d := diff(current, wanted)
	if d.patch != nil && r.overwrites {
		return whole(current, wanted)
	}
	return d
}

// filled returns a value of the plan as it is for a device.
func filled(value json.RawMessage, t *spec.Template, d spec.Device) (json.RawMessage, error) {
	if t == nil {
		return value, nil
	}
	return t.Execute(d)
}
