package jobs

import (
	"slices"
	"sync"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
)

// This file decides which jobs there are and which of them may run.

// Schedules holds every job that the hub remembers.
type Schedules struct {
	mu     sync.Mutex
	byID   map[string]*Job // guarded by mu
	list   []*Job          // in order of creation; guarded by mu
	next   uint64          // guarded by mu
	weight int             // of all jobs, after a purge; guarded by mu
	Limit  int             // of active jobs; 0 for none

	*core.Hub

	Serving  sync.WaitGroup // calls that are under way
	NoteJob  func(*Kept)    // is told of every change, like noteStep; nil unless the state is kept
	NoteStep func(*KeptStep)
}

// Schedule takes a job in, unless the hub has too much to do.
func (s *Schedules) Schedule(j *Job) (*Job, *refuse.Error) {
	now := s.Clock.Now()
	s.Purge(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byID[j.ID]; old != nil {
		if s.Does(core.KnobDuplicateJob, "repeat") && old.sameRequest(j) {
			return old, nil
		}
		return nil, &refuse.Error{Status: 409, Name: "JobAlreadyExists", Text: "A job with ID '" + j.ID + "' already exists."}
	}
	counts := !j.start.After(now) || s.Does(core.KnobScheduledCount, "yes")
	if s.Limit > 0 && counts && s.activeLocked() >= s.Limit {
		return nil, errTooManyJobs()
	}
	if s.weight+j.weight() > maxJobsWeight {
		return nil, &refuse.Error{Status: 403, Code: 403003, Name: "JobQuotaExceeded", Text: "The hub holds as many jobs that have not ended as it can."}
	}
	s.addLocked(j)
	if j.start.After(now) {
		j.status = jobScheduled
	}
	if s.NoteJob != nil {
		s.NoteJob(j.Keep())
	}
	s.Clock.At(core.Later(j.start, now), s.startWaiting)
	return j, nil
}

func (s *Schedules) add(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(j)
}

func (s *Schedules) addLocked(j *Job) {
	s.next++
	j.Order = s.next
	if s.byID == nil {
		s.byID = map[string]*Job{}
	}
	s.byID[j.ID] = j
	s.list = append(s.list, j)
	s.weight += j.weight()
}

// errTooManyJobs has an error inside its text, as the hub's gateway passes on
// what its jobs service answered.
func errTooManyJobs() *refuse.Error {
	return &refuse.Error{
		Status: 429, Code: 429004, Name: "ThrottlingMaxActiveJobCountExceeded",
		Text: `Error: 429 {"Message":"ErrorCode:ThrottlingMaxActiveJobCountExceeded;The hub runs as many jobs as its tier allows.","ExceptionMessage":""}`,
	}
}

// activeLocked counts the jobs that the limit is for.
func (s *Schedules) activeLocked() int {
	n := 0
	for _, j := range s.list {
		switch j.State() {
		case Queued, jobRunning:
			n++
		case jobScheduled:
			if s.Does(core.KnobScheduledCount, "yes") {
				n++
			}
		}
	}
	return n
}

// startWaiting starts the jobs whose time has come, as far as the limit goes,
// oldest first. Those that must wait are queued.
func (s *Schedules) startWaiting() {
	now := s.Clock.Now()
	for _, j := range s.claimDue(now) {
		j.begin()
	}
}

// claimDue takes the jobs whose time has come for their start. It decides about
// all of them at once, so that two who ask do not both find room for one.
func (s *Schedules) claimDue(now time.Time) (claimed []*Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := 0
	var due []*Job
	for _, j := range s.list {
		switch st := j.State(); {
		case st == jobRunning:
			running++
		case (st == jobScheduled || st == Queued) && !j.start.After(now):
			due = append(due, j)
		}
	}
	for _, j := range due {
		if s.Limit > 0 && running >= s.Limit {
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
func (j *Job) claim() bool {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	if j.status != jobScheduled && j.status != Queued {
		return false
	}
	j.status = jobRunning
	return true
}

func (j *Job) queue() {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	if j.status == jobScheduled {
		j.status = Queued
	}
}

// Forget drops every job. Those that run stop where they are.
func (s *Schedules) Forget() {
	s.mu.Lock()
	dropped := s.list
	s.list, s.byID, s.weight = nil, nil, 0
	s.mu.Unlock()
	for _, j := range dropped {
		j.drop()
	}
}

func (j *Job) drop() {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	j.status = jobCancelled
	if j.tick != nil {
		j.server.Clock.Stop(j.tick)
		j.tick = nil
	}
}

// Find returns the job of an id.
func (s *Schedules) Find(id string) (*Job, *refuse.Error) {
	s.Purge(s.Clock.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.byID[id]; j != nil {
		return j, nil
	}
	return nil, ErrJobNotFound(id)
}

// Since returns the jobs from an order on, oldest first.
func (s *Schedules) Since(order uint64) []*Job {
	s.Purge(s.Clock.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.list, order, func(j *Job, n uint64) int {
		switch {
		case j.Order < n:
			return -1
		case j.Order > n:
			return 1
		}
		return 0
	})
	return slices.Clone(s.list[i:])
}

// MaxRows bounds the rows of all jobs that are remembered. A hub keeps them
// for 30 days; this one forgets the oldest ended jobs earlier when it must.
const MaxRows = 8_000_000

// maxJobsWeight bounds the texts of all jobs in the same way. One that comes when
// there is nothing to forget is refused.
const maxJobsWeight = 128 << 20

// Purge forgets jobs that ended long ago.
func (s *Schedules) Purge(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, weight := 0, 0
	kept := s.list[:0]
	for i, j := range slices.Backward(s.list) {
		n, old := j.age(now)
		rows += n
		weight += j.weight()
		// Half of the weight is left to jobs that are still to come.
		if old || (n > 0 && rows > MaxRows || weight > maxJobsWeight/2) && j.over() {
			delete(s.byID, j.ID)
			s.list[i] = nil
			weight -= j.weight()
		}
	}
	s.weight = weight
	for _, j := range s.list {
		if j != nil {
			kept = append(kept, j)
		}
	}
	clear(s.list[len(kept):])
	s.list = kept
}

// age returns how many rows a job holds, and whether it ended so long ago that
// the hub has forgotten it.
func (j *Job) age(now time.Time) (rows int, old bool) {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	return len(j.Rows), !j.ended.IsZero() && now.Sub(j.ended) > jobMemory
}

func (j *Job) over() bool {
	j.Mu.Lock()
	defer j.Mu.Unlock()
	return !j.ended.IsZero()
}
