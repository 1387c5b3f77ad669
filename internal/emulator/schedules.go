package emulator

import (
	"slices"
	"sync"
	"time"
)

// This file decides which jobs there are and which of them may run.

// schedules holds every job that the hub remembers.
type schedules struct {
	mu     sync.Mutex
	byID   map[string]*job // guarded by mu
	list   []*job          // in order of creation; guarded by mu
	next   uint64          // guarded by mu
	weight int             // of all jobs, after a purge; guarded by mu
	limit  int             // of active jobs; 0 for none
	server *Server
}

// schedule takes a job in, unless the hub has too much to do.
func (s *Server) schedule(j *job) (*job, *apiError) {
	all := &s.schedules
	now := s.clock.now()
	all.purge(now)
	all.mu.Lock()
	defer all.mu.Unlock()
	if old := all.byID[j.id]; old != nil {
		if s.does(knobDuplicateJob, "repeat") && old.sameRequest(j) {
			return old, nil
		}
		return nil, &apiError{status: 409, name: "JobAlreadyExists", text: "A job with ID '" + j.id + "' already exists."}
	}
	counts := !j.start.After(now) || s.does(knobScheduledCount, "yes")
	if all.limit > 0 && counts && all.activeLocked() >= all.limit {
		return nil, errTooManyJobs()
	}
	if all.weight+j.weight() > maxJobsWeight {
		return nil, &apiError{status: 403, code: 403003, name: "JobQuotaExceeded", text: "The hub holds as many jobs that have not ended as it can."}
	}
	all.addLocked(j)
	if j.start.After(now) {
		j.status = jobScheduled
	}
	if s.stateLog != nil {
		s.stateLog.note(stateLine{Job: j.keep()})
	}
	s.clock.at(later(j.start, now), all.startWaiting)
	return j, nil
}

func (a *schedules) add(j *job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addLocked(j)
}

func (a *schedules) addLocked(j *job) {
	a.next++
	j.order = a.next
	if a.byID == nil {
		a.byID = map[string]*job{}
	}
	a.byID[j.id] = j
	a.list = append(a.list, j)
	a.weight += j.weight()
}

// errTooManyJobs has an error inside its text, as the hub's gateway passes on
// what its jobs service answered.
func errTooManyJobs() *apiError {
	return &apiError{
		status: 429, code: 429004, name: "ThrottlingMaxActiveJobCountExceeded",
		text: `Error: 429 {"Message":"ErrorCode:ThrottlingMaxActiveJobCountExceeded;The hub runs as many jobs as its tier allows.","ExceptionMessage":""}`,
	}
}

// activeLocked counts the jobs that the limit is for.
func (a *schedules) activeLocked() int {
	n := 0
	for _, j := range a.list {
		switch j.state() {
		case jobQueued, jobRunning:
			n++
		case jobScheduled:
			if a.server.does(knobScheduledCount, "yes") {
				n++
			}
		}
	}
	return n
}

// startWaiting starts the jobs whose time has come, as far as the limit goes,
// oldest first. Those that must wait are queued.
func (a *schedules) startWaiting() {
	now := a.server.clock.now()
	for _, j := range a.claimDue(now) {
		j.begin()
	}
}

// claimDue takes the jobs whose time has come for their start. It decides about
// all of them at once, so that two who ask do not both find room for one.
func (a *schedules) claimDue(now time.Time) (claimed []*job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := 0
	var due []*job
	for _, j := range a.list {
		switch st := j.state(); {
		case st == jobRunning:
			running++
		case (st == jobScheduled || st == jobQueued) && !j.start.After(now):
			due = append(due, j)
		}
	}
	for _, j := range due {
		if a.limit > 0 && running >= a.limit {
			j.queue()
			continue
		}
		if j.claim() {
			running++
			claimed = append(claimed, j)
		}
	}
	return claimed
}

// claim takes a waiting job for its start; of two that try, one gets it.
func (j *job) claim() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.status != jobScheduled && j.status != jobQueued {
		return false
	}
	j.status = jobRunning
	return true
}

func (j *job) queue() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.status == jobScheduled {
		j.status = jobQueued
	}
}

// forget drops every job. Those that run stop where they are.
func (a *schedules) forget() {
	a.mu.Lock()
	dropped := a.list
	a.list, a.byID, a.weight = nil, nil, 0
	a.mu.Unlock()
	for _, j := range dropped {
		j.drop()
	}
}

func (j *job) drop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status = jobCancelled
	if j.tick != nil {
		j.server.clock.stop(j.tick)
		j.tick = nil
	}
}

func (a *schedules) find(id string) (*job, *apiError) {
	a.purge(a.server.clock.now())
	a.mu.Lock()
	defer a.mu.Unlock()
	if j := a.byID[id]; j != nil {
		return j, nil
	}
	return nil, errJobNotFound(id)
}

// since returns the jobs from an order on, oldest first.
func (a *schedules) since(order uint64) []*job {
	a.purge(a.server.clock.now())
	a.mu.Lock()
	defer a.mu.Unlock()
	i, _ := slices.BinarySearchFunc(a.list, order, func(j *job, n uint64) int {
		switch {
		case j.order < n:
			return -1
		case j.order > n:
			return 1
		}
		return 0
	})
	return slices.Clone(a.list[i:])
}

// maxRows bounds the rows of all jobs that are remembered. A hub keeps them
// for 30 days; this one forgets the oldest ended jobs earlier when it must.
const maxRows = 8_000_000

// maxJobsWeight bounds the texts of all jobs in the same way. One that comes when
// there is nothing to forget is refused.
const maxJobsWeight = 128 << 20

// purge forgets jobs that ended long ago.
func (a *schedules) purge(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rows, weight := 0, 0
	kept := a.list[:0]
	for i, j := range slices.Backward(a.list) {
		n, old := j.age(now)
		rows += n
		weight += j.weight()
		// Half of the weight is left to jobs that are still to come.
		if old || (n > 0 && rows > maxRows || weight > maxJobsWeight/2) && j.over() {
			delete(a.byID, j.id)
			a.list[i] = nil
			weight -= j.weight()
		}
	}
	a.weight = weight
	for _, j := range a.list {
		if j != nil {
			kept = append(kept, j)
		}
	}
	clear(a.list[len(kept):])
	a.list = kept
}

// age returns how many rows a job holds, and whether it ended so long ago that
// the hub has forgotten it.
func (j *job) age(now time.Time) (rows int, old bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.rows), !j.ended.IsZero() && now.Sub(j.ended) > jobMemory
}

func (j *job) over() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.ended.IsZero()
}
