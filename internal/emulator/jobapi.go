package emulator

import (
	"net/url"
	"strconv"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/jobs"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/wire"
	"iothub-runner/internal/twinquery"
)

// This file serves the API of jobs, and the rows of devices.jobs.

// putJob serves PUT /jobs/v2/{id}.
func (x *exchange) putJob() *refuse.Error {
	body, refusal := x.jsonBody(maxTwinBody)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	j, refusal := x.schedules.ParseJob(x.route.job, body, false)
	if refusal != nil {
		return refusal
	}
	if j, refusal = x.schedules.Schedule(j); refusal != nil {
		return refusal
	}
	b := wire.String(append(x.buf[:0], `{"jobId":`...), j.ID)
	b = wire.String(append(b, `,"type":`...), j.Kind)
	b = wire.String(append(b, `,"status":`...), jobs.Queued)
	x.buf = append(b, '}')
	return x.done(200)
}

// getJob serves GET /jobs/v2/{id}.
func (x *exchange) getJob() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	j, refusal := x.schedules.Find(x.route.job)
	if refusal != nil {
		return refusal
	}
	x.buf = j.Append(x.buf[:0])
	return x.done(200)
}

// getOldJob serves GET /jobs/{id}, of import and export jobs. There are none.
func (x *exchange) getOldJob() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	return jobs.ErrJobNotFound(x.route.job)
}

// listOldJobs serves GET /jobs, which some clients ask beside the other list.
func (x *exchange) listOldJobs() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	x.buf = append(x.buf[:0], "[]"...)
	return x.done(200)
}

// cancelJob serves POST /jobs/v2/{id}/cancel. A job that runs cannot be
// cancelled.
func (x *exchange) cancelJob() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	j, refusal := x.schedules.Find(x.route.job)
	if refusal != nil {
		return refusal
	}
	if status, ok := j.Cancel(); !ok {
		code, _ := strconv.Atoi(x.Chosen[core.KnobCancelRunning])
		return &refuse.Error{Status: code, Name: "OperationNotAllowedInCurrentState", Text: "The job cannot be cancelled in '" + jobs.Titled(status) + "' status."}
	}
	x.buf = j.Append(x.buf[:0])
	return x.done(200)
}

// listJobs serves GET /jobs/v2/query.
func (x *exchange) listJobs() *refuse.Error {
	values, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return refuse.Argument("The query parameters cannot be read.")
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
			return refuse.Argument("The continuation token does not belong to the query.")
		}
		at = opened
	}
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	x.buf = append(x.buf[:0], '[')
	rows := 0
	for _, j := range x.schedules.Since(at.slot) {
		if !isJob(j, kind, status) {
			continue
		}
		if rows == size {
			at.slot = j.Order
			x.w.Header()["X-Ms-Continuation"] = []string{x.seal(at)}
			break
		}
		if rows > 0 {
			x.buf = append(x.buf, ',')
		}
		x.buf = j.Append(x.buf)
		rows++
	}
	x.buf = append(x.buf, ']')
	if rows == 0 && x.Does(core.KnobJobShapes, "odd") {
		x.buf = append(x.buf[:0], "null"...)
	}
	x.w.Header()["X-Ms-Item-Type"] = []string{"JobResponse"}
	return x.done(200)
}

// isJob tells whether a job is of a type and has a status; empty is any.
func isJob(j *jobs.Job, kind, status string) bool {
	return (kind == "" || is(kind, j.Kind)) && (status == "" || is(status, j.State()))
}

// jobRowPage appends the rows of one page of devices.jobs. A cursor's slot is
// the order of a job, its inner the place of a row.
func (x *exchange) jobRowPage(q *twinquery.Query, at cursor, size int) (cursor, bool) {
	rows := 0
	for _, j := range x.schedules.Since(at.slot) {
		if j.Order != at.slot {
			at.slot, at.inner = j.Order, 0
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
func (x *exchange) rowsOf(j *jobs.Job, q *twinquery.Query, at cursor, size, rows int) (cursor, int, bool) {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	for ; at.inner < uint64(len(j.Rows)); at.inner++ {
		doc := jobs.RowDoc{Job: j, Row: &j.Rows[at.inner]}
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
