package hubclient_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
)

// A job is read in all the ways in which hubs were seen to write one.
func TestDecodeJob(t *testing.T) {
	at := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		answer string
		want   hub.Job
	}{
		"one that runs": {
			`{"jobId":"a","type":"scheduleUpdateTwin","status":"running","queryCondition":"*","createdTime":"2026-12-01T02:00:00Z","startTime":"2026-12-01T02:00:00","endTime":"9999-12-30T23:59:59.999Z","maxExecutionTimeInSeconds":60,"updateTwin":{"etag":"*"},"deviceJobStatistics":{"deviceCount":5,"failedCount":1,"succeededCount":2,"runningCount":1,"pendingCount":1}}`,
			hub.Job{ID: "a", Type: hub.JobTwin, Status: hub.JobRunning, Condition: "*", CreatedAt: &at, StartAt: &at, Seconds: 60, Twin: []byte(`{"etag":"*"}`), Devices: &hub.JobDevices{All: 5, Failed: 1, Succeeded: 2, Running: 1, Pending: 1}},
		},
		"the short form":         {`{"jobId":"a","type":"scheduleDeviceMethod","status":"enqueued"}`, hub.Job{ID: "a", Type: hub.JobMethod, Status: hub.JobQueued}},
		"with one l":             {`{"jobId":"a","status":"Canceled","endTime":"2026-12-01T02:00:00.0000000Z"}`, hub.Job{ID: "a", Status: hub.JobCancelled, EndedAt: &at}},
		"a word that is not one": {`{"jobId":"a","status":"melting"}`, hub.Job{ID: "a", Status: hub.JobUnknown}},
		"one that failed":        {`{"jobId":"a","status":"failed","failureReason":"why","statusMessage":"how"}`, hub.Job{ID: "a", Status: hub.JobFailed, Failure: "why", Message: "how"}},
		"nulls":                  {`{"jobId":"a","status":"queued","endTime":null,"deviceJobStatistics":null}`, hub.Job{ID: "a", Status: hub.JobQueued}},
	} {
		c := newFakeHub(t, respond(http.StatusOK, tt.answer)).client(t, nil)
		got, err := c.Job(context.Background(), "a")
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	c := newFakeHub(t, respond(http.StatusOK, `[]`)).client(t, nil)
	_, err := c.Job(context.Background(), "a")
	if kindOf(err) != hub.KindBadAnswer {
		t.Errorf("an answer that is no job: %v", err)
	}
}

func TestDecodeJobRows(t *testing.T) {
	at := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		answer string
		want   []hub.JobRow
	}{
		"null":      {`null`, nil},
		"a patch":   {`[{"deviceId":"d","moduleId":"m","jobId":"a","status":"completed","startTimeUtc":"2026-12-01T02:00:00","lastUpdatedDateTimeUtc":"2026-12-01T02:00:00Z","outcome":{"deviceMethodResponse":null}}]`, []hub.JobRow{{Target: hub.Target{DeviceID: "d", ModuleID: "m"}, JobID: "a", Status: hub.JobCompleted, StartAt: at, UpdatedAt: at}}},
		"an answer": {`[{"deviceId":"d","status":"completed","outcome":{"deviceMethodResponse":{"status":500,"payload":[1]}}}]`, []hub.JobRow{{Target: hub.Target{DeviceID: "d"}, Status: hub.JobCompleted, Answer: &hub.Answer{Status: 500, Payload: []byte(`[1]`)}}}},
		"no answer": {`[{"deviceId":"d","status":"completed","outcome":{"deviceMethodResponse":{"status":"so so"}}}]`, []hub.JobRow{{Target: hub.Target{DeviceID: "d"}, Status: hub.JobCompleted}}},
		"a failure": {`[{"deviceId":"d","status":"failed","outcome":{},"error":{"code":"JobRunPreconditionFailed","description":"why"}}]`, []hub.JobRow{{Target: hub.Target{DeviceID: "d"}, Status: hub.JobFailed, Err: &hub.Error{Kind: hub.KindOffline, Name: "JobRunPreconditionFailed", Code: 412003, Message: "why"}}}},
		"devices that failed": {`[{"deviceId":"d","status":"failed","error":{"code":"DeviceNotOnline","description":""}},{"deviceId":"e","status":"failed","error":{"code":"GatewayTimeout"}},{"deviceId":"f","status":"failed","error":{"code":"DeviceNotFound"}},{"deviceId":"g","status":"failed","error":{"code":"Moonstruck"}}]`, []hub.JobRow{
			{Target: hub.Target{DeviceID: "d"}, Status: hub.JobFailed, Err: &hub.Error{Kind: hub.KindOffline, Name: "DeviceNotOnline", Code: 404103}},
			{Target: hub.Target{DeviceID: "e"}, Status: hub.JobFailed, Err: &hub.Error{Kind: hub.KindNoAnswer, Name: "GatewayTimeout", Code: 504101}},
			{Target: hub.Target{DeviceID: "f"}, Status: hub.JobFailed, Err: &hub.Error{Kind: hub.KindNotFound, Name: "DeviceNotFound", Code: 404001}},
			{Target: hub.Target{DeviceID: "g"}, Status: hub.JobFailed, Err: &hub.Error{Kind: hub.KindServer, Name: "Moonstruck"}},
		}},
		"not yet begun": {`[{"deviceId":"d","status":"pending"},{"deviceId":"e","status":"scheduled"}]`, []hub.JobRow{{Target: hub.Target{DeviceID: "d"}, Status: hub.JobQueued}, {Target: hub.Target{DeviceID: "e"}, Status: hub.JobScheduled}}},
	} {
		c := newFakeHub(t, respond(http.StatusOK, tt.answer)).client(t, nil)
		page, err := c.JobRows(context.Background(), hub.Query{Text: "SELECT * FROM devices.jobs"})
		if diff := cmp.Diff(tt.want, page.Rows); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	for _, answer := range []string{`{}`, `[1]`, `[{"deviceId":`} {
		c := newFakeHub(t, respond(http.StatusOK, answer)).client(t, nil)
		if _, err := c.JobRows(context.Background(), hub.Query{}); kindOf(err) != hub.KindBadAnswer {
			t.Errorf("%s: %v", answer, err)
		}
	}
}
