package jobs

import (
	"strconv"

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
			return twinquery.StringValue(d.Row.state.String())
		case "jobType":
			return twinquery.StringValue(d.Job.Kind)
		}
	}
	if d.whole == "" {
		d.whole = string(d.Append(nil))
	}
	return twinquery.LookupJSON(d.whole, path)
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
	dst = wire.String(append(dst, `,"status":`...), r.state.String())
	dst = appendJobTime(dst, `,"startTimeUtc":"`, j.start)
	// Not when the row ended but when it must have: what captures show.
	dst = appendJobTime(dst, `,"endTimeUtc":"`, j.deadline())
	dst = appendJobTime(dst, `,"createdDateTimeUtc":"`, j.created)
	dst = append(wire.Time(append(dst, `,"lastUpdatedDateTimeUtc":"`...), r.updated), '"')
	dst = append(dst, `,"outcome":{`...)
	if j.Kind == jobMethod && r.state == rowCompleted {
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
	if r.refused != nil {
		dst = wire.String(append(dst, `,"error":{"code":`...), r.refused.Name)
		dst = wire.String(append(dst, `,"description":`...), r.refused.Text)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
