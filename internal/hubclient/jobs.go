package hubclient

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/hub"
)

// CreateJob has the hub carry out a job. Where the answer is lost, or the hub says
// that there is a job of this id, asking for the job tells what there is.
func (c *Client) CreateJob(ctx context.Context, j hub.NewJob) error {
	_, err := c.do(ctx, request{
		op: "create job", method: http.MethodPut, path: jobPath(j.ID), body: appendNewJob(nil, j),
		timeout: requestTimeout, limit: maxAnswer,
	})
	return err
}

// Job returns a job.
func (c *Client) Job(ctx context.Context, id string) (hub.Job, error) {
	a, err := c.do(ctx, request{op: "read job", method: http.MethodGet, path: jobPath(id), timeout: requestTimeout, limit: maxAnswer})
	if err != nil {
		return hub.Job{}, err
	}
	return oneJob(a)
}

// CancelJob cancels a job that has not begun to run. Others are refused.
func (c *Client) CancelJob(ctx context.Context, id string) (hub.Job, error) {
	a, err := c.do(ctx, request{op: "cancel job", method: http.MethodPost, path: jobPath(id) + "/cancel", body: []byte{}, timeout: requestTimeout, limit: maxAnswer})
	if err != nil {
		return hub.Job{}, err
	}
	return oneJob(a)
}

// Jobs returns one page of the jobs that the hub remembers.
func (c *Client) Jobs(ctx context.Context, f hub.JobFilter) (hub.JobPage, error) {
	query := ""
	if f.Type != "" {
		query += "&jobType=" + escape(f.Type)
	}
	if f.Status != "" {
		query += "&jobStatus=" + escape(string(f.Status))
	}
	a, err := c.do(ctx, request{
		op: "list jobs", method: http.MethodGet, path: "/jobs/v2/query", query: query, extra: paging(f.PageSize, f.Continuation),
		timeout: requestTimeout, limit: maxPage,
	})
	if err != nil {
		return hub.JobPage{}, err
	}
	page := hub.JobPage{Continuation: a.header.Get("X-Ms-Continuation")}
	err = eachObject(a.body, func(item gjson.Result) { page.Jobs = append(page.Jobs, decodeJob(item)) })
	if err != nil {
		return hub.JobPage{}, badAnswer(a, err)
	}
	return page, nil
}

// JobRows returns one page of what jobs did for each device: a query of
// devices.jobs.
func (c *Client) JobRows(ctx context.Context, q hub.Query) (hub.JobRowPage, error) {
	a, err := c.query(ctx, "query job rows", q, maxPage)
	if err != nil {
		return hub.JobRowPage{}, err
	}
	page := hub.JobRowPage{Continuation: a.header.Get("X-Ms-Continuation")}
	err = eachObject(a.body, func(item gjson.Result) { page.Rows = append(page.Rows, decodeJobRow(item)) })
	if err != nil {
		return hub.JobRowPage{}, badAnswer(a, err)
	}
	return page, nil
}

func jobPath(id string) string { return "/jobs/v2/" + escape(id) }

// paging are the headers of a request for one page.
func paging(size int, continuation string) (extra header) {
	if size > 0 {
		extra = append(extra, struct{ key, value string }{"X-Ms-Max-Item-Count", strconv.Itoa(size)})
	}
	if continuation != "" {
		extra = append(extra, struct{ key, value string }{"X-Ms-Continuation", continuation})
	}
	return extra
}

// appendNewJob writes the body of PUT. What is not set is left out: the hub refuses
// null.
func appendNewJob(b []byte, j hub.NewJob) []byte {
	b = appendMember(append(b, '{'), "jobId", j.ID)
	if j.Call != nil {
		b = appendMember(append(b, ','), "type", hub.JobMethod)
		b = appendCall(append(b, `,"cloudToDeviceMethod":`...), *j.Call)
	} else {
		b = appendMember(append(b, ','), "type", hub.JobTwin)
		patch := appendPatch(nil, *j.Patch)
		b = append(append(b, `,"updateTwin":{"etag":"*",`...), patch[1:]...) // the hub takes no other etag
	}
	b = appendMember(append(b, ','), "queryCondition", j.Condition)
	if !j.Start.IsZero() {
		b = appendMember(append(b, ','), "startTime", j.Start.UTC().Format(time.RFC3339))
	}
	if j.Within > 0 {
		b = strconv.AppendInt(append(b, `,"maxExecutionTimeInSeconds":`...), seconds(j.Within), 10)
	}
	return append(b, '}')
}

func appendMember(b []byte, key, value string) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic("a string always has a JSON form: " + err.Error())
	}
	return append(append(append(append(b, '"'), key...), '"', ':'), text...)
}

func oneJob(a answer) (hub.Job, error) {
	doc, err := parse(a.body)
	if err == nil && !doc.IsObject() {
		err = errors.New("a job is not an object")
	}
	if err != nil {
		return hub.Job{}, badAnswer(a, err)
	}
	return decodeJob(doc), nil
}

// eachObject yields the objects of an array; an answer of null is an empty one.
func eachObject(body []byte, yield func(gjson.Result)) error {
	doc, err := parse(body)
	if err != nil || doc.Type == gjson.Null {
		return err
	}
	if !doc.IsArray() {
		return errors.New("the answer is not an array")
	}
	doc.ForEach(func(_, item gjson.Result) bool {
		if !item.IsObject() {
			err = errors.New("an element is not an object")
			return false
		}
		yield(item)
		return true
	})
	return err
}

func decodeJob(doc gjson.Result) hub.Job {
	j := hub.Job{
		ID: member(doc, "jobId").Str, Type: member(doc, "type").Str, Status: jobStatus(member(doc, "status").Str),
		Condition: member(doc, "queryCondition").Str, Seconds: member(doc, "maxExecutionTimeInSeconds").Int(),
		Method: object(member(doc, "cloudToDeviceMethod")), Twin: object(member(doc, "updateTwin")),
		Failure: member(doc, "failureReason").Str, Message: member(doc, "statusMessage").Str,
		CreatedAt: jobTime(member(doc, "createdTime")), StartAt: jobTime(member(doc, "startTime")), EndedAt: jobTime(member(doc, "endTime")),
	}
	if n := member(doc, "deviceJobStatistics"); n.IsObject() {
		j.Devices = &hub.JobDevices{
			All: int(member(n, "deviceCount").Int()), Succeeded: int(member(n, "succeededCount").Int()), Failed: int(member(n, "failedCount").Int()),
			Running: int(member(n, "runningCount").Int()), Pending: int(member(n, "pendingCount").Int()),
		}
	}
	return j
}

func decodeJobRow(doc gjson.Result) hub.JobRow {
	r := hub.JobRow{
		Target: hub.Target{DeviceID: member(doc, "deviceId").Str, ModuleID: member(doc, "moduleId").Str},
		JobID:  member(doc, "jobId").Str, Status: jobStatus(member(doc, "status").Str),
		StartAt: parseTime(member(doc, "startTimeUtc").Str), UpdatedAt: parseTime(member(doc, "lastUpdatedDateTimeUtc").Str),
	}
	if m := member(member(doc, "outcome"), "deviceMethodResponse"); m.IsObject() && member(m, "status").Type == gjson.Number {
		r.Answer = &hub.Answer{Status: int(member(m, "status").Int()), Payload: json.RawMessage(member(m, "payload").Raw)}
	}
	if e := member(doc, "error"); e.IsObject() {
		r.Err = rowError(show(member(e, "code").String(), maxName), show(member(e, "description").String(), maxMessage))
	}
	return r
}

// rowError reads the error of a row. One that is not known may have had an effect.
func rowError(name, message string) *hub.Error {
	const neverRan = 412003 // the device did not come online while the job ran
	e := &hub.Error{Kind: hub.KindServer, Name: name, Code: codeOf(name), Message: message}
	switch {
	case e.Code == neverRan:
		e.Kind = hub.KindOffline
	case e.Code != 0:
		e.Kind = kindOf(e.Code/1000, e.Code)
	}
	return e
}

// member returns a member of an object, whatever the case of its key.
func member(doc gjson.Result, key string) (found gjson.Result) {
	doc.ForEach(func(k, v gjson.Result) bool {
		if strings.EqualFold(k.Str, key) {
			found = v
			return false
		}
		return true
	})
	return found
}

// jobStatus reads a status of a job or a row. Queued and enqueued are one, and so
// are the two spellings of cancelled; a row that is pending is queued.
func jobStatus(text string) hub.JobStatus {
	switch s := hub.JobStatus(strings.ToLower(text)); s {
	case "enqueued", "pending":
		return hub.JobQueued
	case "canceled":
		return hub.JobCancelled
	case hub.JobQueued, hub.JobScheduled, hub.JobRunning, hub.JobCompleted, hub.JobFailed, hub.JobCancelled:
		return s
	case hub.JobUnknown:
	}
	return hub.JobUnknown
}

// jobTime reads a time of a job. The year 9999 stands for one that has not come.
func jobTime(v gjson.Result) *time.Time {
	const never = 9999
	t := parseTime(v.Str)
	if t.Year() <= 1 || t.Year() >= never {
		return nil
	}
	return &t
}
