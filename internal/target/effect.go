package target

import (
	"encoding/json"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// Effect is what a job does to one target, worked out from its twin.
type Effect struct {
	Desired, Tags Difference      // of a twin job
	Payload       json.RawMessage // of a method job; nil sends none
}

// Unchanged tells whether a twin job has nothing to do.
func (e *Effect) Unchanged() bool { return e.Desired.Patch == nil && e.Tags.Patch == nil }

// Sight keeps what a row shows of a twin, if the job needs to see it. Without
// an etag it proves nothing, and the twin is read directly.
func (r *Roster) Sight(row *hub.Row) *Sight {
	if !r.Looks.ETag || row.ETag == "" {
		return nil
	}
	return &Sight{ETag: row.ETag, Desired: row.Desired, Tags: row.Tags, Reported: row.Reported}
}

// Effect works out what the job does to a target. The twin may be nil for a
// job that does not look at it. An error means that the twin lacks a value that
// the plan fills in: nothing can be sent.
func (r *Roster) Effect(t hub.Target, s *Sight) (Effect, error) {
	if s == nil {
		s = &Sight{}
	}
	device, err := r.Device(t, s)
	if err != nil {
		return Effect{}, err
	}
	if m := r.Job.Method; m != nil {
		e := Effect{}
		e.Payload, err = filled(m.Payload, m.Template, device)
		return e, err
	}
	u := r.Job.Twin
	desired, err := filled(u.Desired, u.DesiredTemplate, device)
	if err != nil {
		return Effect{}, err
	}
	tags, err := filled(u.Tags, u.TagsTemplate, device)
	if err != nil {
		return Effect{}, err
	}
	return Effect{Desired: r.difference(s.Desired, desired), Tags: r.difference(s.Tags, tags)}, nil
}

// Device is what a target has for the templates of the job.
func (r *Roster) Device(t hub.Target, s *Sight) (spec.Device, error) {
	d := spec.Device{ID: t.DeviceID, ModuleID: t.ModuleID, Tags: s.Tags, Desired: s.Desired, Reported: s.Reported}
	if r.Job.Target.Rows == nil {
		return d, nil
	}
	var err error
	d.Row, err = r.Job.Target.Rows.Row(spec.DeviceID{Device: t.DeviceID, Module: t.ModuleID})
	return d, err
}

// RecordedETag is the etag that the twin of a target must have, for a job whose
// guard is recorded; empty if its row has none.
func (r *Roster) RecordedETag(t hub.Target) (string, error) {
	d, err := r.Device(t, &Sight{})
	return gjson.GetBytes(d.Row, "etag").Str, err
}

// difference is what to send of one section; nothing if it is as wanted.
func (r *Roster) difference(current, wanted json.RawMessage) Difference {
	d := Diff(current, wanted)
	if d.Patch != nil && r.Overwrites {
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

// Sight is a twin as it was read: what a patch is computed from.
type Sight struct {
	ETag          string
	Version       int64
	Desired, Tags json.RawMessage
	Reported      json.RawMessage
	Direct        bool          // read past the query index:
	Began         time.Time     // then,
	Took          time.Duration // in this time
}
