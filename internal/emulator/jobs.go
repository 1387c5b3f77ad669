package emulator

import "iothub-runner/internal/twinquery"

func (x *exchange) jobs() *apiError {
	switch x.route.op {
	case opListJobs, opListOldJobs:
		x.buf = append(x.buf[:0], "[]"...)
		return x.done(200)
	case opGetJob, opGetOldJob, opCancelJob:
		return &apiError{status: 404, code: 404002, name: "JobNotFound", text: x.route.job}
	}
	return errNotEmulated("Scheduling jobs")
}

func (x *exchange) jobRowPage(_ *twinquery.Query, at cursor, _ int) (cursor, bool) { return at, false }
