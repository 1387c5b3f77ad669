package runner

import (
	"bytes"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// pinnedTwins are the twins of a pinned preview as the run of it follows them.
type pinnedTwins struct {
	*preview.Pinned

	mu       sync.Mutex             // guards ETags as well
	versions []int64                // of the twins with these etags; 0 as long as they are as pinned
	own      map[uint32][]*ownPatch // by index in the preview
}

func newPinnedTwins(p *preview.Pinned) *pinnedTwins {
	return &pinnedTwins{Pinned: p, versions: make([]int64, len(p.ETags)), own: map[uint32][]*ownPatch{}}
}

func (p *pinnedTwins) etag(i uint32) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ETags[i]
}

// ownPatch is a patch that a job of the run sent to a pinned twin, while it is
// not known what became of it. Each is sent with the etag that it was computed
// from, so of all that have the same one at most one takes effect; and once
// that etag has given way to the one of another patch of ours, the rest cannot.
type ownPatch struct {
	job    string
	base   string // the etag it was sent with; empty if the journal does not say
	patch  *spec.Sections
	flying bool // its answer may still come
	lost   bool // an answer did not come: it may have taken effect
}

// shows tells whether a twin is as it would be after the patch.
func (o *ownPatch) shows(s *target.Sight) bool {
	return target.Diff(s.Desired, o.patch.Desired).Patch == nil && target.Diff(s.Tags, o.patch.Tags).Patch == nil
}

// pinState is how a twin compares with its pin.
type pinState int

const (
	pinKept    pinState = iota // nobody but this run has changed it
	pinChanged                 // somebody has
	pinOpen                    // a patch of this run is under way, so nobody can say yet
)

// compare holds a twin that was read directly against its pin, for a job that
// has no patch of its own under way. A twin with another etag is still as
// pinned if a patch of ours, whose answer is lost, was sent to the twin as it
// was pinned and now shows in it: then its etag is the one to expect.
func (p *pinnedTwins) compare(i uint32, job string, s *target.Sight) pinState {
	p.mu.Lock()
	defer p.mu.Unlock()
	head := p.ETags[i]
	if s.ETag == head {
		return pinKept
	}
	var author *ownPatch
	flying := false
	for _, o := range p.own[i] {
		if o.base != head && o.base != "" {
			continue
		}
		flying = flying || o.flying
		if o.lost && (author == nil || o.job == job) && o.shows(s) {
			author = o
		}
	}
	switch {
	case author != nil:
		p.ETags[i], p.versions[i] = s.ETag, s.Version
		p.refuteLocked(i, author, head)
		return pinKept
	case flying, s.Version < p.versions[i]: // or it was read before a patch of ours was answered
		return pinOpen
	}
	return pinChanged
}

// refuteLocked drops the lost patches that were sent with an etag which gave
// way to another patch of ours: they had no effect.
func (p *pinnedTwins) refuteLocked(i uint32, author *ownPatch, base string) {
	kept := slices.DeleteFunc(p.own[i], func(o *ownPatch) bool {
		if o == author || o.base != base || base == "" {
			return false
		}
		o.lost = false
		return !o.flying
	})
	p.keepLocked(i, kept)
}

func (p *pinnedTwins) keepLocked(i uint32, own []*ownPatch) {
	if len(own) == 0 {
		delete(p.own, i)
		return
	}
	p.own[i] = own
}

func (p *pinnedTwins) findLocked(i uint32, job string) *ownPatch {
	for _, o := range p.own[i] {
		if o.job == job {
			return o
		}
	}
	return nil
}

func (p *pinnedTwins) removeLocked(i uint32, job string) {
	p.keepLocked(i, slices.DeleteFunc(p.own[i], func(o *ownPatch) bool { return o.job == job }))
}

// mayHave tells whether a patch of a job whose answer is lost may have taken
// effect.
func (p *pinnedTwins) mayHave(i uint32, job string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.findLocked(i, job)
	return o != nil && o.lost
}

// sending notes a patch that is about to be sent.
func (p *pinnedTwins) sending(i uint32, job, base string, patch *spec.Sections) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendingLocked(i, job, base, patch).flying = true
}

func (p *pinnedTwins) sendingLocked(i uint32, job, base string, patch *spec.Sections) *ownPatch {
	o := p.findLocked(i, job)
	if o == nil {
		o = &ownPatch{job: job}
		p.own[i] = append(p.own[i], o)
	}
	o.lost = o.lost && o.base == base
	o.base, o.patch = base, patch
	return o
}

// notAccepted notes that a patch was not accepted, or that its answer is lost.
func (p *pinnedTwins) notAccepted(i uint32, job string, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.findLocked(i, job)
	o.flying = false
	if o.lost = o.lost || lost; !o.lost {
		p.removeLocked(i, job)
	}
}

// ended notes that a job has done with a twin, and how it left it; nil if it did
// not change the twin. What is in doubt stays so.
func (p *pinnedTwins) ended(i uint32, job string, left *spec.TwinResult, inDoubt bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.findLocked(i, job)
	if o == nil {
		return
	}
	o.flying = false
	if left != nil && left.ETag != "" && (p.ETags[i] == o.base || o.base == "") {
		p.ETags[i], p.versions[i] = left.ETag, left.Version
		p.refuteLocked(i, o, o.base)
	}
	if !inDoubt {
		p.removeLocked(i, job)
	}
}

// recallPins learns from the journal which changes of twins were this run's
// own, and which patches an earlier run left without an answer.
func (r *Run) recallPins(p *pinnedTwins) error {
	if r.past == nil {
		return nil
	}
	rec := recall{pinnedTwins: p, twins: map[string]bool{}}
	for _, j := range r.jobs {
		rec.twins[j.job().Name] = j.job().Twin != nil
	}
	if _, err := journal.Replay(io.NewSectionReader(r.journal, 0, math.MaxInt64), rec.visit); err != nil {
		return &JournalError{Err: err}
	}
	return nil
}

// recall follows the twins through a journal. An accepted patch is in it before
// any intent that builds on it, so the version says which etag is the newest
// that was ours.
type recall struct {
	*pinnedTwins
	twins map[string]bool // jobs that patch
}

func (r *recall) visit(_ journal.Position, rec journal.Record) error {
	switch rec := rec.(type) {
	case journal.Intent:
		if i, known := r.Index(cohort.KeyOf(rec.Target)); known && r.twins[rec.Job] {
			r.intent(i, &rec)
		}
	case journal.Result:
		if i, known := r.Index(cohort.KeyOf(rec.Target)); known && r.twins[rec.Job] {
			r.result(i, &rec)
		}
	}
	return nil
}

// intent takes in that a patch may have been sent. Its etag was held against
// the pin before it was written, so it is one of ours; if we know of a newer
// one, the patch came too late to have an effect.
func (r *recall) intent(i uint32, rec *journal.Intent) {
	if rec.Version != 0 && rec.Version < r.versions[i] {
		r.removeLocked(i, rec.Job)
		return
	}
	if rec.Version > r.versions[i] {
		r.versions[i], r.ETags[i] = rec.Version, rec.ETag
	}
	r.sendingLocked(i, rec.Job, rec.ETag, parseSections(bytes.Clone(rec.Patch))).lost = true
}

func (r *recall) result(i uint32, rec *journal.Result) {
	row := gjson.ParseBytes(rec.Row)
	o := r.findLocked(i, rec.Job)
	outcome := spec.Outcome(row.Get("outcome").Str)
	if outcome == spec.OutcomeUnanswered {
		if patch := row.Get("twin.patch"); o == nil && patch.Exists() { // from a report, which has no intents
			r.sendingLocked(i, rec.Job, "", parseSections([]byte(patch.Raw))).lost = true
		}
		return
	}
	if outcome == spec.OutcomeSucceeded || outcome == spec.OutcomeUnconfirmed {
		version, etag := row.Get("twin.version").Int(), row.Get("twin.etag").Str
		if etag != "" && version > r.versions[i] {
			r.versions[i], r.ETags[i] = version, etag
		}
		if o != nil {
			r.refuteLocked(i, o, o.base)
		}
	}
	r.removeLocked(i, rec.Job)
}
