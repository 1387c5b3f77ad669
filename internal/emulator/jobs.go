package emulator

import (
	"bytes"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/twinquery"
)

// This file follows "Schedule jobs on multiple devices" and the service's REST
// reference for jobs, version 2. How jobs run is in jobrun.go.

// The job types, and the states of a job.
const (
	jobTwin   = "scheduleUpdateTwin"
	jobMethod = "scheduleDeviceMethod"

	jobQueued    = "queued"
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
	// endOfTime stands for the end of a job that has not ended.
	endOfTime = "9999-12-30T00:00:00Z"
)

// putJob serves PUT /jobs/v2/{id}.
func (x *exchange) putJob() *apiError {
	body, refusal := x.jsonBody(maxTwinBody)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	j, refusal := x.parseJob(x.route.job, body, false)
	if refusal != nil {
		return refusal
	}
	if j, refusal = x.schedule(j); refusal != nil {
		return refusal
	}
	b := appendString(append(x.buf[:0], `{"jobId":`...), j.id)
	b = appendString(append(b, `,"type":`...), j.kind)
	b = appendString(append(b, `,"status":`...), jobQueued)
	x.buf = append(b, '}')
	return x.done(200)
}

// jobRequest is the body of PUT, member by member.
type jobRequest struct {
	id, kind, condition string
	start               time.Time
	budget              time.Duration
	method, twin        string // raw
}

// parseJob reads and checks the body of PUT.
//
// A job that the hub has taken already is not judged by switches, which may have
// been others then.
func (s *Server) parseJob(id string, body []byte, taken bool) (*job, *apiError) {
	now := s.clock.now()
	req := jobRequest{start: now, budget: defaultJobTime}
	var refusal *apiError
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
	j := &job{
		id: id, kind: req.kind, condition: req.condition, created: now, start: req.start, budget: req.budget,
		body: string(body), status: jobQueued, server: s,
	}
	if refusal = s.jobAction(j, &req); refusal == nil && !taken && j.queryErr != nil && s.does(knobBadCondition, "sync") {
		refusal = errArgument("The queryCondition cannot be read: %s.", j.queryErr)
	}
	return j, refusal
}

func (r *jobRequest) member(key string, v gjson.Result) *apiError {
	switch {
	case is(key, "jobId"):
		r.id = v.String()
	case is(key, "type"):
		r.kind = v.String()
	case is(key, "queryCondition"):
		r.condition = v.String()
	case is(key, "cloudToDeviceMethod") && v.IsObject():
		r.method = v.Raw
	case is(key, "updateTwin") && v.IsObject():
		r.twin = v.Raw
	case is(key, "startTime"):
		return r.startTime(v)
	case is(key, "maxExecutionTimeInSeconds"):
		n, ok := integer(v)
		if !ok || n < 0 || n > int64(100*365*24*time.Hour/time.Second) {
			return errArgument("maxExecutionTimeInSeconds must be a number of seconds; leave it out for the default.")
		}
		if n > 0 {
			r.budget = time.Duration(n) * time.Second
		}
	}
	return nil
}

// startTime reads a time with or without zone. Null is refused, as the hub
// does; a time that is past means now, which is what .NET's zero time is.
func (r *jobRequest) startTime(v gjson.Result) *apiError {
	if v.Type != gjson.String {
		return errArgument("startTime must be a time; leave it out for now.")
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, v.Str); err == nil {
			if t.After(r.start) {
				r.start = t
			}
			return nil
		}
	}
	return errArgument("startTime '%s' is not an ISO 8601 time.", v.Str)
}

func checkJob(id string, r *jobRequest) *apiError {
	switch {
	case !validJobID(id):
		return errArgument("A jobId has 1 to %d characters: ASCII letters, digits and -.", maxJobID)
	case r.id != "" && r.id != id:
		return errArgument("The jobId '%s' in the body is not the one in the URI.", r.id)
	case r.kind != jobTwin && r.kind != jobMethod:
		return &apiError{status: 400, name: "GenericBadRequest", text: "The job type '" + r.kind + "' is neither " + jobTwin + " nor " + jobMethod + "."}
	case utf8.RuneCountInString(r.condition) > maxJobCondition:
		// Misleading, and what the hub was seen to answer.
		return errPrecondition()
	}
	return nil
}

// checkSwitches refuses what the hub may refuse or not.
func (s *Server) checkSwitches(r *jobRequest, now time.Time) *apiError {
	strict := s.does(knobJobTimeLimits, "strict")
	switch {
	case r.condition == "" && s.does(knobEmptyCondition, "refuse"):
		return errArgument("The queryCondition must not be empty.")
	case strict && r.budget > strictJobTime:
		return errArgument("maxExecutionTimeInSeconds must not be larger than %d.", strictJobTime/time.Second)
	case strict && r.start.After(now.Add(strictJobStart)):
		return errArgument("startTime must not be more than 7 days ahead.")
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
func (s *Server) jobAction(j *job, r *jobRequest) *apiError {
	if j.kind == jobMethod {
		req, refusal := s.parseMethod([]byte(r.method))
		if r.method == "" || refusal != nil {
			return errArgument("The cloudToDeviceMethod cannot be used: %s", textOf(refusal))
		}
		j.call, j.methodRaw = req.methodCall, methodEcho(r.method)
	} else {
		if gjson.Get(r.twin, "etag").Str != "*" {
			return errArgument("The updateTwin must have the etag '*'.")
		}
		if _, refusal := parseTwinWrite([]byte(r.twin), true); refusal != nil {
			return refusal
		}
		j.twinRaw = compactJSON(r.twin)
	}
	j.query, j.queryErr = jobQuery(j.condition)
	return nil
}

// readWrite takes the twin's patch apart. Only a job that runs has it so: it
// weighs many times what its text does. It is called with mu held.
func (j *job) readWrite() {
	if j.kind != jobTwin {
		return
	}
	j.write, _ = parseTwinWrite([]byte(j.twinRaw), true) // it was read when the job came
	j.server.completeWrite(&j.write)
}

// weight is about how many bytes it takes to remember the job, without its rows.
func (j *job) weight() int { return 1<<10 + 3*len(j.body) }

func textOf(refusal *apiError) string {
	if refusal == nil {
		return "it is missing."
	}
	return refusal.text
}

// methodEcho is a job's method as GET shows it: what the hub read of it. Keys
// that it does not know were ignored.
func methodEcho(raw string) string {
	b := []byte{'{'}
	gjson.Parse(raw).ForEach(func(k, v gjson.Result) bool {
		for _, known := range []string{"methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds"} {
			if !is(k.Str, known) {
				continue
			}
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(appendString(b, known), ':')
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
	case len(trimmed) > 5 && is(trimmed[:5], "from "):
		return twinquery.Parse("SELECT * " + trimmed)
	}
	if _, err := twinquery.ParseCondition(condition); err != nil {
		return nil, err // its positions are in the condition
	}
	return twinquery.Parse("SELECT * FROM devices WHERE " + condition)
}

// getJob serves GET /jobs/v2/{id}.
func (x *exchange) getJob() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	j, refusal := x.schedules.find(x.route.job)
	if refusal != nil {
		return refusal
	}
	x.buf = j.append(x.buf[:0])
	return x.done(200)
}

// getOldJob serves GET /jobs/{id}, of import and export jobs. There are none.
func (x *exchange) getOldJob() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	return errJobNotFound(x.route.job)
}

// listOldJobs serves GET /jobs, which some clients ask beside the other list.
func (x *exchange) listOldJobs() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	x.buf = append(x.buf[:0], "[]"...)
	return x.done(200)
}

// cancelJob serves POST /jobs/v2/{id}/cancel. A job that runs cannot be
// cancelled.
func (x *exchange) cancelJob() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	j, refusal := x.schedules.find(x.route.job)
	if refusal != nil {
		return refusal
	}
	if status, ok := j.cancel(); !ok {
		code, _ := strconv.Atoi(x.chosen[knobCancelRunning])
		return &apiError{status: code, name: "OperationNotAllowedInCurrentState", text: "The job cannot be cancelled in '" + titled(status) + "' status."}
	}
	x.buf = j.append(x.buf[:0])
	return x.done(200)
}

func titled(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// listJobs serves GET /jobs/v2/query.
func (x *exchange) listJobs() *apiError {
	values, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return errArgument("The query parameters cannot be read.")
	}
	size, refusal := x.pageSize(x.r)
	if refusal != nil {
		return refusal
	}
	kind, status := values.Get("jobType"), values.Get("jobStatus")
	at := cursor{query: textHash("jobs " + kind + " " + status)}
	if token := x.r.Header.Get("X-Ms-Continuation"); token != "" {
		opened, ok := x.open(token)
		if !ok || opened.query != at.query {
			return errArgument("The continuation token does not belong to the query.")
		}
		at = opened
	}
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	x.buf = append(x.buf[:0], '[')
	rows := 0
	for _, j := range x.schedules.since(at.slot) {
		if now := j.state(); kind != "" && !is(kind, j.kind) || status != "" && !is(status, now) {
			continue
		}
		if rows == size {
			at.slot = j.order
			x.w.Header()["X-Ms-Continuation"] = []string{x.seal(at)}
			break
		}
		if rows > 0 {
			x.buf = append(x.buf, ',')
		}
		x.buf = j.append(x.buf)
		rows++
	}
	x.buf = append(x.buf, ']')
	x.w.Header()["X-Ms-Item-Type"] = []string{"JobResponse"}
	return x.done(200)
}

func errJobNotFound(id string) *apiError {
	return &apiError{status: 404, code: 404002, name: "JobNotFound", text: "Job with ID '" + id + "' is not registered."}
}

// append writes the job as GET shows it.
func (j *job) append(dst []byte) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	dst = appendString(append(dst, `{"jobId":`...), j.id)
	dst = appendString(append(dst, `,"queryCondition":`...), j.condition)
	dst = appendJobTime(dst, `,"createdTime":"`, j.created)
	dst = appendJobTime(dst, `,"startTime":"`, j.start)
	if j.ended.IsZero() {
		dst = append(dst, `,"endTime":"`+endOfTime+`"`...)
	} else {
		dst = appendJobTime(dst, `,"endTime":"`, j.ended)
	}
	dst = append(dst, `,"maxExecutionTimeInSeconds":`...)
	dst = strconv.AppendInt(dst, int64(j.budget/time.Second), 10)
	dst = appendString(append(dst, `,"type":`...), j.kind)
	if j.methodRaw != "" {
		dst = append(append(dst, `,"cloudToDeviceMethod":`...), j.methodRaw...)
	}
	if j.twinRaw != "" {
		dst = append(append(dst, `,"updateTwin":`...), j.twinRaw...)
	}
	dst = appendString(append(dst, `,"status":`...), j.status)
	if j.failure != "" {
		dst = appendString(append(dst, `,"failureReason":`...), j.failure)
	}
	if j.showsStatistics() {
		dst = j.appendStatistics(append(dst, `,"deviceJobStatistics":`...))
	}
	return append(dst, '}')
}

func appendJobTime(dst []byte, key string, t time.Time) []byte {
	return append(appendTime(append(dst, key...), t.UnixNano()), '"')
}

// showsStatistics says whether the counts are there to be seen: never before
// the devices are known.
func (j *job) showsStatistics() bool {
	if j.rows == nil {
		return false
	}
	return j.server.does(knobJobStatistics, "always") || !j.ended.IsZero()
}

func (j *job) appendStatistics(dst []byte) []byte {
	for i, part := range []struct {
		name string
		n    int
	}{
		{"deviceCount", len(j.rows)},
		{"failedCount", j.counts[rowFailed]},
		{"succeededCount", j.counts[rowCompleted]},
		{"runningCount", j.counts[rowRunning]},
		{"pendingCount", j.counts[rowPending]},
	} {
		dst = append(dst, "{,,,,"[i])
		dst = appendString(dst, part.name)
		dst = strconv.AppendInt(append(dst, ':'), int64(part.n), 10)
	}
	return append(dst, '}')
}

// sameRequest says whether a job was made by the same body.
func (j *job) sameRequest(other *job) bool {
	return bytes.Equal([]byte(compactJSON(j.body)), []byte(compactJSON(other.body)))
}
