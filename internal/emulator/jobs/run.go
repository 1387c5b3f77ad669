package jobs

import (
	"sync"
	"time"

	"iothub-runner/internal/emulator/clock"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/twinquery"
)

// This file follows "Schedule jobs on multiple devices": how a job goes
// through its devices. Everything a job does is a call of the clock's, so that
// a test that moves the clock by an hour sees an hour's work done.

// Job is a scheduled job and what came of it.
type Job struct {
	ID, Kind, condition string
	Order               uint64 // of creation, from 1
	body                string // as it was sent
	created, start      time.Time
	budget              time.Duration
	call                core.MethodCall
	methodRaw           string
	twinRaw             string
	query               *twinquery.Query
	queryErr            error
	server              *Schedules

	Mu      sync.Mutex
	status  string         // guarded by mu, as all that follows
	failure string         // why it failed
	ended   time.Time      // zero until it has
	Write   twindoc.Write  // see readWrite
	Rows    []Row          // nil until the devices are known
	counts  [rowStates]int // rows by state
	next    int            // the first row that was never tried
	waiting []int          // rows whose devices are offline
	flying  int            // calls that are under way
	tick    *clock.Sleeper // the next step
	polled  time.Time      // when the waiting rows were last looked at
}

// rowState is where a device of a job is.
type rowState uint8

const (
	rowPending rowState = iota
	rowRunning
	rowCompleted
	rowFailed
	rowCanceled
	rowStates // how many there are
)

// String returns the hub's word. A job is cancelled, a row is canceled.
func (r rowState) String() string {
	switch r {
	case rowPending:
		return "pending"
	case rowRunning:
		return "running"
	case rowCompleted:
		return "completed"
	case rowFailed:
		return "failed"
	case rowCanceled:
		return "canceled"
	case rowStates:
	}
	return "scheduled"
}

// Row is one device of a job.
type Row struct {
	device  string // only of devices that are not the fleet's
	module  string
	slot    int
	updated int64 // Unix nanoseconds
	answer  []byte
	refused *refuse.Error
	lost    *refuse.Error // what becomes of the answer when the operation had its effect
	status  int32         // that the device answered
	state   rowState
}

const (
	// jobStride is how many devices one step takes, so that a job over a
	// million does not hold up whoever moves the clock.
	jobStride = 2048
	// MaxFlying is how many calls of one job may be under way.
	MaxFlying = 8192
	// jobPoll is how often a job looks whether offline devices are back.
	jobPoll = time.Second
)

// begin starts the run: the devices are those that match now.
func (j *Job) begin() {
	s := j.server
	s.Purge(s.Clock.Now())
	j.Mu.Lock()
	defer j.Mu.Unlock()
	if j.status == jobCancelled {
		return
	}
	if j.queryErr != nil {
		j.failure = "The query condition cannot be read: " + j.queryErr.Error()
		j.end(jobFailed)
		return
	}
	j.status = jobRunning
	j.readWrite()
	j.Rows = s.cohort(j.query)
	j.counts[rowPending] = len(j.Rows)
	j.noteWhole()
	if len(j.Rows) == 0 {
		j.end(s.Chosen[core.KnobZeroMatches])
		return
	}
	j.Step()
}

// cohort lists the devices that a condition matches, by the query index.
func (s *Schedules) cohort(q *twinquery.Query) []Row {
	now := s.Clock.Now()
	rows := []Row{}
	walk := s.Store.Walk(q)
	for n, ok := walk.From(0); ok; n, ok = walk.From(n + 1) {
		d, there := s.Indexed(n, now)
		if !there {
			continue
		}
		for _, m := range s.Sources(q.Source, d, 0) {
			if doc := (core.TwinDoc{Hub: s.Hub, Subject: m}); !q.Match(&doc) {
				continue
			}
			row := Row{slot: n, module: m.ModuleID(), updated: now.UnixNano()}
			if n >= s.Store.FleetLen {
				row.device = m.ID
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func (j *Job) deviceOf(r *Row) string {
	if r.device != "" || r.slot >= j.server.Store.FleetLen {
		return r.device
	}
	return j.server.Store.Fleet.ID(r.slot)
}

func (j *Job) deadline() time.Time { return j.start.Add(j.budget) }

// advance is a step that the clock makes.
func (j *Job) advance() {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	j.tick = nil
	j.Step()
}

// Step does what is due: it starts operations as fast as the hub's limit
// allows, looks after the devices that were offline, ends what is out of time.
// It is called with mu held.
func (j *Job) Step() {
	if j.status != jobRunning {
		return
	}
	now := j.server.Clock.Now()
	if !now.Before(j.deadline()) {
		j.expire(now)
		return
	}
	if j.server.Does(core.KnobJobBreaks, "midway") && j.next > 0 && j.next >= len(j.Rows)/2 {
		j.failure = "The job has failed."
		j.end(jobFailed)
		return
	}
	j.poll(now)
	pace := &j.server.Throttles[core.ThrottleJobDevices] // of all jobs together
	started, most := 0, jobStride
	if j.server.Does(core.KnobJobBreaks, "midway") {
		most = max(1, len(j.Rows)/2)
	}
	for j.next < len(j.Rows) && started < most && j.flying < MaxFlying && pace.Take(now) {
		j.try(j.next, now)
		j.next++
		started++
	}
	j.finishIfDone()
	j.rest(now, started)
}

// rest arranges the next step.
func (j *Job) rest(now time.Time, started int) {
	if j.status != jobRunning {
		return
	}
	due := j.deadline()
	switch {
	case j.next < len(j.Rows) && j.flying < MaxFlying:
		turn := j.server.Throttles[core.ThrottleJobDevices].Turn()
		due = earlier(due, core.Later(turn, now))
		if started == 0 && !turn.After(now) {
			due = earlier(due, now.Add(time.Millisecond)) // a step that could do nothing does not spin
		}
	case j.next < len(j.Rows):
		due = earlier(due, now.Add(jobPoll))
	}
	if len(j.waiting) > 0 {
		due = earlier(due, j.polled.Add(jobPoll))
	}
	if j.tick != nil {
		if !due.Before(j.tick.Due) {
			return
		}
		j.server.Clock.Stop(j.tick)
	}
	j.tick = j.server.Clock.At(due, j.advance)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// poll tries the devices again that were offline.
func (j *Job) poll(now time.Time) {
	if len(j.waiting) == 0 || now.Before(j.polled.Add(jobPoll)) {
		return
	}
	j.polled = now
	again := j.waiting
	j.waiting = nil
	for i, n := range again {
		if j.flying >= MaxFlying {
			j.waiting = append(j.waiting, again[i:]...)
			return
		}
		j.try(n, now)
	}
}

// try does the operation on one device, or finds that it is offline.
func (j *Job) try(n int, now time.Time) {
	r := &j.Rows[n]
	m, refusal := j.server.Store.Look(j.deviceOf(r), r.module)
	if refusal != nil {
		j.settle(n, core.MethodAnswer{}, refusal, now)
		return
	}
	if j.Kind == jobTwin {
		j.patch(n, m, now)
		return
	}
	l := j.server.Connected(m)
	if l == nil || !l.Ready() {
		if len(j.waiting) == 0 {
			j.polled = now
		}
		j.waiting = append(j.waiting, n)
		return
	}
	late, refusal := j.strike(n, fleet.OpMethod, m)
	if refusal != nil {
		j.settle(n, core.MethodAnswer{}, refusal, now)
		return
	}
	j.move(n, rowRunning, now)
	j.flying++
	if sim, ok := l.(core.Simulated); ok {
		j.simulate(n, sim, late, now)
		return
	}
	j.server.Serving.Go(func() {
		answer, err := l.Invoke(j.server.Life, j.call)
		j.land(n, answer, j.server.CallRefusal(err))
	})
}

// patch writes one twin.
func (j *Job) patch(n int, m store.Subject, now time.Time) {
	late, refusal := j.strike(n, fleet.OpTwinWrite, m)
	if refusal == nil {
		_, refusal = j.server.WriteTwin(j.deviceOf(&j.Rows[n]), j.Rows[n].module, j.Write)
	}
	if late <= 0 {
		j.settle(n, core.MethodAnswer{}, refusal, now)
		return
	}
	j.move(n, rowRunning, now)
	j.flying++
	j.server.Clock.At(now.Add(late), func() { j.land(n, core.MethodAnswer{}, refusal) })
}

// strike asks for the fault that meets the operation on one device, which is the
// same as for a call from outside. The refusal comes in place of the operation.
func (j *Job) strike(n int, op fleet.Operation, m store.Subject) (late time.Duration, refusal *refuse.Error) {
	f, struck := j.server.Fault(op, m.Device)
	if !struck {
		return 0, nil
	}
	switch f.Kind {
	case fleet.FaultBadGateway, fleet.FaultResetAfter:
		j.Rows[n].lost = core.ErrBadGateway()
	case fleet.FaultSlow:
		return f.Latency, nil
	case fleet.FaultResetBefore:
		f.Kind = fleet.FaultUnavailable // nobody sees the connection that was cut
	case fleet.FaultThrottled, fleet.FaultUnauthorized, fleet.FaultServerError, fleet.FaultUnavailable, fleet.FaultEmptyPage:
	}
	return 0, core.FaultRefusal(f, "Jobs")
}

// simulate asks a simulated device, whose answer is known at once though it
// may come later.
func (j *Job) simulate(n int, d core.Simulated, late time.Duration, now time.Time) {
	answer, after, err := d.React(j.call)
	after += late
	if after <= 0 {
		j.flying--
		j.settle(n, answer, j.server.CallRefusal(err), now)
		return
	}
	j.server.Clock.At(now.Add(after), func() { j.land(n, answer, j.server.CallRefusal(err)) })
}

// land takes what came of an operation that was under way.
func (j *Job) land(n int, answer core.MethodAnswer, refusal *refuse.Error) {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	if j.status != jobRunning {
		return
	}
	j.flying--
	now := j.server.Clock.Now()
	j.settle(n, answer, refusal, now)
	j.finishIfDone()
	if j.next < len(j.Rows) && j.flying == MaxFlying/2 {
		j.Step() // there was no room for more
	}
}

// settle ends a row. What the device answered never makes it a failure.
func (j *Job) settle(n int, answer core.MethodAnswer, refusal *refuse.Error, now time.Time) {
	r := &j.Rows[n]
	if refusal == nil {
		refusal = r.lost
	}
	if refusal != nil {
		r.refused = refusal
		j.move(n, rowFailed, now)
		return
	}
	r.answer, r.status = answer.Payload, int32(answer.Status) //nolint:gosec // devices answer small numbers
	j.move(n, rowCompleted, now)
}

func (j *Job) move(n int, state rowState, now time.Time) {
	r := &j.Rows[n]
	j.counts[r.state]--
	r.state, r.updated = state, now.UnixNano()
	j.counts[state]++
	j.noteRow(n)
}

// expire fails what is not done when the time is up: devices that never came
// online, and calls without an answer.
func (j *Job) expire(now time.Time) {
	never := &refuse.Error{Name: "JobRunPreconditionFailed", Text: "The job did not run within its period: the device was not online, or the end time was invalid."}
	mute := &refuse.Error{Name: "GatewayTimeout", Text: "Timed out waiting for the response from device."}
	for n := range j.Rows {
		switch j.Rows[n].state {
		case rowPending:
			j.settle(n, core.MethodAnswer{}, never, now)
		case rowRunning:
			j.settle(n, core.MethodAnswer{}, mute, now)
		case rowCompleted, rowFailed, rowCanceled, rowStates:
		}
	}
	j.finishIfDone()
}

func (j *Job) finishIfDone() {
	if j.status != jobRunning || j.counts[rowPending]+j.counts[rowRunning] > 0 {
		return
	}
	if j.counts[rowFailed] > 0 {
		j.end(j.server.Chosen[core.KnobJobWithFailures])
		return
	}
	j.end(jobCompleted)
}

// end puts the job into its last state, and lets the next one start.
func (j *Job) end(status string) {
	j.status, j.ended = status, j.server.Clock.Now()
	j.noteStatus()
	j.waiting, j.Write = nil, twindoc.Write{}
	if j.tick != nil {
		j.server.Clock.Stop(j.tick)
		j.tick = nil
	}
	j.server.Clock.At(j.ended, j.server.startWaiting)
}

// Cancel stops a job that has not started. It returns the state that it found.
func (j *Job) Cancel() (string, bool) {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	if j.status != jobScheduled && j.status != Queued {
		return j.status, false
	}
	was := j.status
	j.status, j.ended = jobCancelled, j.server.Clock.Now()
	j.noteStatus()
	return was, true
}

// State is the status that the API shows.
func (j *Job) State() string {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	return j.status
}
