package emulator

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
)

func TestBehaviourNames(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range core.Behaviours() {
		if seen[b.Name] || len(b.Values) < 2 || b.Doc == "" {
			t.Errorf("behaviour %+v is not complete", b)
		}
		seen[b.Name] = true
	}
	if len(seen) != int(core.Knobs) {
		t.Errorf("there are %d behaviours for %d knobs", len(seen), core.Knobs)
	}
	_, err := New(Options{Behaviour: map[string]string{"etagHeader": "loud", "colour": "red"}})
	if err == nil || !strings.Contains(err.Error(), `etagHeader="loud": want quoted or bare or none`) || !strings.Contains(err.Error(), `"colour"`) {
		t.Errorf("New with wrong behaviours: %v", err)
	}
}

// TestBehaviours sends the same request under every value of a switch.
func TestBehaviours(t *testing.T) {
	now := func(t *testing.T, h testHub, method, path, body string, headers ...string) string {
		t.Helper()
		a := h.do(t, method, path, body, headers...)
		return a.header.Get("iothub-errorcode") + a.body
	}
	status := func(t *testing.T, h testHub, id, body string) string {
		t.Helper()
		a := h.do(t, "PUT", "/jobs/v2/"+id, body)
		if a.status != 200 {
			return a.header.Get("iothub-errorcode")
		}
		time.Sleep(2 * time.Second)
		s, _ := h.job(t, id)["status"].(string)
		return s
	}
	big := `{"methodName":"quiet","payload":"` + strings.Repeat("x", core.MaxMethodPayload) + `"}`
	later := func(d time.Duration) string {
		return `,"startTime":"` + time.Now().Add(d).UTC().Format(time.RFC3339) + `"`
	}
	cases := []struct {
		name string
		want map[string]string // a part of what is seen, by value
		see  func(t *testing.T, h testHub) string
	}{
		{"etagHeader", map[string]string{"quoted": `["AAAAAAAAAAE="]`, "bare": `[AAAAAAAAAAE=]`, "none": `[]`}, func(t *testing.T, h testHub) string {
			t.Helper()
			return "[" + h.do(t, "GET", "/twins/ok", "").header.Get("ETag") + "]"
		}},
		{"pageOverMax", map[string]string{"clamp": "200", "refuse": "400"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return code(h.do(t, "POST", "/devices/query", queryBody("SELECT deviceId FROM devices"), "x-ms-max-item-count", "101"))
		}},
		{"nestedKey", map[string]string{"last": `"iotEdge":false`, "path": `"capabilities.iotEdge":false`}, func(t *testing.T, h testHub) string {
			t.Helper()
			return now(t, h, "POST", "/devices/query", queryBody("SELECT capabilities.iotEdge FROM devices"))
		}},
		{"bigPayload", map[string]string{"413": "MessageTooLarge", "400": "ArgumentInvalid"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return now(t, h, "POST", "/twins/ok/methods", big)
		}},
		{"disabledDevice", map[string]string{"notFound": "DeviceNotFound", "notOnline": "DeviceNotOnline"}, func(t *testing.T, h testHub) string {
			t.Helper()
			h.do(t, "PUT", "/devices/ok", `{"status":"disabled"}`, "If-Match", "*").want(t, 200)
			return now(t, h, "POST", "/twins/ok/methods", `{"methodName":"quiet"}`)
		}},
		{"garbageAnswer", map[string]string{"502": "InvalidResponseWhileProxying", "504": "GatewayTimeout"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return now(t, h, "POST", "/twins/ok/methods", `{"methodName":"bad"}`)
		}},
		{"putMissingSection", map[string]string{"keep": `"desired":{"a":1,`, "clear": `"desired":{"$metadata"`}, func(t *testing.T, h testHub) string {
			t.Helper()
			h.do(t, "PATCH", "/twins/ok", `{"properties":{"desired":{"a":1}}}`).want(t, 200)
			return now(t, h, "PUT", "/twins/ok", `{"tags":{}}`)
		}},
		{"nullSection", map[string]string{"ignore": `"tags":{"a":1}`, "clear": `"tags":{}`}, func(t *testing.T, h testHub) string {
			t.Helper()
			h.do(t, "PATCH", "/twins/ok", `{"tags":{"a":1}}`).want(t, 200)
			return now(t, h, "PATCH", "/twins/ok", `{"tags":null}`)
		}},
		{"putNotice", map[string]string{"whole": `{"c":{"d":1},"$version":3}`, "nulls": `{"c":{"d":1,"x":null},"b":null,"$version":3}`}, func(t *testing.T, h testHub) string {
			t.Helper()
			h.do(t, "PUT", "/devices/mine", "{}").want(t, 200)
			h.do(t, "PATCH", "/twins/mine", `{"properties":{"desired":{"b":1,"c":{"x":1}}}}`).want(t, 200)
			d := h.online(t, "mine")
			d.subscribe(0, devices.DesiredTopic+"#")
			h.do(t, "PUT", "/twins/mine", `{"properties":{"desired":{"c":{"d":1}}}}`).want(t, 200)
			_, body := d.message()
			return body
		}},
		{"noopPatch", map[string]string{"bump": `"etag":"AAAAAAAAAAM="`, "keep": `"etag":"AAAAAAAAAAI="`}, func(t *testing.T, h testHub) string {
			t.Helper()
			h.do(t, "PATCH", "/twins/ok", `{"tags":{"a":1}}`).want(t, 200)
			return now(t, h, "PATCH", "/twins/ok", `{"tags":{"a":1}}`)
		}},
		{"bearer", map[string]string{"refuse": "401", "accept": "200"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return code(h.do(t, "GET", "/twins/ok", "", "Authorization", "Bearer abc"))
		}},
		{"moduleCreated", map[string]string{"200": "200", "201": "201"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return code(h.do(t, "PUT", "/devices/ok/modules/new", "{}"))
		}},
		{"bulkErrorCode", map[string]string{"name": `"errorCode":"DeviceAlreadyExists"`, "number": `"errorCode":409001`}, func(t *testing.T, h testHub) string {
			t.Helper()
			return now(t, h, "POST", "/devices", `[{"id":"ok","importMode":"create"}]`)
		}},
		{"jobPermission", map[string]string{"either": "200 200", "serviceConnect": "200 401", "registryWrite": "401 200"}, func(t *testing.T, h testHub) string {
			t.Helper()
			var all []string
			for _, policy := range []string{"service", "registryReadWrite"} {
				all = append(all, code(h.do(t, "GET", "/jobs/v2/query", "", "Authorization", signedBy(t, h.Server, policy, "localhost", time.Hour))))
			}
			return strings.Join(all, " ")
		}},
		{"duplicateJob", map[string]string{"conflict": "JobAlreadyExists JobAlreadyExists", "repeat": "queued JobAlreadyExists"}, func(t *testing.T, h testHub) string {
			t.Helper()
			h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "quiet")).want(t, 200)
			again := h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "quiet")).body
			other := h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "other")).body
			return word(again) + " " + word(other)
		}},
		{"emptyCondition", map[string]string{"refuse": "ArgumentInvalid", "all": "completed"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return status(t, h, "a", methodJob("a", "", "quiet", `,"maxExecutionTimeInSeconds":1`))
		}},
		{"badCondition", map[string]string{"async": "failed", "sync": "ArgumentInvalid"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return status(t, h, "a", methodJob("a", "tags.a ==", "quiet"))
		}},
		{"zeroMatches", map[string]string{"completed": "completed", "failed": "failed"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return status(t, h, "a", methodJob("a", "deviceId = 'nobody'", "quiet"))
		}},
		{"jobWithFailures", map[string]string{"completed": "completed", "failed": "failed"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return status(t, h, "a", methodJob("a", "deviceId = 'away'", "quiet", `,"maxExecutionTimeInSeconds":1`))
		}},
		{"cancelRunning", map[string]string{"405": "405", "400": "400", "409": "409"}, func(t *testing.T, h testHub) string {
			t.Helper()
			status(t, h, "a", methodJob("a", "*", "hang"))
			return code(h.do(t, "POST", "/jobs/v2/a/cancel", ""))
		}},
		{"jobStatistics", map[string]string{"always": "true", "atEnd": "false"}, func(t *testing.T, h testHub) string {
			t.Helper()
			status(t, h, "a", methodJob("a", "*", "hang"))
			if h.job(t, "a")["deviceJobStatistics"] == nil {
				return "false"
			}
			return "true"
		}},
		{"jobTimeLimits", map[string]string{"none": "200 200", "strict": "400 400"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return code(h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "quiet", `,"maxExecutionTimeInSeconds":172801`))) + " " +
				code(h.do(t, "PUT", "/jobs/v2/b", methodJob("b", "*", "quiet", later(8*24*time.Hour))))
		}},
		{"jobLag", map[string]string{"none": "completed completed 1", "rows": "completed pending 1", "statistics": "completed completed 0", "status": "running completed 1"}, func(t *testing.T, h testHub) string {
			t.Helper()
			seen := status(t, h, "a", methodJob("a", "deviceId = 'ok'", "quiet"))
			return fmt.Sprint(seen, " ", firstRow(t, h)["status"], " ", at(t, h.job(t, "a"), "deviceJobStatistics", "succeededCount"))
		}},
		{"jobShapes", map[string]string{"plain": "[] [] pending true", "odd": "null null scheduled false"}, func(t *testing.T, h testHub) string {
			t.Helper()
			none := h.do(t, "GET", "/jobs/v2/query", "").body + " " + h.do(t, "POST", "/devices/query", `{"query":"SELECT * FROM devices.jobs"}`).body
			status(t, h, "a", methodJob("a", "deviceId = 'away'", "quiet"))
			row := firstRow(t, h)
			return fmt.Sprint(none, " ", row["status"], " ", strings.HasSuffix(fmt.Sprint(row["startTimeUtc"]), "Z"))
		}},
		{"jobBreaks", map[string]string{"never": "completed", "midway": "failed"}, func(t *testing.T, h testHub) string {
			t.Helper()
			return status(t, h, "a", twinJob("a", "*", `{"etag":"*","tags":{"a":1}}`))
		}},
	}
	seen := map[string]bool{"retryAfter": true, "scheduledCount": true} // have tests of their own
	for _, c := range cases {
		seen[c.name] = true
		for value, want := range c.want {
			t.Run(c.name+"="+value, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := hubWith(t, moods, Options{Behaviour: map[string]string{c.name: value}})
					if got := c.see(t, h); !strings.Contains(got, want) {
						t.Errorf("seen: %.200s; want %s in it", got, want)
					}
				})
			})
		}
	}
	for _, b := range core.Behaviours() {
		if !seen[b.Name] {
			t.Errorf("no test switches %s", b.Name)
		}
	}
}

// firstRow is the first row of devices.jobs.
func firstRow(t *testing.T, h testHub) map[string]any {
	t.Helper()
	rows, _ := h.pages(t, "SELECT * FROM devices.jobs")
	if len(rows) == 0 {
		t.Fatal("there are no rows")
	}
	return rows[0]
}

func code(a answer) string {
	return map[int]string{200: "200", 201: "201", 400: "400", 401: "401", 405: "405", 409: "409"}[a.status]
}

// word picks what tells an accepted job from a refused one.
func word(body string) string {
	for _, w := range []string{"queued", "JobAlreadyExists"} {
		if strings.Contains(body, w) {
			return w
		}
	}
	return body
}

func TestRetryAfter(t *testing.T) {
	fault := flaky + "  - fault: throttled\n    wait: 20s\n"
	for value, want := range map[string]string{"none": "", "header": "20"} {
		h := hubWith(t, fault, Options{Behaviour: map[string]string{"retryAfter": value}})
		a := h.do(t, "GET", "/twins/door-0001", "").want(t, 429)
		same(t, "Retry-After with "+value, a.header.Get("Retry-After"), want)
	}
}

func TestScheduledCount(t *testing.T) {
	for value, want := range map[string]int{"no": 200, "yes": 429} {
		h := hubWith(t, moods, Options{Tier: "S1", Behaviour: map[string]string{"scheduledCount": value}})
		later := `,"startTime":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`
		h.do(t, "PUT", "/jobs/v2/a", methodJob("a", "*", "quiet", later)).want(t, 200)
		h.do(t, "PUT", "/jobs/v2/b", methodJob("b", "*", "quiet", later)).want(t, want)
	}
}
