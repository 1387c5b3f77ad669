// Package jobs is the hub's Jobs service: what is scheduled, what runs, and the rows of
// each device.
package jobs

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/emulator/wire"
	"iothub-runner/internal/twinquery"
)

// This file follows "Schedule jobs on multiple devices" and the service's REST
// reference for jobs, version 2. How jobs run is in jobrun.go.

// The job types, and the states of a job.
const (
	jobTwin   = "scheduleUpdateTwin"
	jobMethod = "scheduleDeviceMethod"

	Queued       = "queued"
	jobScheduled = "scheduled"
	jobRunning   = "running"
	jobCompleted = "completed"
	jobFailed    = "failed"
	jobCancelled = "cancelled"
)

const (
	maxJobID        = 64
	maxJobCondition = 8192
	jobMemory       = 30 * 24 * time.Hour
	// defaultJobTime is what clients send when their user chose nothing.
	defaultJobTime = time.Hour
	strictJobTime  = 48 * time.Hour
	strictJobStart = 7 * 24 * time.Hour
	// EndOfTime stands for the end of a job that has not ended.
	EndOfTime = "9999-12-30T00:00:00Z"
	// jobLag is how far behind something is that lags.
	jobLag = 3 * time.Second
)

// jobRequest is the body of PUT, member by member.
type jobRequest struct {
	ID, kind, condition string
	start               time.Time
	budget              time.Duration
	method, twin        string // raw
}

// ParseJob reads and checks the body of PUT.
//
// A job that the hub has taken already is not judged by switches, which may have
// been others then.
func (s *Schedules) ParseJob(id string, body []byte, taken bool) (*Job, *refuse.Error) {
	now := s.Clock.Now()
	req := jobRequest{start: now, budget: defaultJobTime}
	var refusal *refuse.Error
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		refusal = req.member(k.Str, v)
		return refusal == nil
	})
	if refusal == nil {
		refusal = checkJob(id, &req)
	}
	if refusal == nil && !taken {
		refusal = s.checkSwitches(&req, now)
	}
	if refusal != nil {
		return nil, refusal
	}
	j := &Job{
		ID: id, Kind: req.kind, condition: req.condition, created: now, start: req.start, budget: req.budget,
		body: string(body), status: Queued, server: s,
	}
	if refusal = s.jobAction(j, &req); refusal == nil && !taken && j.queryErr != nil && s.Does(core.KnobBadCondition, "sync") {
		refusal = refuse.Argument("The queryCondition cannot be read: %s.", j.queryErr)
	}
	return j, refusal
}

func (r *jobRequest) member(key string, v gjson.Result) *refuse.Error {
	switch {
	case strings.EqualFold(key, "jobId"):
		r.ID = v.String()
	case strings.EqualFold(key, "type"):
		r.kind = v.String()
	case strings.EqualFold(key, "queryCondition"):
		r.condition = v.String()
	case strings.EqualFold(key, "cloudToDeviceMethod") && v.IsObject():
		r.method = v.Raw
	case strings.EqualFold(key, "updateTwin") && v.IsObject():
		r.twin = v.Raw
	case strings.EqualFold(key, "startTime"):
		return r.startTime(v)
	case strings.EqualFold(key, "maxExecutionTimeInSeconds"):
		n, ok := core.Integer(v)
		if !ok || n < 0 || n > int64(100*365*24*time.Hour/time.Second) {
			return refuse.Argument("maxExecutionTimeInSeconds must be a number of seconds; leave it out for the default.")
		}
		if n > 0 {
			r.budget = time.Duration(n) * time.Second
		}
	}
	return nil
}

// startTime reads a time with or without zone. Null is refused, as the hub
// does; a time that is past means now, which is what .NET's zero time is.
func (r *jobRequest) startTime(v gjson.Result) *refuse.Error {
	if v.Type != gjson.String {
		return refuse.Argument("startTime must be a time; leave it out for now.")
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, v.Str); err == nil {
			if t.After(r.start) {
				r.start = t
			}
			return nil
		}
	}
	return refuse.Argument("startTime '%s' is not an ISO 8601 time.", v.Str)
}

func checkJob(id string, r *jobRequest) *refuse.Error {
	switch {
	case !validJobID(id):
		return refuse.Argument("A jobId has 1 to %d characters: ASCII letters, digits and -.", maxJobID)
	case r.ID != "" && r.ID != id:
		return refuse.Argument("The jobId '%s' in the body is not the one in the URI.", r.ID)
	case r.kind != jobTwin && r.kind != jobMethod:
		return &refuse.Error{Status: 400, Name: "GenericBadRequest", Text: "The job type '" + r.kind + "' is neither " + jobTwin + " nor " + jobMethod + "."}
	case utf8.RuneCountInString(r.condition) > maxJobCondition:
		// Misleading, and what the hub was seen to answer.
		return refuse.Precondition()
	}
	return nil
}

// checkSwitches refuses what the hub may refuse or not.
func (s *Schedules) checkSwitches(r *jobRequest, now time.Time) *refuse.Error {
	strict := s.Does(core.KnobJobTimeLimits, "strict")
	switch {
	case r.condition == "" && s.Does(core.KnobEmptyCondition, "refuse"):
		return refuse.Argument("The queryCondition must not be empty.")
	case strict && r.budget > strictJobTime:
		return refuse.Argument("maxExecutionTimeInSeconds must not be larger than %d.", strictJobTime/time.Second)
	case strict && r.start.After(now.Add(strictJobStart)):
		return refuse.Argument("startTime must not be more than 7 days ahead.")
	}
	return nil
}

func validJobID(id string) bool {
	if id == "" || len(id) > maxJobID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// jobAction reads what the job does to each device, and to which.
func (s *Schedules) jobAction(j *Job, r *jobRequest) *refuse.Error {
	if j.Kind == jobMethod {
		req, refusal := s.ParseMethod([]byte(r.method))
		if r.method == "" || refusal != nil {
			return refuse.Argument("The cloudToDeviceMethod cannot be used: %s", textOf(refusal))
		}
		j.call, j.methodRaw = req.MethodCall, MethodEcho(r.method)
	} else {
		if gjson.Get(r.twin, "etag").Str != "*" {
			return refuse.Argument("The updateTwin must have the etag '*'.")
		}
		if _, refusal := twindoc.ParseWrite([]byte(r.twin), true); refusal != nil {
			return refusal
		}
		j.twinRaw = compactJSON(r.twin)
	}
	j.query, j.queryErr = jobQuery(j.condition)
	return nil
}

// readWrite takes the twin's patch apart. Only a job that runs has it so: it
// weighs many times what its text does. It is called with mu held.
func (j *Job) readWrite() {
	if j.Kind != jobTwin {
		return
	}
	j.Write, _ = twindoc.ParseWrite([]byte(j.twinRaw), true) // it was read when the job came
	j.server.CompleteWrite(&j.Write)
}

// weight is about how many bytes it takes to remember the job, without its rows.
func (j *Job) weight() int { return 1<<10 + 3*len(j.body) }

func textOf(refusal *refuse.Error) string {
	if refusal == nil {
		return "it is missing."
	}
	return refusal.Text
}

// MethodEcho is a job's method as GET shows it: what the hub read of it. Keys
// that it does not know were ignored.
func MethodEcho(raw string) string {
	b := []byte{'{'}
	gjson.Parse(raw).ForEach(func(k, v gjson.Result) bool {
		for _, known := range []string{"methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds"} {
			if !strings.EqualFold(k.Str, known) {
				continue
			}
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(wire.String(b, known), ':')
			b = append(b, compactJSON(v.Raw)...)
		}
		return true
	})
	return string(append(b, '}'))
}

func compactJSON(raw string) string {
	return gjson.Get(raw, "@ugly").Raw
}

// jobQuery turns a condition into the query that it stands for. A condition is
// the part after WHERE; that it may start with FROM is how modules are meant.
//
// A job runs on devices and modules: rows of devices.jobs are no target.
func jobQuery(condition string) (*twinquery.Query, error) {
	q, err := parseJobQuery(condition)
	switch {
	case err != nil:
		return nil, err
	case q.Source == twinquery.Jobs:
		return nil, errors.New("a job cannot run on devices.jobs")
	case q.Where != nil && q.Where.Unknown() != nil:
		return nil, q.Where.Unknown()
	}
	return q, nil
}

func parseJobQuery(condition string) (*twinquery.Query, error) {
	trimmed := strings.TrimSpace(condition)
	switch {
	case trimmed == "" || trimmed == "*":
		return twinquery.Parse("SELECT * FROM devices")
	case len(trimmed) > 5 && strings.EqualFold(trimmed[:5], "from "):
		return twinquery.Parse("SELECT * " + trimmed)
	}
	if _, err := twinquery.ParseCondition(condition); err != nil {
		return nil, err // its positions are in the condition
	}
	return twinquery.Parse("SELECT * FROM devices WHERE " + condition)
}

// Titled begins a word with a capital.
func Titled(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// ErrJobNotFound says that there is no such job.
func ErrJobNotFound(id string) *refuse.Error {
	return &refuse.Error{Status: 404, Code: 404002, Name: "JobNotFound", Text: "Job with ID '" + id + "' is not registered."}
}

// Append writes the job as GET shows it.
func (j *Job) Append(dst []byte) []byte {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	dst = wire.String(append(dst, `{"jobId":`...), j.ID)
	dst = wire.String(append(dst, `,"queryCondition":`...), j.condition)
	dst = appendJobTime(dst, `,"createdTime":"`, j.created)
	dst = appendJobTime(dst, `,"startTime":"`, j.start)
	odd, ended := j.server.Does(core.KnobJobShapes, "odd"), j.showsEnd()
	switch {
	case ended:
		dst = appendJobTime(dst, `,"endTime":"`, j.ended)
	case !odd:
		dst = append(dst, `,"endTime":"`+EndOfTime+`"`...)
	}
	dst = append(dst, `,"maxExecutionTimeInSeconds":`...)
	dst = strconv.AppendInt(dst, int64(j.budget/time.Second), 10)
	dst = wire.String(append(dst, `,"type":`...), j.Kind)
	if j.methodRaw != "" {
		dst = append(append(dst, `,"cloudToDeviceMethod":`...), j.methodRaw...)
	}
	if j.twinRaw != "" {
		dst = append(append(dst, `,"updateTwin":`...), j.twinRaw...)
	}
	dst = wire.String(append(dst, `,"status":`...), j.word(ended))
	if j.failure != "" {
		dst = wire.String(append(dst, `,"failureReason":`...), j.failure)
	}
	if j.showsStatistics() {
		dst = j.appendStatistics(append(dst, `,"deviceJobStatistics":`...))
	}
	return append(dst, '}')
}

// showsEnd says whether the job is seen to have ended.
func (j *Job) showsEnd() bool {
	lag := time.Duration(0)
	if j.server.Does(core.KnobJobLag, "status") {
		lag = jobLag
	}
	return !j.ended.IsZero() && !j.server.Clock.Now().Before(j.ended.Add(lag))
}

// word is the hub's word for the status.
func (j *Job) word(ended bool) string {
	if !j.ended.IsZero() && !ended {
		return jobRunning
	}
	if j.server.Does(core.KnobJobShapes, "odd") {
		switch j.status {
		case Queued:
			return "enqueued"
		case jobCancelled:
			return rowCanceled.String()
		}
	}
	return j.status
}

func appendJobTime(dst []byte, key string, t time.Time) []byte {
	return append(wire.Time(append(dst, key...), t.UnixNano()), '"')
}

// showsStatistics says whether the counts are there to be seen: never before
// the devices are known.
func (j *Job) showsStatistics() bool {
	if j.Rows == nil {
		return false
	}
	early := j.server.Does(core.KnobJobStatistics, "always") && j.server.Does(core.KnobJobShapes, "plain")
	return early || !j.ended.IsZero()
}

// counted counts the rows by state, as the statistics know them.
func (j *Job) counted() [rowStates]int {
	if !j.server.Does(core.KnobJobLag, "statistics") {
		return j.counts
	}
	var counts [rowStates]int
	t := j.server.Clock.Now().Add(-jobLag)
	for i := range j.Rows {
		counts[j.Rows[i].before(t)]++
	}
	return counts
}

func (j *Job) appendStatistics(dst []byte) []byte {
	counts := j.counted()
	for i, part := range []struct {
		name string
		n    int
	}{
		{"deviceCount", len(j.Rows)},
		{"failedCount", counts[rowFailed]},
		{"succeededCount", counts[rowCompleted]},
		{"runningCount", counts[rowRunning]},
		{"pendingCount", counts[rowPending]},
	} {
		dst = append(dst, "{,,,,"[i])
		dst = wire.String(dst, part.name)
		dst = strconv.AppendInt(append(dst, ':'), int64(part.n), 10)
	}
	return append(dst, '}')
}

// sameRequest says whether a job was made by the same body.
func (j *Job) sameRequest(other *Job) bool {
	return bytes.Equal([]byte(compactJSON(j.body)), []byte(compactJSON(other.body)))
}
