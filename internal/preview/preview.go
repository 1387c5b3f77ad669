// Package preview works out what a run would do, without doing it, and writes and
// reads the pinned form of that. It cannot touch a journal.
package preview

import (
	"encoding/json"
	"time"

	"iothub-runner/spec"
)

// ForecastSchema is the value of a forecast's "schema" key.
const ForecastSchema = "runner/preview/v1"

// Forecast is what Apply would do to a fleet, as far as it can be told without
// doing it. It does not grow with the fleet: targets that are treated alike
// stand together, each group with some of its devices.
type Forecast struct {
	Schema     string          `json:"schema"`
	Plan       spec.PlanRef    `json:"plan"`
	Hubs       []HubForecast   `json:"hubs"`
	Runner     string          `json:"runner"`
	CreatedAt  spec.Time       `json:"createdAt"` // the run is taken to start now
	TwinsFrom  string          `json:"twinsFrom"` // index or twins: what "before" was read from
	Summary    ForecastSummary `json:"summary"`
	Jobs       []JobForecast   `json:"jobs"`
	Warnings   []string        `json:"warnings"`
	stopped    error           // what would end the run with nothing sent to a job
	incomplete error           // what kept a job from being looked at
}

// HubForecast is a hub and what it is known to take.
type HubForecast struct {
	Name  string `json:"name"`
	SKU   string `json:"sku,omitempty"`
	Units int    `json:"units,omitempty"`
}

// ForecastSummary counts over all jobs. A device that two jobs act on is two
// targets.
type ForecastSummary struct {
	Targets   int `json:"targets"`
	Changes   int `json:"changes"`   // twins to patch
	Calls     int `json:"calls"`     // methods to call
	Unchanged int `json:"unchanged"` // twins that are as wanted
	Failing   int `json:"failing"`   // targets for which nothing can be sent
	Load
}

// Load is what something asks of a hub.
type Load struct {
	Requests map[string]int `json:"requests"`         // by class of throttle
	Messages int            `json:"messages"`         // of the daily quota, at least
	Seconds  float64        `json:"seconds"`          // at least, at the rates the hub publishes; 0 if its size is not known
	Limit    string         `json:"limit,omitempty"`  // what takes that long: a class, or "rate"
	Hub      string         `json:"hub,omitempty"`    // of several, the one that takes that long
	Quota    int            `json:"quota,omitempty"`  // messages that the hub takes in a day
	PerDay   float64        `json:"perDay,omitempty"` // Messages as a share of Quota
}

// JobForecast is what one job would do.
type JobForecast struct {
	Name      string       `json:"name"`
	Type      spec.JobType `json:"type"`
	Target    string       `json:"target"`
	StartsAt  spec.Time    `json:"startsAt"`
	After     []string     `json:"after,omitempty"`    // jobs that have to succeed before it starts
	AfterAny  []string     `json:"afterAny,omitempty"` // those of After that only have to end
	Deadline  *spec.Time   `json:"deadline,omitempty"` // when its time budget ends
	Window    *Opening     `json:"window,omitempty"`
	EndsAt    *spec.Time   `json:"endsAt,omitempty"` // at the earliest; absent if the hub's size is not known
	Targets   int          `json:"targets"`
	Limit     int          `json:"limit,omitempty"` // the most targets that the plan lets it have
	Changes   int          `json:"changes"`
	Calls     int          `json:"calls"`
	Unchanged int          `json:"unchanged"`
	Failing   int          `json:"failing"`
	LeftAlone int          `json:"leftAlone,omitempty"` // twins that have changed since they were recorded
	Groups    []Group      `json:"groups"`              // the largest first

	Confirm string         `json:"confirm,omitempty"` // how long each device is given to report the change
	Waves   []WaveForecast `json:"waves,omitempty"`
	Pause   string         `json:"pause,omitempty"` // between them: a duration, or manual
	Load
	Engines *Engines `json:"engines,omitempty"` // absent if the hub's size is not known
	Stopped string   `json:"stopped,omitempty"` // why nothing would be sent
	Skipped bool     `json:"skipped,omitempty"` // the plan wants it so
	Error   string   `json:"error,omitempty"`   // why it could not be looked at
}

// Opening is the span of a window that a job would start in.
type Opening struct {
	From spec.Time `json:"from"`
	To   spec.Time `json:"to"`
}

// Group is targets of a job that are treated alike.
type Group struct {
	Count     int            `json:"count"`
	Devices   []string       `json:"devices"` // the first of them, as device or device/module
	Before    *spec.Sections `json:"before,omitempty"`
	Patch     *spec.Sections `json:"patch,omitempty"`
	Call      *CallForecast  `json:"call,omitempty"`
	Unchanged bool           `json:"unchanged,omitempty"`
	Various   bool           `json:"various,omitempty"` // alike only in what they change; Before, Patch and Call are the first device's
	Varies    []string       `json:"varies,omitempty"`  // of those, the parts that others have other values of, as in "patch.desired.floor"
	Error     string         `json:"error,omitempty"`   // why nothing can be sent
}

// CallForecast is a direct method call, under the names that the hub gives its
// parts.
type CallForecast struct {
	MethodName               string          `json:"methodName"`
	Payload                  json.RawMessage `json:"payload,omitempty"`
	ConnectTimeoutInSeconds  int             `json:"connectTimeoutInSeconds"`
	ResponseTimeoutInSeconds int             `json:"responseTimeoutInSeconds"`
}

// Changes tells whether applying the plan would send anything to a device.
func (f *Forecast) Changes() bool { return f.Summary.Changes+f.Summary.Calls > 0 }

// Stopped returns why a job would send nothing: its target or its time is not
// as the plan demands. It is nil if none would.
func (f *Forecast) Stopped() error { return f.stopped }

// Incomplete returns why a job could not be looked at; nil if all could.
func (f *Forecast) Incomplete() error { return f.incomplete }

func seconds(d time.Duration) int { return int(d / time.Second) }
