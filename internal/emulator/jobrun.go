package emulator

import (
	"sync"
	"time"

	"iothub-runner/internal/twinquery"
)

// This file follows "Schedule jobs on multiple devices": how a job goes
// through its devices. Everything a job does is a call of the clock's, so that
// a test that moves the clock by an hour sees an hour's work done.

// job is a scheduled job and what came of it.
type job struct {
	id, kind, condition string
	order               uint64 // of creation, from 1
	body                string // as it was sent
	created, start      time.Time
	budget              time.Duration
	call                methodCall
	methodRaw           string
	twinRaw             string
	query               *twinquery.Query
	queryErr            error
	server              *Server

	mu      sync.Mutex
	status  string         // guarded by mu, as all that follows
	failure string         // why it failed
	ended   time.Time      // zero until it has
	write   twinWrite      // see readWrite
	rows    []jobRow       // nil until the devices are known
	counts  [rowStates]int // rows by state
	next    int            // the first row that was never tried
	waiting []int          // rows whose devices are offline
	flying  int            // calls that are under way
	tick    *sleeper       // the next step
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

// jobRow is one device of a job.
type jobRow struct {
	device  string // only of devices that are not the fleet's
	module  string
	slot    int
	updated int64 // Unix nanoseconds
	answer  []byte
	refused *apiError
	status  int32 // that the device answered
	state   rowState
}

const (
	// jobStride is how many devices one step takes, so that a job over a
	// million does not hold up whoever moves the clock.
	jobStride = 2048
	// maxFlying is how many calls of one job may be under way.
	maxFlying = 8192
	// jobPoll is how often a job looks whether offline devices are back.
	jobPoll = time.Second
)

// begin starts the run: the devices are those that match now.
func (j *job) begin() {
	s := j.server
	s.schedules.purge(s.clock.now())
	j.mu.Lock()
	defer j.mu.Unlock()
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
	j.rows = s.cohort(j.query)
	j.counts[rowPending] = len(j.rows)
	j.noteWhole()
	if len(j.rows) == 0 {
		j.end(s.chosen[knobZeroMatches])
		return
	}
	j.step()
}

// cohort lists the devices that a condition matches, by the query index.
func (s *Server) cohort(q *twinquery.Query) []jobRow {
	now := s.clock.now()
	rows := []jobRow{}
	walk := s.store.walk(q)
	for n, ok := walk.from(0); ok; n, ok = walk.from(n + 1) {
		d, there := s.indexed(n, now)
		if !there {
			continue
		}
		for _, m := range s.sources(q.Source, d, 0) {
			if doc := (twinDoc{server: s, subject: m}); !q.Match(&doc) {
				continue
			}
			row := jobRow{slot: n, module: m.moduleID(), updated: now.UnixNano()}
			if n >= s.store.fleetLen {
				row.device = m.id
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func (j *job) deviceOf(r *jobRow) string {
	if r.device != "" || r.slot >= j.server.store.fleetLen {
		return r.device
	}
	return j.server.store.fleet.ID(r.slot)
}

func (j *job) deadline() time.Time { return j.start.Add(j.budget) }

// advance is a step that the clock makes.
func (j *job) advance() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tick = nil
	j.step()
}

// step does what is due: it starts operations as fast as the hub's limit
// allows, looks after the devices that were offline, ends what is out of time.
// It is called with mu held.
func (j *job) step() {
	if j.status != jobRunning {
		return
	}
	now := j.server.clock.now()
	if !now.Before(j.deadline()) {
		j.expire(now)
		return
	}
	j.poll(now)
	pace := &j.server.throttles[throttleJobDevices] // of all jobs together
	started := 0
	for j.next < len(j.rows) && started < jobStride && j.flying < maxFlying && pace.take(now) {
		j.try(j.next, now)
		j.next++
		started++
	}
	j.finishIfDone()
	j.rest(now, started)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rest arranges the next step.
func (j *job) rest(now time.Time, started int) {
	if j.status != jobRunning {
		return
	}
	due := j.deadline()
	switch {
	case j.next < len(j.rows) && j.flying < maxFlying:
		turn := j.server.throttles[throttleJobDevices].turn()
		due = earlier(due, later(turn, now))
		if started == 0 && !turn.After(now) {
			due = earlier(due, now.Add(time.Millisecond)) // a step that could do nothing does not spin
		}
	case j.next < len(j.rows):
		due = earlier(due, now.Add(jobPoll))
	}
	if len(j.waiting) > 0 {
		due = earlier(due, j.polled.Add(jobPoll))
	}
	if j.tick != nil {
		if !due.Before(j.tick.due) {
			return
		}
		j.server.clock.stop(j.tick)
	}
	j.tick = j.server.clock.at(due, j.advance)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// poll tries the devices again that were offline.
func (j *job) poll(now time.Time) {
	if len(j.waiting) == 0 || now.Before(j.polled.Add(jobPoll)) {
		return
	}
	j.polled = now
	again := j.waiting
	j.waiting = nil
	for i, n := range again {
		if j.flying >= maxFlying {
			j.waiting = append(j.waiting, again[i:]...)
			return
		}
		j.try(n, now)
	}
}

// try does the operation on one device, or finds that it is offline.
func (j *job) try(n int, now time.Time) {
	r := &j.rows[n]
	if j.kind == jobTwin {
		_, refusal := j.server.writeTwin(j.deviceOf(r), r.module, j.write)
		j.settle(n, methodAnswer{}, refusal, now)
		return
	}
	m, refusal := j.server.store.look(j.deviceOf(r), r.module)
	if refusal != nil {
		j.settle(n, methodAnswer{}, refusal, now)
		return
	}
	l := j.server.connected(m)
	if l == nil || !l.ready() {
		if len(j.waiting) == 0 {
			j.polled = now
		}
		j.waiting = append(j.waiting, n)
		return
	}
	j.move(n, rowRunning, now)
	j.flying++
	if sim, ok := l.(simulated); ok {
		j.simulate(n, sim, now)
		return
	}
	j.server.serving.Go(func() {
		answer, err := l.invoke(j.server.life, j.call)
		j.land(n, answer, err)
	})
}

// simulate asks a simulated device, whose answer is known at once though it
// may come later.
func (j *job) simulate(n int, d simulated, now time.Time) {
	answer, after, err := d.react(j.call)
	if after <= 0 {
		j.flying--
		j.settle(n, answer, j.server.callRefusal(err), now)
		return
	}
	j.server.clock.at(now.Add(after), func() { j.land(n, answer, err) })
}

// land takes the answer of a call that was under way.
func (j *job) land(n int, answer methodAnswer, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.status != jobRunning {
		return
	}
	j.flying--
	now := j.server.clock.now()
	j.settle(n, answer, j.server.callRefusal(err), now)
	j.finishIfDone()
	if j.next < len(j.rows) && j.flying == maxFlying/2 {
		j.step() // there was no room for more
	}
}

// settle ends a row. What the device answered never makes it a failure.
func (j *job) settle(n int, answer methodAnswer, refusal *apiError, now time.Time) {
	r := &j.rows[n]
	if refusal != nil {
		r.refused = refusal
		j.move(n, rowFailed, now)
		return
	}
	r.answer, r.status = answer.payload, int32(answer.status) //nolint:gosec // devices answer small numbers
	j.move(n, rowCompleted, now)
}

func (j *job) move(n int, state rowState, now time.Time) {
	r := &j.rows[n]
	j.counts[r.state]--
	r.state, r.updated = state, now.UnixNano()
	j.counts[state]++
	j.noteRow(n)
}

// expire fails what is not done when the time is up: devices that never came
// online, and calls without an answer.
func (j *job) expire(now time.Time) {
	never := &apiError{name: "JobRunPreconditionFailed", text: "The job did not run within its period: the device was not online, or the end time was invalid."}
	mute := &apiError{name: "GatewayTimeout", text: "Timed out waiting for the response from device."}
	for n := range j.rows {
		switch j.rows[n].state {
		case rowPending:
			j.settle(n, methodAnswer{}, never, now)
		case rowRunning:
			j.settle(n, methodAnswer{}, mute, now)
		case rowCompleted, rowFailed, rowCanceled, rowStates:
		}
	}
	j.finishIfDone()
}

func (j *job) finishIfDone() {
	if j.status != jobRunning || j.counts[rowPending]+j.counts[rowRunning] > 0 {
		return
	}
	if j.counts[rowFailed] > 0 {
		j.end(j.server.chosen[knobJobWithFailures])
		return
	}
	j.end(jobCompleted)
}

// end puts the job into its last state, and lets the next one start.
func (j *job) end(status string) {
	j.status, j.ended = status, j.server.clock.now()
	j.noteStatus()
	j.waiting, j.write = nil, twinWrite{}
	if j.tick != nil {
		j.server.clock.stop(j.tick)
		j.tick = nil
	}
	j.server.clock.at(j.ended, j.server.schedules.startWaiting)
}

// cancel stops a job that has not started. It returns the state that it found.
func (j *job) cancel() (string, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.status != jobScheduled && j.status != jobQueued {
		return j.status, false
	}
	was := j.status
	j.status, j.ended = jobCancelled, j.server.clock.now()
	j.noteStatus()
	return was, true
}

func (j *job) state() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status
}
