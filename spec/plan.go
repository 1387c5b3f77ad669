package spec

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Pos is a place in a plan file. Lines and columns count from 1, columns in
// characters; the zero Pos means that there is no place to show.
type Pos struct {
	Line   int
	Column int
}

// Plan is a valid plan, with every default filled in: whoever executes it asks
// no further questions. It is not written to after Parse.
type Plan struct {
	File        string // the name it was read under, for messages and the report
	SHA256      string // of the file's bytes, in hexadecimal
	Version     int
	Name        string
	Description string
	Hub         Hub
	Hubs        []Hub             // several hubs instead of Hub; empty if there is one
	Vars        map[string]string // the variables of the plan as they were filled in
	Sensitive   []string          // names of those that are secrets, in order
	Jobs        []Job
}

// Hub is what a plan says of the hub it is meant for. Every field may be empty.
type Hub struct {
	HostName string // apply refuses any other hub
	SKU      string // F1, S1, S2 or S3: with Units, the throttles to stay below
	Units    int
	// ConnectionStringEnv names the environment variable that holds the
	// connection string; only Hubs have it.
	ConnectionStringEnv string
}

// HubOf returns what the plan says of the hub with this name.
func (p *Plan) HubOf(name string) Hub {
	for _, h := range p.Hubs {
		if strings.EqualFold(h.HostName, name) {
			return h
		}
	}
	return p.Hub
}

// JobType says what a job does to each device.
type JobType string

// The types of version 1.
const (
	TypeDirectMethod JobType = "directMethod"
	TypeUpdateTwin   JobType = "updateTwin"
)

// Job is one action on one target, on its schedule.
type Job struct {
	Pos         Pos
	Name        string
	Type        JobType
	Target      Target
	Delay       time.Duration // from the start of the run
	At          time.Time     // instead of Delay; zero if not given
	Needs       []Need        // jobs that must have ended first; Delay counts from then
	Method      *Method       // set for TypeDirectMethod
	Twin        *TwinUpdate   // set for TypeUpdateTwin
	Confirm     *Confirm      // nil if the answer of the hub or of the device is enough
	Concurrency int           // attempts under way at once
	Rate        float64       // attempts a second; 0 is unlimited
	Deadline    time.Duration // time budget from the due time; 0 is unlimited
	Retry       Retry
	Offline     OfflinePolicy
	Window      *Window // nil if attempts may start at any hour
	IfLate      LatePolicy
	Rollout     *Rollout // nil if the whole cohort starts together
	Tolerate    Tolerate
	Engine      Engine
	Files       []File `json:",omitempty"` // that the plan names for this job
}

// File is a file beside the plan, whose content is part of it.
type File struct {
	Field  string // "payloadFile" or "devicesFile"
	Name   string // as the plan gives it
	SHA256 string // of its bytes, in hexadecimal
}

// Source is the collection that a target selects from.
type Source string

// The sources of version 1.
const (
	SourceDevices Source = "devices"
	SourceModules Source = "devices.modules"
)

// Target says which devices or modules a job acts on: those that match Where,
// and those listed in Devices, less those in Exclude.
type Target struct {
	Text       string // as the report shows it
	Source     Source
	All        bool       // the whole hub; Where is empty then
	Where      string     // a condition of the twin query language; empty if there is none
	Top        int        // TOP n of a full SELECT; 0 if not given
	Devices    DeviceList // listed by name, in the order of the plan
	Exclude    []DeviceID
	Limit      int // at most so many; 0 is unlimited
	Expect     Expect
	AllowEmpty bool
	Rows       Rows `json:"-"` // values of listed devices; nil if there are none
}

// Rows are values of devices from a file beside the plan.
type Rows interface {
	// Row returns the values of a device as a JSON object; nil if it has none.
	Row(id DeviceID) (json.RawMessage, error)
}

// DeviceID names a device, or a module of one, in a plan. In YAML a module is
// written "device/module".
type DeviceID struct {
	Device string
	Module string
}

// Expect bounds the size of the cohort before the first attempt.
type Expect struct {
	Min int
	Max int // 0 is unbounded
	// Excluded says that the target has to select everything that it excludes.
	Excluded bool
}

// Method is the action of a direct method job.
type Method struct {
	Name            string
	Payload         json.RawMessage // compact JSON; nil if the plan gives none
	Template        *Template       // instead of Payload, when it differs by device
	ConnectTimeout  time.Duration
	ResponseTimeout time.Duration
	Success         StatusSet
	Idempotent      bool
}

// TwinUpdate is the action of a twin job. Each section is a compact JSON
// object, used as a merge patch (RFC 7396), or nil when it is left alone; at
// least one is set. A section that differs by device has its template set
// instead.
type TwinUpdate struct {
	Desired         json.RawMessage
	Tags            json.RawMessage
	DesiredTemplate *Template
	TagsTemplate    *Template
	Guard           Guard
}

// Confirm waits for the device to report the change.
type Confirm struct {
	Reported json.RawMessage // what must be reported; of a twin job, nil stands for its desired patch
	Template *Template       // instead of Reported, when it differs by device
	Changed  []string        // paths that must get a new value
	Within   time.Duration   // from the accepted patch, or the answer to the method
}

// Need is a job that must have ended before another starts.
type Need struct {
	Job string
	If  NeedIf
}

// NeedIf says how the needed job must have ended.
type NeedIf string

// The conditions of a need.
const (
	NeedSucceeded NeedIf = "succeeded"
	NeedAlways    NeedIf = "always"
)

// Window is the hours in which attempts may start. To before From means that
// it ends on the next day; Days are those on which it opens.
type Window struct {
	From, To time.Duration // since midnight
	Days     []time.Weekday
	Timezone string
	Location *time.Location
}

// LatePolicy says what becomes of a job whose time has passed.
type LatePolicy string

// The policies for late jobs.
const (
	LateFail LatePolicy = "fail"
	LateSkip LatePolicy = "skip"
	LateRun  LatePolicy = "run"
)

// Share is a number of devices, or a part of a cohort.
type Share struct {
	Count    int     // unless Relative
	Percent  float64 // if Relative
	Relative bool
}

// Of returns how many of total devices s stands for, rounded up.
func (s Share) Of(total int) int {
	if !s.Relative {
		return min(s.Count, total)
	}
	return int(math.Ceil(float64(total) * s.Percent / 100 * (1 - shareError)))
}

// Holds tells whether n of total devices are no more than s. A share is not
// rounded: 10% of 15 devices holds 1, because 2 would be 13%. It is met exactly
// at the limit.
func (s Share) Holds(n, total int) bool {
	if !s.Relative {
		return n <= s.Count
	}
	return float64(n)*100 <= float64(total)*s.Percent*(1+shareError)
}

// Reached tells whether n of total devices are as many as s, or more. A share is
// not rounded: 5% of 30 devices is reached with 2, because 1 is 3%.
func (s Share) Reached(n, total int) bool {
	if !s.Relative {
		return n >= s.Count
	}
	return float64(n)*100 >= float64(total)*s.Percent*(1-shareError)
}

// shareError makes up for shares that have no exact form in binary, such as
// 2.3%: it is far less than one device in any fleet.
const shareError = 1e-12

// Rollout cuts a cohort into waves, each started when the one before went well.
type Rollout struct {
	Waves    []Wave // the last one is all that are left
	Pause    time.Duration
	Manual   bool // instead of Pause: the run ends after each wave
	StopWhen StopWhen
	Ramp     *Ramp        // nil if the job's rate holds from the beginning
	Scope    RolloutScope // of waves and stop rules, where the plan has several hubs
}

// RolloutScope is what the waves of a rollout and its stop rules are counted over.
type RolloutScope string

// The scopes.
const (
	ScopePlan RolloutScope = "plan" // all hubs together
	ScopeHub  RolloutScope = "hub"  // each for itself
)

// PauseManual is the pause that lasts until somebody resumes the run.
const PauseManual = "manual"

// Wave is a slice of a cohort: up to a size, or those that it names, or those
// that a condition selects.
type Wave struct {
	Size    Share // cumulative
	Devices []DeviceID
	Query   string
}

// Names tells whether the wave says itself who belongs to it.
func (w Wave) Names() bool { return len(w.Devices) > 0 || w.Query != "" }

// String writes the wave as plans do.
func (w Wave) String() string {
	switch {
	case w.Query != "":
		return w.Query
	case len(w.Devices) == 1:
		return w.Devices[0].String()
	case len(w.Devices) > 1:
		return fmt.Sprintf("%s and %d more", w.Devices[0], len(w.Devices)-1)
	}
	return w.Size.String()
}

// Ramp lets a rate grow with success.
type Ramp struct {
	From   float64 // attempts a second at first
	Factor float64 // more, each time that
	Every  int     // so many more targets have succeeded
}

// StopWhen ends a rollout when a share of the finished devices is reached. A
// nil share never does.
type StopWhen struct {
	Failed  *Share
	Offline *Share
	MinDone int // not before so many devices are finished
}

// Tolerate says how many devices may miss for the job still to succeed.
type Tolerate struct {
	Failed  Share
	Offline Share
	Hubs    Share // of the plan's hubs, that cannot be used
}

// Engine is who fans out to the devices.
type Engine string

// The engines.
const (
	EngineDirect  Engine = "direct"
	EngineHubJobs Engine = "hubJobs"
)

// Retry bounds the attempts for one device.
type Retry struct {
	Attempts   int // the first one included
	Backoff    time.Duration
	MaxBackoff time.Duration
}

// Guard says what keeps a patch from overwriting what it was not computed from.
type Guard string

// The guards. With GuardETag a patch is refused when the twin has changed since
// it was read, and computed anew. With GuardNone it is sent in any case and holds
// all that is wanted, not only what differed; its before-values may be out of
// date.
const (
	GuardETag Guard = "etag"
	GuardNone Guard = "none"
	// GuardRecorded takes the etag from the device's row: a twin that has another one
	// is left alone.
	GuardRecorded Guard = "recorded"
)

// OfflinePolicy says what becomes of a device that is not online.
type OfflinePolicy string

// The policies. OfflineWait tries again until the job's deadline.
const (
	OfflineFail OfflinePolicy = "fail"
	OfflineSkip OfflinePolicy = "skip"
	OfflineWait OfflinePolicy = "wait"
)

// StatusRange is a range of method statuses, both ends included.
type StatusRange struct{ From, To int }

// StatusSet is the set of method statuses that count as success.
type StatusSet []StatusRange

// Contains tells whether status counts as success.
func (s StatusSet) Contains(status int) bool {
	return slices.ContainsFunc(s, func(r StatusRange) bool { return r.From <= status && status <= r.To })
}

// String writes the share as plans do.
func (s Share) String() string {
	if s.Relative {
		return fmt.Sprintf("%g%%", s.Percent)
	}
	return fmt.Sprint(s.Count)
}

// String writes the id as plans do.
func (d DeviceID) String() string {
	if d.Module == "" {
		return d.Device
	}
	return d.Device + "/" + d.Module
}
