package emulator

import "iothub-runner/internal/twinquery"

func (x *exchange) listJobs() *apiError {
	x.buf = append(x.buf[:0], "[]"...)
	return x.done(200)
}

func (x *exchange) getJob() *apiError {
	return &apiError{status: 404, code: 404002, name: "JobNotFound", text: x.route.job}
}

func (x *exchange) cancelJob() *apiError { return x.getJob() }
func (x *exchange) putJob() *apiError    { return errNotEmulated("Scheduling jobs") }

func (x *exchange) jobRowPage(_ *twinquery.Query, at cursor, _ int) (cursor, bool) { return at, false }
