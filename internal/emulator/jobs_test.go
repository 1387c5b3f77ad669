package emulator

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/jobs"
	"iothub-runner/internal/emulator/wire"
)

func methodJob(id, condition, method string, more ...string) string {
	return fmt.Sprintf(`{"jobId":%q,"type":"scheduleDeviceMethod","queryCondition":%q,"cloudToDeviceMethod":{"methodName":%q,"payload":{"t":1},"responseTimeoutInSeconds":30}%s}`,
		id, condition, method, strings.Join(more, ""))
}

func twinJob(id, condition, update string, more ...string) string {
	return fmt.Sprintf(`{"jobId":%q,"type":"scheduleUpdateTwin","queryCondition":%q,"updateTwin":%s%s}`, id, condition, update, strings.Join(more, ""))
}

func (h testHub) job(t *testing.T, id string) map[string]any {
	t.Helper()
	return h.do(t, "GET", "/jobs/v2/"+id, "").want(t, 200).doc(t)
}

func TestMethodJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		created := time.Now()
		a := h.do(t, "PUT", "/jobs/v2/lock-1", methodJob("lock-1", "deviceId IN ['ok', 'later', 'away']", "slow", `,"maxExecutionTimeInSeconds":60`)).want(t, 200)
		same(t, "answer to PUT", a.body, `{"jobId":"lock-1","type":"scheduleDeviceMethod","status":"queued"}`)
		synctest.Wait()
		time.Sleep(time.Second)
		doc := h.job(t, "lock-1")
		same(t, "status", doc["status"], "running")
		same(t, "endTime of what runs", doc["endTime"], jobs.EndOfTime)
		same(t, "condition", doc["queryCondition"], "deviceId IN ['ok', 'later', 'away']")
		same(t, "method", doc["cloudToDeviceMethod"], jsonOf(t, `{"methodName":"slow","payload":{"t":1},"responseTimeoutInSeconds":30}`))
		same(t, "statistics", doc["deviceJobStatistics"], jsonOf(t, `{"deviceCount":3,"failedCount":0,"succeededCount":0,"runningCount":1,"pendingCount":2}`))
		time.Sleep(30 * time.Second)
		same(t, "statistics later", h.job(t, "lock-1")["deviceJobStatistics"], jsonOf(t, `{"deviceCount":3,"failedCount":0,"succeededCount":2,"runningCount":0,"pendingCount":1}`))
		time.Sleep(time.Minute)
		doc = h.job(t, "lock-1")
		same(t, "status at the end", doc["status"], "completed")
		same(t, "endTime", doc["endTime"], string(wire.Time(nil, created.Add(time.Minute).UnixNano())))

		rows, _ := h.pages(t, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'lock-1'")
		byDevice := map[any]map[string]any{}
		for _, r := range rows {
			byDevice[r["deviceId"]] = r
		}
		stamp := func(d time.Duration) string { return string(wire.Time(nil, created.Add(d).UnixNano())) }
		same(t, "row of ok", byDevice["ok"], jsonOf(t, fmt.Sprintf(`{"deviceId":"ok","jobId":"lock-1","jobType":"scheduleDeviceMethod","status":"completed",
			"startTimeUtc":%q,"endTimeUtc":%q,"createdDateTimeUtc":%q,"lastUpdatedDateTimeUtc":%q,"outcome":{"deviceMethodResponse":{"status":200,"payload":null}}}`,
			stamp(0), stamp(time.Minute), stamp(0), stamp(7*time.Second))).(map[string]any))
		same(t, "row of later", byDevice["later"]["lastUpdatedDateTimeUtc"], any(stamp(20*time.Second)))
		same(t, "row of away", byDevice["away"]["status"], any("failed"))
		same(t, "error of away", at(t, byDevice["away"], "error", "code"), any("JobRunPreconditionFailed"))
		same(t, "outcome of away", byDevice["away"]["outcome"], any(map[string]any{}))
		same(t, "executed", []Executed{h.Executed("ok"), h.Executed("later"), h.Executed("away")}, []Executed{{Methods: 1}, {Methods: 1}, {}})
		a = h.do(t, "POST", "/devices/query", queryBody("SELECT * FROM devices.jobs"))
		same(t, "x-ms-item-type", a.header.Get("x-ms-item-type"), "DeviceJob")
	})
}

func TestTwinJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		start := time.Now().Add(10 * time.Second)
		body := twinJob("move", "*", `{"etag":"*","tags":{"moved":true,"floor":null},"properties":{"desired":{"floor":3}}}`, `,"startTime":"`+start.UTC().Format(time.RFC3339Nano)+`"`)
		h.do(t, "PUT", "/jobs/v2/move", body).want(t, 200)
		synctest.Wait()
		same(t, "status before", h.job(t, "move")["status"], "scheduled")
		if h.job(t, "move")["deviceJobStatistics"] != nil {
			t.Error("statistics show before the devices are known")
		}
		h.do(t, "PUT", "/devices/too-late", "{}").want(t, 200)
		time.Sleep(11 * time.Second)
		doc := h.job(t, "move")
		same(t, "status", doc["status"], "completed")
		same(t, "statistics", doc["deviceJobStatistics"], jsonOf(t, `{"deviceCount":301,"failedCount":0,"succeededCount":301,"runningCount":0,"pendingCount":0}`))
		same(t, "etag", at(t, doc, "updateTwin", "etag"), any("*"))
		twin := h.do(t, "GET", "/twins/door-0100", "").doc(t)
		same(t, "tags", twin["tags"], jsonOf(t, `{"building":43,"moved":true}`))
		same(t, "reported", at(t, twin, "properties", "reported", "floor"), any(3.0))
		same(t, "patches", h.Executed("door-0100").Patches, 1)
	})
}

func TestJobsKeepToTheTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubWith(t, doors, Options{Tier: "S1"})
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "lockDoor")).want(t, 200)
		synctest.Wait()
		h.do(t, "PUT", "/jobs/v2/b", methodJob("b", "*", "lockDoor")).refused(t, 429, "ThrottlingMaxActiveJobCountExceeded")
		later := time.Now().Add(5 * time.Second).UTC().Format(time.RFC3339)
		h.do(t, "PUT", "/jobs/v2/c", methodJob("c", "deviceId = 'door-0001'", "lockDoor", `,"startTime":"`+later+`"`)).want(t, 200)
		time.Sleep(10*time.Second + time.Millisecond)
		doc := h.job(t, "a")
		done, _ := at(t, doc, "deviceJobStatistics", "succeededCount").(float64)
		if done < 100 || done > 112 { // 10 a second, and a burst of one second
			t.Errorf("%v devices after 10 s, want about 100", done)
		}
		same(t, "a job that waits for its turn", h.job(t, "c")["status"], "queued")
		time.Sleep(21 * time.Second)
		same(t, "status", h.job(t, "a")["status"], "completed")
		same(t, "the next one", h.job(t, "c")["status"], "completed")
	})
}

func TestAdvanceRunsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubWith(t, doors, Options{Tier: "S1"})
		start := time.Now()
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "lockDoor")).want(t, 200)
		synctest.Wait()
		if err := h.Advance(15 * time.Second); err != nil {
			t.Fatal(err)
		}
		done, _ := at(t, h.job(t, "a"), "deviceJobStatistics", "succeededCount").(float64)
		if done < 150 || done > 162 {
			t.Errorf("%v devices after 15 s, want about 150", done)
		}
		if err := h.Advance(time.Hour); err != nil {
			t.Fatal(err)
		}
		same(t, "status", h.job(t, "a")["status"], "completed")
		same(t, "real time that passed", time.Since(start), time.Duration(0))
		if err := h.Advance(31 * 24 * time.Hour); err != nil {
			t.Fatal(err)
		}
		h.do(t, "GET", "/jobs/v2/a", "").refused(t, 404, "JobNotFound")
		rows, _ := h.pages(t, "SELECT * FROM devices.jobs")
		same(t, "rows that are remembered", len(rows), 0)
	})
}

func TestCancelJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		later := `,"startTime":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "lockDoor", later)).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/b", methodJob("b", "deviceId = 'ok'", "hang")).want(t, 200)
		synctest.Wait()
		doc := h.do(t, "POST", "/jobs/v2/a/cancel", "").want(t, 200).doc(t)
		same(t, "status", doc["status"], any("cancelled"))
		a := h.do(t, "POST", "/jobs/v2/b/cancel", "").refused(t, 405, "OperationNotAllowedInCurrentState")
		if !strings.Contains(a.body, "'Running'") {
			t.Errorf("the text %s does not name the state", a.body)
		}
		h.do(t, "POST", "/jobs/v2/nothing/cancel", "").refused(t, 404, "JobNotFound")
		time.Sleep(2 * time.Hour)
		same(t, "status of the cancelled", h.job(t, "a")["status"], "cancelled")
		same(t, "status of the other", h.job(t, "b")["status"], "completed")
		rows, _ := h.pages(t, "SELECT * FROM devices.jobs WHERE jobId = 'b' AND status = 'failed'")
		same(t, "rows that failed", len(rows), 1)
		same(t, "why", at(t, rows[0], "error", "code"), any("GatewayTimeout"))
		same(t, "executed", h.Executed("ok").Methods, 1)
	})
}

func TestJobRefusals(t *testing.T) {
	h := newHub(t, moods)
	cases := []struct {
		name, id, body string
		status         int
		code           string
	}{
		{"old type", "a", strings.Replace(methodJob("a", "*", "x"), "scheduleDeviceMethod", "scheduleDirectMethod", 1), 400, "GenericBadRequest"},
		{"no type", "a", `{"queryCondition":"*"}`, 400, "GenericBadRequest"},
		{"another id", "b", methodJob("a", "*", "x"), 400, "ArgumentInvalid"},
		{"bad id", "a_b", methodJob("a_b", "*", "x"), 400, "ArgumentInvalid"},
		{"long id", strings.Repeat("a", 65), methodJob("", "*", "x"), 400, "ArgumentInvalid"},
		{"no condition", "a", strings.Replace(methodJob("a", "*", "x"), `"queryCondition":"*",`, "", 1), 400, "ArgumentInvalid"},
		{"long condition", "a", methodJob("a", "deviceId = '"+strings.Repeat("x", 8192)+"'", "x"), 412, "PreconditionFailed"},
		{"null start", "a", methodJob("a", "*", "x", `,"startTime":null`), 400, "ArgumentInvalid"},
		{"bad start", "a", methodJob("a", "*", "x", `,"startTime":"soon"`), 400, "ArgumentInvalid"},
		{"null budget", "a", methodJob("a", "*", "x", `,"maxExecutionTimeInSeconds":null`), 400, "ArgumentInvalid"},
		{"no etag", "a", twinJob("a", "*", `{"tags":{"a":1}}`), 400, "ArgumentInvalid"},
		{"an etag", "a", twinJob("a", "*", `{"etag":"AAA=","tags":{"a":1}}`), 400, "ArgumentInvalid"},
		{"desired at the top", "a", twinJob("a", "*", `{"etag":"*","desired":{"a":1}}`), 400, "ArgumentInvalid"},
		{"bad key", "a", twinJob("a", "*", `{"etag":"*","tags":{"a.b":1}}`), 400, "ArgumentInvalid"},
		{"no method", "a", `{"jobId":"a","type":"scheduleDeviceMethod","queryCondition":"*"}`, 400, "ArgumentInvalid"},
		{"bad timeout", "a", strings.Replace(methodJob("a", "*", "x"), ":30", ":3", 1), 400, "ArgumentInvalid"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h.do(t, "PUT", "/jobs/v2/"+c.id, c.body).refused(t, c.status, c.code)
		})
	}
	same(t, "jobs", h.do(t, "GET", "/jobs/v2/query", "").body, "[]")
}

func TestJobEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		h.do(t, "PUT", "/jobs/v2/none", methodJob("none", "deviceId = 'nobody'", "x")).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/bad", methodJob("bad", "SELECT * FROM devices", "x")).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/mods", methodJob("mods", "FROM devices.modules WHERE moduleId = 'valve'", "quiet", `,"maxExecutionTimeSeconds":7`)).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/404", methodJob("404", "deviceId = 'ok'", "nothing")).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/none", methodJob("none", "deviceId = 'nobody'", "x")).refused(t, 409, "JobAlreadyExists")
		time.Sleep(time.Second)
		same(t, "no devices", h.job(t, "none")["status"], "completed")
		same(t, "no devices, statistics", at(t, h.job(t, "none"), "deviceJobStatistics", "deviceCount"), any(0.0))
		same(t, "bad condition", h.job(t, "bad")["status"], "failed")
		if reason, _ := h.job(t, "bad")["failureReason"].(string); reason == "" {
			t.Error("the failed job has no failureReason")
		}
		same(t, "modules", at(t, h.job(t, "mods"), "deviceJobStatistics", "succeededCount"), any(1.0))
		same(t, "an unknown key is ignored", h.job(t, "mods")["maxExecutionTimeInSeconds"], any(3600.0))
		rows, _ := h.pages(t, "SELECT * FROM devices.jobs WHERE jobId = '404'")
		same(t, "a device that refuses has completed", rows[0]["status"], any("completed"))
		same(t, "what it answered", at(t, rows[0], "outcome", "deviceMethodResponse", "status"), any(501.0))

		list := h.do(t, "GET", "/jobs/v2/query", "", "x-ms-max-item-count", "3").want(t, 200)
		same(t, "first page", len(list.rows(t)), 3)
		list = h.do(t, "GET", "/jobs/v2/query", "", "x-ms-max-item-count", "3", "x-ms-continuation", list.header.Get("x-ms-continuation")).want(t, 200)
		same(t, "second page", len(list.rows(t)), 1)
		same(t, "no third", list.header.Get("x-ms-continuation"), "")
		same(t, "by status", len(h.do(t, "GET", "/jobs/v2/query?jobStatus=failed", "").rows(t)), 1)
		same(t, "by type", len(h.do(t, "GET", "/jobs/v2/query?jobType=scheduleUpdateTwin", "").rows(t)), 0)
		h.do(t, "GET", "/jobs/none", "").refused(t, 404, "JobNotFound")
	})
}

// TestLargeJobOfSlowDevices has more calls to make than may be under way.
func TestLargeJobOfSlowDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "version: 1\ndevices:\n  - idPattern: d-%d\n    count: 20000\n    methods: {slow: {latency: 10s}}\n")
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "slow")).want(t, 200)
		time.Sleep(5 * time.Second)
		same(t, "calls under way", at(t, h.job(t, "a"), "deviceJobStatistics", "runningCount"), any(float64(jobs.MaxFlying)))
		time.Sleep(30 * time.Second)
		same(t, "status", h.job(t, "a")["status"], any("completed"))
		same(t, "devices", at(t, h.job(t, "a"), "deviceJobStatistics", "succeededCount"), any(20000.0))
		total := 0
		h.EachExecuted(func(_ string, e Executed) bool {
			total += e.Methods
			return true
		})
		same(t, "executed", total, 20000)
	})
}

// TestOldJobsMakeRoom checks that the rows of all jobs together are bounded,
// and that the oldest ended ones go first.
func TestOldJobsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, moods)
		for _, id := range []string{"a", "b", "c"} {
			h.do(t, "PUT", "/jobs/v2/"+id, methodJob(id, "deviceId = 'ok'", "quiet")).want(t, 200)
			time.Sleep(time.Second)
		}
		newest := h.schedules.Since(0)[2]
		newest.Mu.Lock()
		newest.Rows = make([]jobs.Row, jobs.MaxRows)
		newest.Mu.Unlock()
		h.schedules.Purge(h.Now())
		var left []string
		for _, j := range h.schedules.Since(0) {
			left = append(left, j.ID)
		}
		same(t, "jobs that are remembered", left, []string{"c"})
	})
}

// TestMethodEcho shows a job's method as the hub read it: by known names only.
func TestMethodEcho(t *testing.T) {
	got := jobs.MethodEcho(`{ "MethodName": "a", "timeoutInSeconds": 5, "payload": {"x": [1, 2]}, "connectTimeoutInSeconds": 7 }`)
	same(t, "echo", got, `{"methodName":"a","payload":{"x":[1,2]},"connectTimeoutInSeconds":7}`)
}

// A part of a wait that was passed over is not waited for again.
func TestAdvanceByAPartOfAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		at := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "lockDoor", `,"startTime":"`+at+`"`)).want(t, 200)
		synctest.Wait()
		if err := h.Advance(50 * time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		same(t, "status before its time", h.job(t, "a")["status"], "scheduled")
		time.Sleep(2 * time.Second)
		same(t, "status at its time", h.job(t, "a")["status"], "completed")
	})
}

// The published rate is that of the hub, however many jobs run.
func TestJobsShareTheRateOfDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubWith(t, doors, Options{Tier: "S2"})
		for _, id := range []string{"a", "b", "c"} {
			h.do(t, "PUT", "/jobs/v2/"+id, methodJob(id, "*", "lockDoor")).want(t, 200)
		}
		synctest.Wait()
		time.Sleep(10*time.Second + time.Millisecond)
		done := 0.
		for _, id := range []string{"a", "b", "c"} {
			n, _ := at(t, h.job(t, id), "deviceJobStatistics", "succeededCount").(float64)
			done += n
		}
		if done < 100 || done > 112 { // 10 a second, and a burst of one second
			t.Errorf("%v devices after 10 s, want about 100", done)
		}
	})
}

// Of two jobs that become due at once one gets the only place.
func TestJobsThatAreDueAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			h := hubWith(t, doors, Options{Tier: "S1"})
			at := time.Now().Add(5 * time.Second).UTC().Format(time.RFC3339)
			for _, id := range []string{"a", "b", "c"} {
				h.do(t, "PUT", "/jobs/v2/"+id, methodJob(id, "*", "lockDoor", `,"startTime":"`+at+`"`)).want(t, 200)
			}
			time.Sleep(6 * time.Second)
			running := 0
			for _, id := range []string{"a", "b", "c"} {
				if h.job(t, id)["status"] == "running" {
					running++
				}
			}
			same(t, "jobs that run", running, 1)
		})
	}
}

// The az client gives numbers as texts.
func TestJobNumbersAsTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		body := strings.ReplaceAll(methodJob("a", "deviceId = 'door-0001'", "lockDoor", `,"maxExecutionTimeInSeconds":"60"`),
			`"responseTimeoutInSeconds":30`, `"responseTimeoutInSeconds":"30"`)
		h.do(t, "PUT", "/jobs/v2/a", body).want(t, 200)
		synctest.Wait()
		time.Sleep(time.Second)
		same(t, "status", h.job(t, "a")["status"], "completed")
		h.do(t, "PUT", "/jobs/v2/b", strings.ReplaceAll(body, `"60"`, `"soon"`)).refused(t, 400, "ArgumentInvalid")
	})
}

// What a twin may hold is the same for a job.
func TestTwinJobBeyondTheSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		var kilobytes strings.Builder
		for i := range 9 {
			fmt.Fprintf(&kilobytes, `,"k%d":%q`, i, strings.Repeat("x", 1000))
		}
		h.do(t, "PUT", "/jobs/v2/a", twinJob("a", "deviceId = 'door-0001'", `{"etag":"*","tags":{`+kilobytes.String()[1:]+`}}`)).want(t, 200)
		synctest.Wait()
		time.Sleep(time.Second)
		rows, _ := h.pages(t, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'a'")
		same(t, "error of the row", at(t, rows[0], "error", "code"), any("DeviceModelMaxPropertiesExceeded"))
	})
}

// Faults meet what a job does to its devices as they meet calls from outside.
func TestFaultsInsideJobs(t *testing.T) {
	for fault, want := range map[string]struct {
		acted int
		code  string
	}{
		"serverError":  {0, "ServerError"},
		"unavailable":  {0, "ServiceUnavailable"},
		"resetBefore":  {0, "ServiceUnavailable"},
		"throttled":    {0, "ThrottlingBacklogTimeout"},
		"badGateway":   {1, "InvalidResponseWhileProxying"},
		"resetAfter":   {1, "InvalidResponseWhileProxying"},
		"unauthorized": {0, "IotHubUnauthorizedAccess"},
	} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, "version: 1\ndevices:\n  - {idPattern: d-%d, count: 3, methods: {m: {}}}\nfaults: [{fault: "+fault+", operations: [method, twinWrite]}]\n")
				h.do(t, "PUT", "/jobs/v2/m", methodJob("m", "*", "m")).want(t, 200)
				h.do(t, "PUT", "/jobs/v2/t", twinJob("t", "*", `{"etag":"*","tags":{"a":1}}`)).want(t, 200)
				time.Sleep(time.Second)
				rows, _ := h.pages(t, "SELECT * FROM devices.jobs")
				for _, r := range rows {
					same(t, "row", fmt.Sprint(r["status"], " ", at(t, r, "error", "code")), "failed "+want.code)
				}
				same(t, "rows", len(rows), 6)
				e := h.Executed("d-1")
				same(t, "executed", []int{e.Methods, e.Patches}, []int{want.acted, want.acted})
			})
		})
	}
}

// The calls to the Jobs service can fail each by itself, and as one kind.
func TestFaultsOfJobCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "version: 1\ndevices: [{ids: [ok]}]\nfaults: [{fault: serverError, operations: [jobGet], calls: 2}, {fault: unavailable, operations: [jobPut], calls: 1}, {fault: badGateway, operations: [job], calls: 5}]\n")
		put := func() answer {
			return h.do(t, "PUT", "/jobs/v2/a", twinJob("a", "*", `{"etag":"*","tags":{"a":1}}`))
		}
		get := func() answer { return h.do(t, "GET", "/jobs/v2/a", "") }
		var seen []int
		for _, call := range []func() answer{put, get, put, get, get, get} {
			seen = append(seen, call().status)
		}
		same(t, "statuses", seen, []int{503, 404, 200, 500, 502, 200})
	})
}
