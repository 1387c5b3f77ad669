package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// jobTime is how long a hub may take to notice a job and to end it.
const jobTime = 3 * time.Minute

// hubJob is a job that a check made.
type hubJob struct {
	id   string
	p    *probe
	put  wire.Answer
	path string
}

// twinPatch and methodCall are what most jobs do.
const (
	twinPatch  = `,"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"probe":1}}`
	methodCall = `,"type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","responseTimeoutInSeconds":10}`
)

// job puts a job and cancels it in the end, if that is still possible.
func (p *probe) job(condition string, rest ...string) *hubJob {
	return p.jobAs(p.hub, condition, rest...)
}

func (p *probe) jobAs(hub *wire.Hub, condition string, rest ...string) *hubJob {
	j := &hubJob{id: p.newID(), p: p}
	j.path = "/jobs/v2/" + j.id
	quoted, err := json.Marshal(condition)
	if err != nil {
		p.fail(err)
	}
	j.put = p.tryAs(hub, "PUT", j.path, `{"jobId":"`+j.id+`","queryCondition":`+string(quoted)+strings.Join(rest, "")+`}`)
	if j.put.Status == 200 {
		p.undo = append(p.undo, func(ctx context.Context) error {
			_, err := p.hub.Do(ctx, wire.Request{Verb: "POST", Path: j.path + "/cancel"})
			return err
		})
	}
	return j
}

// within is the time that a job has.
func within(d time.Duration) string {
	return fmt.Sprintf(`,"maxExecutionTimeInSeconds":%d`, int(d.Seconds()))
}

// starting is when a job is to start.
func starting(in time.Duration) string {
	return `,"startTime":"` + time.Now().Add(in).UTC().Format(time.RFC3339) + `"`
}

// accepted ends the check if the hub did not take the job.
func (j *hubJob) accepted() *hubJob {
	if j.p.err == nil && j.put.Status != 200 {
		j.p.fail(fmt.Errorf("put job: answered %d %s", j.put.Status, j.put.Body))
	}
	return j
}

func (j *hubJob) doc() map[string]any { return j.p.must("GET", j.path, "").Doc() }

// becomes waits for one of some states and returns the job then.
func (j *hubJob) becomes(states ...string) map[string]any {
	var doc map[string]any
	j.p.until("job "+strings.Join(states, " or "), jobTime, func() bool {
		doc = j.doc()
		return slices.Contains(states, at(doc, "status"))
	})
	return doc
}

func (j *hubJob) ends() map[string]any {
	return j.becomes("completed", "failed", "cancelled")
}

// row waits for the row of the one device of a job.
func (j *hubJob) row() map[string]any {
	rows := j.p.rowsOf("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '" + j.id + "'")
	if len(rows) == 0 {
		return nil
	}
	return rows[0]
}

// stuck is a job that runs for a minute: its one device is never online.
func (p *probe) stuck() *hubJob {
	d := p.indexed(`{"probe":0}`)
	j := p.job(d.condition(), methodCall, within(time.Minute)).accepted()
	j.becomes("running")
	return j
}

func jobAssumptions() []Assumption {
	return slices.Concat(scheduleAssumptions(), refusedJobAssumptions(), runAssumptions())
}

func scheduleAssumptions() []Assumption {
	same := func(values ...string) map[string]string {
		m := map[string]string{}
		for _, v := range values {
			m[v] = v
		}
		return m
	}
	return []Assumption{
		{
			ID: "A060", Says: "A job id that is in use is refused, even for the same job", Source: "unconfirmed", Expect: "conflict", Switch: "duplicateJob", Values: same("conflict", "repeat"), observe: func(p *probe) string {
				rest := []string{twinPatch, starting(time.Hour), within(time.Minute)}
				first := p.job("deviceId = 'none'", rest...).accepted()
				quoted := strings.Join(rest, "")
				again := p.try("PUT", first.path, `{"jobId":"`+first.id+`","queryCondition":"deviceId = 'none'"`+quoted+`}`)
				return either(again.Status == 200, "repeat", either(again.Status == 409, "conflict", named(again)))
			},
		},
		{
			ID: "A061", Says: "An empty condition is refused", Source: "unconfirmed; the documents require one", Expect: "refuse", Switch: "emptyCondition", Values: same("refuse", "all"), observe: func(p *probe) string {
				// An hour ahead, and cancelled at once: it could be meant for every device.
				return either(p.job("", twinPatch, starting(time.Hour), within(time.Minute)).put.Status == 200, "all", "refuse")
			},
		},
		{
			ID: "A062", Says: "A condition that cannot be read is found out after the job was taken", Source: "issue 40 of the C# SDK, of 2017", Expect: "async", Switch: "badCondition", Values: same("async", "sync"), observe: func(p *probe) string {
				j := p.job("deviceId === (", twinPatch, within(time.Minute))
				if j.put.Status != 200 {
					return "sync"
				}
				return either(at(j.ends(), "status") == "failed", "async", "it ended well")
			},
		},
		{
			ID: "A063", Says: "How long a job may take, and how far ahead it may start, has no limit below months", Source: "unconfirmed; 48 hours were seen", Expect: "none", Switch: "jobTimeLimits", Values: same("none", "strict"), observe: func(p *probe) string {
				far := p.job("deviceId = 'none'", twinPatch, starting(30*24*time.Hour), within(time.Minute)).put.Status
				long := p.job("deviceId = 'none'", twinPatch, starting(time.Hour), within(60*24*time.Hour)).put.Status
				return either(far == 200 && long == 200, "none", either(far == 400 && long == 400, "strict", fmt.Sprintf("far ahead %d, long %d", far, long)))
			},
		},
		{
			ID: "A064", Says: "Jobs that start later do not count against the number of active jobs", Source: "unconfirmed", Expect: "no", Switch: "scheduledCount", Values: same("no", "yes"), Tier: "S1", observe: observeScheduledCount,
		},
		{
			ID: "A065", Says: "ServiceConnect is enough for jobs", Source: "unconfirmed; the documents' samples use a policy that has everything", Expect: "yes",
			Switch: "jobPermission", Values: map[string]string{"either": "yes", "serviceConnect": "yes", "registryWrite": "no"}, observe: func(p *probe) string {
				if p.serviceOnly == nil {
					p.fail(fmt.Errorf("set %s to the connection string of a policy with ServiceConnect alone", serviceOnlyVar))
					return ""
				}
				put := p.jobAs(p.serviceOnly, "deviceId = 'none'", twinPatch, starting(time.Hour), within(time.Minute)).put
				return either(put.Status == 200, "yes", either(put.Status == 401, "no", named(put)))
			},
		},
	}
}

func refusedJobAssumptions() []Assumption {
	return []Assumption{
		{ID: "A066", Says: "A condition above 8192 characters is refused with 412", Source: "issue 1680 of the C# SDK", Expect: "412 PreconditionFailed", observe: func(p *probe) string {
			return named(p.job("deviceId = '"+strings.Repeat("x", 8192)+"'", twinPatch, starting(time.Hour), within(time.Minute)).put)
		}},
		{ID: "A067", Says: "A startTime of null is refused", Source: "issue 847 of the Node SDK", Expect: "400", observe: func(p *probe) string {
			return fmt.Sprint(p.job("deviceId = 'none'", twinPatch, `,"startTime":null`, within(time.Minute)).put.Status)
		}},
		{ID: "A068", Says: "A twin job whose patch has no etag * is refused", Source: "az client", Expect: "400", observe: func(p *probe) string {
			return fmt.Sprint(p.job("deviceId = 'none'", `,"type":"scheduleUpdateTwin","updateTwin":{"tags":{"a":1}}`, within(time.Minute)).put.Status)
		}},
		{ID: "A069", Says: "An unknown type of job is refused as GenericBadRequest", Source: "issue 29484 of the documents", Expect: "400 GenericBadRequest", observe: func(p *probe) string {
			return named(p.job("deviceId = 'none'", `,"type":"scheduleTwinUpdate","updateTwin":{"etag":"*","tags":{"a":1}}`, within(time.Minute)).put)
		}},
		{ID: "A070", Says: "A job that was not started can be cancelled, and is then called cancelled", Source: "Node and az clients", Expect: "200 cancelled", observe: func(p *probe) string {
			j := p.job("deviceId = 'none'", twinPatch, starting(time.Hour), within(time.Minute)).accepted()
			j.becomes("scheduled")
			a := p.try("POST", j.path+"/cancel", "")
			return fmt.Sprint(a.Status, " ", at(j.ends(), "status"))
		}},
		{ID: "A071", Says: "A job that nobody made is not found", Source: "C# client's next version", Expect: "404 JobNotFound", observe: func(p *probe) string {
			return named(p.try("GET", "/jobs/v2/"+p.newID(), ""))
		}},
	}
}

// mostActiveJobs is what the largest tier runs at a time.
const mostActiveJobs = 10

func observeScheduledCount(p *probe) string {
	for range mostActiveJobs + 1 {
		j := &hubJob{id: p.newID(), p: p}
		j.path = "/jobs/v2/" + j.id
		put := p.once(p.hub, "PUT", j.path, `{"jobId":"`+j.id+`","queryCondition":"deviceId = 'none'"`+twinPatch+starting(time.Hour)+within(time.Minute)+`}`)
		switch put.Status {
		case 200:
			p.undo = append(p.undo, func(ctx context.Context) error {
				_, err := p.hub.Do(ctx, wire.Request{Verb: "POST", Path: j.path + "/cancel"})
				return err
			})
		case 429:
			return either(put.Name() == "ThrottlingMaxActiveJobCountExceeded", "yes", named(put))
		default:
			return named(put)
		}
	}
	return "no"
}

func runAssumptions() []Assumption {
	return []Assumption{
		{
			ID: "A080", Says: "A job whose condition matches nothing ends as completed", Source: "unconfirmed", Expect: "completed",
			Switch: "zeroMatches", Values: map[string]string{"completed": "completed", "failed": "failed"}, observe: func(p *probe) string {
				return at(p.job("deviceId = 'none'", twinPatch, within(time.Minute)).accepted().ends(), "status")
			},
		},
		{
			ID: "A081", Says: "A job of which a device failed ends as completed", Source: "issue 42 of a Microsoft sample; the rule is unconfirmed", Expect: "completed",
			Switch: "jobWithFailures", Values: map[string]string{"completed": "completed", "failed": "failed"}, observe: func(p *probe) string {
				return at(p.stuck().ends(), "status")
			},
		},
		{
			ID: "A082", Says: "Cancelling a job that runs is refused with 405", Source: "the error's group in the swagger; unconfirmed", Expect: "405 OperationNotAllowedInCurrentState",
			Switch: "cancelRunning", Values: map[string]string{
				"405": "405 OperationNotAllowedInCurrentState", "400": "400 OperationNotAllowedInCurrentState", "409": "409 OperationNotAllowedInCurrentState",
			}, observe: func(p *probe) string { return named(p.try("POST", p.stuck().path+"/cancel", "")) },
		},
		{
			ID: "A083", Says: "The statistics show while a job runs", Source: "unconfirmed; in 2016 only at its end", Expect: "shown",
			Switch: "jobStatistics", Values: map[string]string{"always": "shown", "atEnd": "missing"}, observe: func(p *probe) string {
				return either(at(p.stuck().doc(), "deviceJobStatistics", "deviceCount") == "1", "shown", "missing")
			},
		},
		{ID: "A084", Says: "The endTime of a job that runs is of the year 9999", Source: "issue 467 of the C# SDK", Expect: "9999", observe: func(p *probe) string {
			end := at(p.stuck().doc(), "endTime")
			if len(end) < 4 {
				return "missing"
			}
			return end[:4]
		}},
		{ID: "A085", Says: "The row of a device that was never online fails with JobRunPreconditionFailed at the deadline", Source: "capture of the Java SDK", Expect: "failed JobRunPreconditionFailed", observe: func(p *probe) string {
			j := p.stuck()
			j.ends()
			row := j.row()
			return at(row, "status") + " " + at(row, "error", "code")
		}},
		{ID: "A086", Says: "The endTimeUtc of a row is its deadline, though it ended earlier", Source: "inferred from captures of the Java SDK", Expect: "deadline", observe: func(p *probe) string {
			d := p.indexed(`{"probe":0}`)
			j := p.job(d.condition(), twinPatch, within(10*time.Minute)).accepted()
			j.ends()
			row := j.row()
			took := wireTime(at(row, "endTimeUtc")).Sub(wireTime(at(row, "startTimeUtc")))
			return either(took > 9*time.Minute && took < 11*time.Minute, "deadline", took.String())
		}},
		{ID: "A087", Says: "A device's own status never makes its row fail", Source: "capture of the Java SDK", Expect: "completed 500, 1 succeeded", observe: func(p *probe) string {
			d := p.indexed(`{"probe":0}`)
			c := p.connect(d, methodCalls+"#")
			j := p.job(d.condition(), methodCall, within(time.Minute)).accepted()
			c.answer(c.next(), 500, `"no"`)
			done := j.ends()
			row := j.row()
			return fmt.Sprintf("%s %s, %s succeeded", at(row, "status"), at(row, "outcome", "deviceMethodResponse", "status"), at(done, "deviceJobStatistics", "succeededCount"))
		}},
		{ID: "A088", Says: "A device that connects while the job runs still gets its call", Source: "documents on disconnected devices", Expect: "completed", observe: func(p *probe) string {
			d := p.indexed(`{"probe":0}`)
			j := p.job(d.condition(), methodCall, within(10*time.Minute)).accepted()
			j.becomes("running")
			c := p.connect(d, methodCalls+"#")
			p.wait(2 * time.Second)
			c.answer(c.next(), 200, "")
			j.ends()
			return at(j.row(), "status")
		}},
	}
}

// wireTime reads a time with or without zone.
func wireTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339, strings.TrimSuffix(text, "Z")+"Z")
	if err != nil {
		return time.Time{}
	}
	return t
}
