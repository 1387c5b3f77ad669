package fold

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// Job adds up the rows of one job.
type Job struct {
	Outcomes          map[spec.Outcome]int
	Targets           int
	Attempts, Retries int
	Latency           *hdrhistogram.Histogram // of attempts that were answered at once, in milliseconds
	Applied           *hdrhistogram.Histogram // how long devices took to report a change, in milliseconds
	First, Last       time.Time               // when the first row began, and the last ended
	Method            bool                    // a device answered a method
}

// NewJob returns a job without rows.
func NewJob() *Job {
	const days = 30 * 24 * 3600 * 1000
	return &Job{Outcomes: map[spec.Outcome]int{}, Latency: hdrhistogram.New(1, days, 2), Applied: hdrhistogram.New(1, days, 2)}
}

// Row is what a fold looks at of a row.
type Row struct {
	Outcome      spec.Outcome
	Began, Ended time.Time // zero for a target that nothing was done for
	Attempts     int
	Latency      time.Duration // of the one attempt that was answered; 0 if there were others
	Applied      time.Duration // from the accepted change until it was reported; 0 without confirm
	Target       string        // device, or device/module
	Hub          string
	Method       bool // the device answered a method
}

// Look reads a row as far as it takes to add it up.
func Look(text []byte) Row {
	found := gjson.GetManyBytes(text, "outcome", "startedAt", "endedAt", "attempts", "confirmedAt", "confirm.acceptedAt", "deviceId", "moduleId", "hub", "method.status")
	r := Row{Outcome: spec.Outcome(found[0].Str), Began: timeOf(found[1]), Ended: timeOf(found[2]), Attempts: int(found[3].Int()), Hub: found[8].Str, Method: found[9].Exists()}
	r.Target = spec.DeviceID{Device: found[6].Str, Module: found[7].Str}.String()
	accepted := timeOf(found[5])
	if confirmed := timeOf(found[4]); !confirmed.IsZero() && !accepted.IsZero() {
		r.Applied = max(1, confirmed.Sub(accepted))
	}
	if r.Attempts == 1 && (r.Outcome == spec.OutcomeSucceeded || r.Outcome == spec.OutcomeRejected) {
		end := r.Ended
		if !accepted.IsZero() {
			end = accepted
		}
		r.Latency = max(1, end.Sub(r.Began))
	}
	return r
}

func timeOf(v gjson.Result) time.Time {
	if v.Str == "" {
		return time.Time{}
	}
	t, _ := time.Parse(time.RFC3339Nano, v.Str) // what is no time is none
	return t
}

// Add takes in a row.
func (j *Job) Add(r *Row) {
	j.Targets++
	j.Outcomes[r.Outcome]++
	j.Method = j.Method || r.Method
	j.Attempts += r.Attempts
	j.Retries += max(0, r.Attempts-1)
	if r.Latency > 0 {
		_ = j.Latency.RecordValue(max(1, r.Latency.Milliseconds())) // beyond the range counts as nothing
	}
	if r.Applied > 0 {
		_ = j.Applied.RecordValue(max(1, r.Applied.Milliseconds()))
	}
	if !r.Began.IsZero() && (j.First.IsZero() || r.Began.Before(j.First)) {
		j.First = r.Began
	}
	if r.Ended.After(j.Last) {
		j.Last = r.Ended
	}
}

// Report writes the sums into the report of the job, and adds them to those of the run.
func (j *Job) Report(rep *spec.JobReport, run *spec.Summary) {
	rep.Targets, rep.Outcomes, rep.Attempts, rep.Retries = j.Targets, j.Outcomes, j.Attempts, j.Retries
	rep.LatencyMs = Latencies(j.Latency)
	run.Targets, run.Attempts, run.Retries = run.Targets+j.Targets, run.Attempts+j.Attempts, run.Retries+j.Retries
	for o, n := range j.Outcomes {
		run.Outcomes[o] += n
	}
}

// Latencies are those of a report.
func Latencies(h *hdrhistogram.Histogram) spec.Latency {
	return spec.Latency{P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), Max: h.Max()}
}
