package jobs

import (
	"bytes"
	"strconv"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/wire"
	"iothub-runner/internal/twinquery"
)

// This file follows "Query jobs": the rows of devices.jobs.

// RowDoc is a row as a query looks at it. The job's lock is held.
type RowDoc struct {
	Job   *Job
	Row   *Row
	whole string
}

// Lookup returns the value at a path, as [twinquery.Doc] says.
func (d *RowDoc) Lookup(path []string) twinquery.Value {
	if len(path) == 1 {
		switch path[0] {
		case "jobId":
			return twinquery.StringValue(d.Job.ID)
		case "deviceId":
			return twinquery.StringValue(d.Job.deviceOf(d.Row))
		case "status":
			return twinquery.StringValue(d.word())
		case "jobType":
			return twinquery.StringValue(d.Job.Kind)
		}
	}
	if d.whole == "" {
		d.whole = string(d.Append(nil))
	}
	return twinquery.LookupJSON(d.whole, path)
}

// state is what the query index shows of the row.
func (d *RowDoc) state() rowState {
	if d.Job.server.Does(core.KnobJobLag, "rows") {
		return d.Row.before(d.Job.server.Clock.Now().Add(-jobLag))
	}
	return d.Row.state
}

// before is the state of a row at a time: that of now if it has not changed since.
func (r *Row) before(t time.Time) rowState {
	if r.updated > t.UnixNano() {
		return rowPending
	}
	return r.state
}

// word is the hub's word for it.
func (d *RowDoc) word() string {
	state := d.state()
	if d.Job.server.Does(core.KnobJobShapes, "odd") {
		switch state {
		case rowPending:
			return rowStates.String()
		case rowCanceled:
			return jobCancelled
		case rowRunning, rowCompleted, rowFailed, rowStates:
		}
	}
	return state.String()
}

func appendRowTime(dst []byte, key string, nanos int64, zone bool) []byte {
	dst = wire.Time(append(dst, key...), nanos)
	if !zone {
		dst = bytes.TrimSuffix(dst, []byte{'Z'})
	}
	return append(dst, '"')
}

// Append writes the row.
func (d *RowDoc) Append(dst []byte) []byte {
	j, r := d.Job, d.Row
	dst = wire.String(append(dst, `{"deviceId":`...), j.deviceOf(r))
	if r.module != "" {
		dst = wire.String(append(dst, `,"moduleId":`...), r.module)
	}
	dst = wire.String(append(dst, `,"jobId":`...), j.ID)
	dst = wire.String(append(dst, `,"jobType":`...), j.Kind)
	state := d.state()
	dst = wire.String(append(dst, `,"status":`...), d.word())
	zone := j.server.Does(core.KnobJobShapes, "plain")
	dst = appendRowTime(dst, `,"startTimeUtc":"`, j.start.UnixNano(), zone)
	// Not when the row ended but when it must have: what captures show.
	dst = appendRowTime(dst, `,"endTimeUtc":"`, j.deadline().UnixNano(), zone)
	dst = appendRowTime(dst, `,"createdDateTimeUtc":"`, j.created.UnixNano(), zone)
	dst = appendRowTime(dst, `,"lastUpdatedDateTimeUtc":"`, r.updated, zone)
	dst = append(dst, `,"outcome":{`...)
	if j.Kind == jobMethod && state == rowCompleted {
		dst = strconv.AppendInt(append(dst, `"deviceMethodResponse":{"status":`...), int64(r.status), 10)
		dst = append(dst, `,"payload":`...)
		if r.answer == nil {
			dst = append(dst, "null"...)
		} else {
			dst = append(dst, r.answer...)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, '}')
	if r.refused != nil && state == rowFailed {
		dst = wire.String(append(dst, `,"error":{"code":`...), r.refused.Name)
		dst = wire.String(append(dst, `,"description":`...), r.refused.Text)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
