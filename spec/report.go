package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReportSchema is the value of a report's "schema" key. It changes only when a
// reader of the old form would be misled.
const ReportSchema = "runner/report/v1"

// Outcome is how one device ended in one job. Every device of a finished run
// has exactly one.
type Outcome string

// The nine outcomes. Each says what is known of the device, because that is
// what the next decision of an operator hangs on.
const (
	// OutcomeSucceeded: the device answered within the job's success set, or
	// the hub accepted the patch.
	OutcomeSucceeded Outcome = "succeeded"
	// OutcomeUnchanged: the twin already was as wanted; nothing was sent.
	OutcomeUnchanged Outcome = "unchanged"
	// OutcomeRejected: the device answered with a status outside the success set.
	OutcomeRejected Outcome = "rejected"
	// OutcomeFailed: it did not happen. The hub refused, or nothing was sent.
	OutcomeFailed Outcome = "failed"
	// OutcomeOffline: the device was not online in the time given.
	OutcomeOffline Outcome = "offline"
	// OutcomeUnanswered: it was sent and no usable answer came back. The device
	// may have acted.
	OutcomeUnanswered Outcome = "unanswered"
	// OutcomeUnconfirmed: the patch was accepted, but the reported properties
	// did not follow in time.
	OutcomeUnconfirmed Outcome = "unconfirmed"
	// OutcomeSkipped: left alone by policy.
	OutcomeSkipped Outcome = "skipped"
	// OutcomeNotReached: the run stopped before the device's turn.
	OutcomeNotReached Outcome = "notReached"
)

// Outcomes lists all outcomes in the order in which summaries show them.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeSucceeded, OutcomeUnchanged, OutcomeRejected, OutcomeFailed, OutcomeOffline,
		OutcomeUnanswered, OutcomeUnconfirmed, OutcomeSkipped, OutcomeNotReached,
	}
}

// Worst sums up how jobs ended: the worst of them counts. One that is skipped is no
// miss, and one that did not start is.
func Worst(all ...Status) Status {
	rank := []Status{StatusSucceeded, StatusDetached, StatusFailed, StatusStopped, StatusInterrupted, StatusUnfinished}
	worst := 0
	for _, s := range all {
		if s == StatusNotStarted {
			s = StatusFailed
		}
		worst = max(worst, slices.Index(rank, s))
	}
	return rank[worst]
}

// FailedOutcomes is the class "failed" of stopWhen, tolerate and --only: what did
// not work for a reason other than that the device was offline.
func FailedOutcomes() []Outcome {
	return []Outcome{OutcomeRejected, OutcomeFailed, OutcomeUnanswered, OutcomeUnconfirmed}
}

// Status is how a run or a job ended.
type Status string

// The statuses. The last two are for jobs alone.
const (
	StatusSucceeded   Status = "succeeded"
	StatusFailed      Status = "failed"      // criteria missed
	StatusStopped     Status = "stopped"     // by a safety rule, a window or a deadline
	StatusInterrupted Status = "interrupted" // by a signal
	StatusDetached    Status = "detached"    // the hub goes on by itself
	StatusNotStarted  Status = "notStarted"
	// StatusSkipped: the plan has the job left out when it is late, or it needs
	// the success of one that is. It is not a miss.
	StatusSkipped Status = "skipped"
	// StatusUnfinished: the document was made of the journal of a run that is still
	// going on, or was killed.
	StatusUnfinished Status = "unfinished"
)

// Time is an instant in a report: RFC 3339 in UTC with milliseconds.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// AppendText appends t as it stands in reports.
func (t Time) AppendText(b []byte) ([]byte, error) {
	return t.UTC().AppendFormat(b, timeLayout), nil
}

// MarshalText returns t as it stands in reports.
func (t Time) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// MarshalJSON returns t as it stands in reports, or null for the zero Time.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	b, err := t.AppendText([]byte{'"'})
	return append(b, '"'), err
}

// Report is the document at the end of a run. Its rows can be too many to hold
// at once, so a writer emits them one by one where Jobs[i].Devices stands.
type Report struct {
	Schema  string      `json:"schema"`
	Run     Run         `json:"run"`
	Summary Summary     `json:"summary"`
	Jobs    []JobReport `json:"jobs"`
}

// Run identifies a run and says how it ended as a whole.
type Run struct {
	ID        string  `json:"id"`
	Plan      PlanRef `json:"plan"`
	Hub       string  `json:"hub"`             // several have commas between them
	Shard     *Shard  `json:"shard,omitempty"` // of the targets; nil for all
	Engine    string  `json:"engine"`
	Runner    string  `json:"runner"`
	StartedAt Time    `json:"startedAt"`
	EndedAt   Time    `json:"endedAt"`
	Status    Status  `json:"status"`
	ExitCode  int     `json:"exitCode"`
	// Rehearsal says that the hub was an emulated one whose time was jumped forward:
	// the times are those that the plan would have had.
	Rehearsal bool `json:"rehearsal,omitempty"`
	// Reason says in words why a run did not succeed.
	Reason string `json:"reason,omitempty"`
}

// PlanRef identifies the plan of a run.
type PlanRef struct {
	Name   string  `json:"name"`
	File   string  `json:"file"`
	SHA256 string  `json:"sha256"`
	Inputs *Inputs `json:"inputs,omitempty"`
}

// ParseShard reads a shard as it is written, such as 2/5; false for none.
func ParseShard(text string) (s Shard, ok bool) {
	index, of, found := strings.Cut(text, "/")
	var indexErr, ofErr error
	s.Index, indexErr = strconv.Atoi(index)
	s.Of, ofErr = strconv.Atoi(of)
	return s, found && indexErr == nil && ofErr == nil
}

// Shard is one of several equal parts of a fleet: the Index-th, from 1, of so many.
// The zero Shard is the whole.
type Shard struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// Share is how much of the whole a shard is.
func (s Shard) Share() float64 { return 1 / float64(max(1, s.Of)) }

// String writes a shard as --shard takes it; empty for the whole.
func (s Shard) String() string {
	if s.Of == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Of)
}

// Inputs tell what a run was of besides the plan's file, so that one which goes
// on with it can see whether that is still so. All are by name.
type Inputs struct {
	Jobs   map[string]string `json:"jobs"`             // a hash of all that each job does to whom
	Vars   map[string]string `json:"vars,omitempty"`   // numbers and booleans; of a text a hash, because it may be a secret
	Files  map[string]string `json:"files,omitempty"`  // a hash of each file that the plan names
	Pinned string            `json:"pinned,omitempty"` // a hash of the pinned preview that bounded the run
}

// Summary adds up the jobs.
type Summary struct {
	Targets     int             `json:"targets"`
	Outcomes    map[Outcome]int `json:"outcomes"`
	Attempts    int             `json:"attempts"`
	Retries     int             `json:"retries"`
	ThrottledMs int64           `json:"throttledMs"`
	PacedMs     int64           `json:"pacedMs,omitempty"`
	// Causes groups what did not go well, the worst first; at most 50.
	Causes []Cause `json:"causes,omitempty"`
	// MoreCauses counts those that are left out; nil for none.
	MoreCauses *MoreCauses `json:"moreCauses,omitempty"`
	// Hubs has the totals of each, where the plan has several.
	Hubs []HubReport `json:"hubs,omitempty"`
}

// HubReport is what became of the targets of one hub, in all jobs.
type HubReport struct {
	Hub      string          `json:"hub"`
	Lost     string          `json:"lost,omitempty"` // why it could not be used, or not to the end
	Targets  int             `json:"targets"`
	Outcomes map[Outcome]int `json:"outcomes"`
}

// Cause is what rows of one job have in common that did not go well.
type Cause struct {
	Job     string          `json:"job"`
	Outcome Outcome         `json:"outcome"`
	Kind    string          `json:"kind,omitempty"`    // of the error
	Code    int             `json:"code,omitempty"`    // the hub's number for it
	Name    string          `json:"name,omitempty"`    // and its name
	Status  int             `json:"status,omitempty"`  // that the devices answered
	Answer  json.RawMessage `json:"answer,omitempty"`  // and what, unless it is long
	Message string          `json:"message,omitempty"` // of the first row
	Count   int             `json:"count"`
	Devices []string        `json:"devices"`        // the first three
	Hint    string          `json:"hint,omitempty"` // what can be done
}

// MoreCauses counts causes that a report leaves out.
type MoreCauses struct {
	Causes  int `json:"causes"`
	Targets int `json:"targets"`
}

// JobReport is one job's part of a report.
type JobReport struct {
	Name    string  `json:"name"`
	Type    JobType `json:"type"`
	Engine  Engine  `json:"engine,omitempty"` // hubJobs; empty for direct
	Target  string  `json:"target"`
	Status  Status  `json:"status"`
	Reason  string  `json:"reason,omitempty"`
	Listing Listing `json:"listing,omitempty"` // empty when every target has a row
	// IdleExclusions are what target.exclude names and the target did not select.
	IdleExclusions []string        `json:"idleExclusions,omitempty"`
	ScheduledAt    Time            `json:"scheduledAt"`
	StartedAt      *Time           `json:"startedAt,omitempty"`
	EndedAt        *Time           `json:"endedAt,omitempty"`
	Targets        int             `json:"targets"`
	Outcomes       map[Outcome]int `json:"outcomes"`
	Attempts       int             `json:"attempts"`
	Retries        int             `json:"retries"`
	// RatePerSecond is how many attempts a second the job kept up.
	RatePerSecond float64 `json:"ratePerSecond"`
	// PublishedPerSecond is the throttle that the hub publishes for them; 0 if its size
	// is not known.
	PublishedPerSecond float64 `json:"publishedPerSecond,omitempty"`
	LatencyMs          Latency `json:"latencyMs"`
	// TimeToApplyMs is how long devices took to report a change; nil without confirm.
	TimeToApplyMs *Latency     `json:"timeToApplyMs,omitempty"`
	Waves         []WaveReport `json:"waves"`
	Devices       []Row        `json:"devices"`
}

// Listing says how much of a job's target is known.
type Listing string

// ListingIncomplete means that the job ended before all that its target selects
// was listed: there are targets that have no row.
const ListingIncomplete Listing = "incomplete"

// Latency is the distribution of a job's attempts that were answered.
type Latency struct {
	P50 int64 `json:"p50"`
	P90 int64 `json:"p90"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

// WaveReport tells of one wave of a rollout.
type WaveReport struct {
	Hub       string          `json:"hub,omitempty"` // whose wave it is; empty for all hubs together
	Wave      string          `json:"wave"`          // as the plan has it, such as "10%"
	Targets   int             `json:"targets"`
	StartedAt *Time           `json:"startedAt,omitempty"` // by the first run that began it
	EndedAt   *Time           `json:"endedAt,omitempty"`   // when its gate decided
	Outcomes  map[Outcome]int `json:"outcomes"`
	Verdict   Verdict         `json:"verdict"`
}

// Verdict is what the gate after a wave decided.
type Verdict string

// The verdicts.
const (
	VerdictPassed     Verdict = "passed"     // the next wave may begin
	VerdictStopped    Verdict = "stopped"    // stopWhen was reached
	VerdictUnfinished Verdict = "unfinished" // the job ended before the wave did
	VerdictNotStarted Verdict = "notStarted"
)

// Row is one target of one job. Hub stands in it only when the plan has several.
type Row struct {
	Hub       string  `json:"hub,omitempty"`
	DeviceID  string  `json:"deviceId"`
	ModuleID  string  `json:"moduleId,omitempty"`
	Outcome   Outcome `json:"outcome"`
	StartedAt *Time   `json:"startedAt,omitempty"`
	EndedAt   *Time   `json:"endedAt,omitempty"`
	// ConfirmedAt is when the device reported what Confirm waits for.
	ConfirmedAt *Time         `json:"confirmedAt,omitempty"`
	Attempts    int           `json:"attempts"`
	Confirm     *Confirmation `json:"confirm,omitempty"`
	Method      *MethodResult `json:"method,omitempty"`
	Twin        *TwinResult   `json:"twin,omitempty"`
	Error       *RowError     `json:"error,omitempty"`
	History     []Attempt     `json:"history,omitempty"`
}

// Confirmation is what is waited for after a change was accepted: what the device
// reports later than that counts.
type Confirmation struct {
	AcceptedAt Time `json:"acceptedAt"`
	By         Time `json:"by"`
	// Since bounds what counts: the hub's time of the change, or of the last report
	// before a method was called.
	Since          time.Time       `json:"since"`
	Version        int64           `json:"version"`                  // of the reported properties before
	DesiredVersion int64           `json:"desiredVersion,omitempty"` // of the desired properties after the patch
	Reported       json.RawMessage `json:"reported,omitempty"`       // what must be reported, if that differs by device
	Was            json.RawMessage `json:"was,omitempty"`            // the values that have to change, as they were
	Last           json.RawMessage `json:"last,omitempty"`           // what was reported last of what is waited for
}

// MethodResult is what a device answered.
type MethodResult struct {
	Status  int             `json:"status"`
	Payload json.RawMessage `json:"payload"`
}

// TwinResult is what a twin job found and changed. Before holds, for each
// section of the patch, the values that the patch replaced; a key that was
// absent stands as null.
type TwinResult struct {
	Before  *Sections `json:"before,omitempty"`
	Patch   *Sections `json:"patch,omitempty"`
	Version int64     `json:"version,omitempty"`
	ETag    string    `json:"etag,omitempty"`
}

// Sections are the parts of a twin that a service may write.
type Sections struct {
	Desired json.RawMessage `json:"desired,omitempty"`
	Tags    json.RawMessage `json:"tags,omitempty"`
}

// RowError says why a row did not go well. Code is the hub's number and Name
// its name for it, where it gave them.
type RowError struct {
	Kind       string `json:"kind"`
	Code       int    `json:"code,omitempty"`
	Name       string `json:"name,omitempty"`
	HTTPStatus int    `json:"httpStatus,omitempty"`
	TrackingID string `json:"trackingId,omitempty"`
	Message    string `json:"message"`
}

// Attempt is one request in the history of a row.
type Attempt struct {
	Attempt    int       `json:"attempt"`
	StartedAt  Time      `json:"startedAt"`
	DurationMs int64     `json:"durationMs"`
	HTTPStatus int       `json:"httpStatus,omitempty"`
	Error      *RowError `json:"error,omitempty"`
}
