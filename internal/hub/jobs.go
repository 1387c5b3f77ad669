package hub

import (
	"encoding/json"
	"time"
)

// The types of a job of the hub's own Jobs service.
const (
	JobMethod = "scheduleDeviceMethod"
	JobTwin   = "scheduleUpdateTwin"
)

// NewJob is a job for the hub's Jobs service to carry out. It calls a method or
// patches twins, whichever is set.
type NewJob struct {
	ID        string // at most 64 ASCII letters, digits and -; chosen by the caller
	Condition string // the part of a query after WHERE, "*", or a whole FROM clause; at most 8192 characters
	Call      *Call
	Patch     *Patch
	Start     time.Time     // zero for now
	Within    time.Duration // from its start
}

// Job is a job of the hub's Jobs service.
type Job struct {
	ID        string          `json:"jobId"`
	Type      string          `json:"type"`
	Status    JobStatus       `json:"status"`
	Condition string          `json:"queryCondition,omitempty"`
	CreatedAt *time.Time      `json:"createdTime,omitempty"`
	StartAt   *time.Time      `json:"startTime,omitempty"`
	EndedAt   *time.Time      `json:"endTime,omitempty"` // nil until it has
	Seconds   int64           `json:"maxExecutionTimeInSeconds,omitempty"`
	Method    json.RawMessage `json:"cloudToDeviceMethod,omitempty"`
	Twin      json.RawMessage `json:"updateTwin,omitempty"`
	Failure   string          `json:"failureReason,omitempty"`
	Message   string          `json:"statusMessage,omitempty"`
	Devices   *JobDevices     `json:"deviceJobStatistics,omitempty"` // nil while nobody has counted
}

// JobDevices counts the devices of a job.
type JobDevices struct {
	All       int `json:"deviceCount"`
	Succeeded int `json:"succeededCount"`
	Failed    int `json:"failedCount"`
	Running   int `json:"runningCount"`
	Pending   int `json:"pendingCount"`
}

// JobStatus is where a job is. The hub has more words than there are states: they
// are read as these.
type JobStatus string

// The statuses.
const (
	JobUnknown   JobStatus = "unknown"
	JobQueued    JobStatus = "queued"
	JobScheduled JobStatus = "scheduled"
	JobRunning   JobStatus = "running"
	JobCompleted JobStatus = "completed"
	JobFailed    JobStatus = "failed"
	JobCancelled JobStatus = "cancelled"
)

// Ended tells whether nothing more comes of a job.
func (s JobStatus) Ended() bool { return s == JobCompleted || s == JobFailed || s == JobCancelled }

// JobFilter picks jobs; what is empty picks all.
type JobFilter struct {
	Type         string
	Status       JobStatus
	PageSize     int
	Continuation string
}

// JobPage is one page of jobs. A page may be empty and still not be the last.
type JobPage struct {
	Jobs         []Job
	Continuation string
}

// JobRow is what a job did for one device, or module.
type JobRow struct {
	Target
	JobID     string
	Status    JobStatus
	StartAt   time.Time // when the job was to start
	UpdatedAt time.Time // when the row changed last: the end of one that has ended
	Answer    *Answer   // of the device, to a method
	Err       *Error    // why it did not work; nil unless the hub says so
}

// TooManyJobs is the name of the error that a hub refuses a job with as long as it
// runs as many as its tier allows.
const TooManyJobs = "ThrottlingMaxActiveJobCountExceeded"

// JobRowPage is one page of rows.
type JobRowPage struct {
	Rows         []JobRow
	Continuation string
}
