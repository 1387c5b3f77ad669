package emulator

import (
	"strconv"

	"iothub-runner/internal/twinquery"
)

// This file follows "Query jobs": the rows of devices.jobs.

// jobRowPage appends the rows of one page of devices.jobs. A cursor's slot is
// the order of a job, its inner the place of a row.
func (x *exchange) jobRowPage(q *twinquery.Query, at cursor, size int) (cursor, bool) {
	rows := 0
	for _, j := range x.schedules.since(at.slot) {
		if j.order != at.slot {
			at.slot, at.inner = j.order, 0
		}
		var full bool
		at, rows, full = x.rowsOf(j, q, at, size, rows)
		if full {
			return at, q.Top == 0 || at.given < uint64(q.Top) //nolint:gosec // positive
		}
	}
	return at, false
}

// rowsOf appends the matching rows of one job. It says whether the page, or
// the query, is full.
func (x *exchange) rowsOf(j *job, q *twinquery.Query, at cursor, size, rows int) (cursor, int, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ; at.inner < uint64(len(j.rows)); at.inner++ {
		doc := jobDoc{job: j, row: &j.rows[at.inner]}
		if !q.Match(&doc) {
			continue
		}
		if rows == size || q.Top > 0 && at.given >= uint64(q.Top) { //nolint:gosec // positive
			return at, rows, true
		}
		if rows > 0 {
			x.buf = append(x.buf, ',')
		}
		x.buf = q.AppendRow(x.buf, &doc, x.keyRule())
		rows++
		at.given++
	}
	return at, rows, false
}

// jobDoc is a row as a query looks at it. The job's lock is held.
type jobDoc struct {
	job   *job
	row   *jobRow
	whole string
}

// Lookup returns the value at a path, as [twinquery.Doc] says.
func (d *jobDoc) Lookup(path []string) twinquery.Value {
	if len(path) == 1 {
		switch path[0] {
		case "jobId":
			return twinquery.StringValue(d.job.id)
		case "deviceId":
			return twinquery.StringValue(d.job.deviceOf(d.row))
		case "status":
			return twinquery.StringValue(d.row.state.String())
		case "jobType":
			return twinquery.StringValue(d.job.kind)
		}
	}
	if d.whole == "" {
		d.whole = string(d.append(nil))
	}
	return twinquery.LookupJSON(d.whole, path)
}

func (d *jobDoc) append(dst []byte) []byte {
	j, r := d.job, d.row
	dst = appendString(append(dst, `{"deviceId":`...), j.deviceOf(r))
	if r.module != "" {
		dst = appendString(append(dst, `,"moduleId":`...), r.module)
	}
	dst = appendString(append(dst, `,"jobId":`...), j.id)
	dst = appendString(append(dst, `,"jobType":`...), j.kind)
	dst = appendString(append(dst, `,"status":`...), r.state.String())
	dst = appendJobTime(dst, `,"startTimeUtc":"`, j.start)
	// Not when the row ended but when it must have: what captures show.
	dst = appendJobTime(dst, `,"endTimeUtc":"`, j.deadline())
	dst = appendJobTime(dst, `,"createdDateTimeUtc":"`, j.created)
	dst = append(appendTime(append(dst, `,"lastUpdatedDateTimeUtc":"`...), r.updated), '"')
	dst = append(dst, `,"outcome":{`...)
	if j.kind == jobMethod && r.state == rowCompleted {
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
		dst = appendString(append(dst, `,"error":{"code":`...), r.refused.name)
		dst = appendString(append(dst, `,"description":`...), r.refused.text)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
