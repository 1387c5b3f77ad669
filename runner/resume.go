package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/tidwall/gjson"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/inputs"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/preview"
	"iothub-runner/spec"
)

// Past is what a journal tells of a run that ended before its time. It is
// filled by reading the journal (Visit is made for [journal.Open]) and handed
// to Apply, which goes on from there: resuming is Apply with a journal that is
// not empty.
type Past struct {
	Header journal.Header
	jobs   map[string]*pastJob
	over   bool // the last run that wrote it came to its end
}

// pastJob is one job's past: its cohort as far as it was listed, and where
// each target stands.
type pastJob struct {
	place     int // among the jobs, as the journal names them
	cohort    *cohort.Cohort
	status    spec.Status // empty unless it came to an end
	begun     bool        // its time came: it is not late any more
	listed    bool        // the whole target
	attempts  int         // of the rows of targets that had ended; those of the others stand in their last lines
	retries   int
	startedAt time.Time // first
	endedAt   time.Time // zero unless it came to an end
	latency   *hdrhistogram.Histogram
	applied   *hdrhistogram.Histogram
	pastWaves
	pastParts
	runBegan time.Time
	// replaced are rows that count no more: their targets were done again.
	replaced []journal.Position
}

// NewPast returns an empty past.
func NewPast() *Past { return &Past{jobs: make(map[string]*pastJob)} }

// MismatchError means that a journal is of another plan than the one at hand.
type MismatchError struct {
	What       string // "plan file", "plan", "hub"
	Have, Want string
}

// Error says what differs.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("the run to go on with is of another %s: it has %s, this is %s", e.What, e.Want, e.Have)
}

// begun tells whether a job had begun.
func (p *Past) begun(name string) bool {
	j := p.jobs[name]
	return j != nil && j.begun
}

// Inputs returns what the run was of besides the plan's file; nil if that was
// not recorded, by an earlier version.
func (p *Past) Inputs() *spec.Inputs {
	h := &p.Header
	if len(h.Jobs) == 0 {
		return nil
	}
	return &spec.Inputs{Jobs: h.Jobs, Vars: h.Vars, Files: h.Files, Pinned: h.Pinned}
}

// Check refuses what would make the run another one: a plan, hubs or a pinned
// preview that are not those of the journal, or a plan that was filled in with
// something else. The preview is nil if there is none.
func (p *Past) Check(plan *spec.Plan, hubs []string, pinned *preview.Pinned) error {
	switch {
	case p.Header.Plan != plan.Name:
		return &MismatchError{What: "plan", Have: plan.Name, Want: p.Header.Plan}
	case p.Header.SHA256 != plan.SHA256:
		return &MismatchError{What: "version of the plan file", Have: "sha256 " + plan.SHA256, Want: "sha256 " + p.Header.SHA256}
	case !slices.EqualFunc(p.Header.Hubs, hubs, strings.EqualFold):
		return &MismatchError{What: "hub", Have: fmt.Sprint(hubs), Want: fmt.Sprint(p.Header.Hubs)}
	}
	was := p.Inputs()
	if was == nil {
		return nil
	}
	if err := checkPinned(was.Pinned, pinned); err != nil {
		return err
	}
	return inputs.Check(was, plan, p.Header.Runner)
}

// checkPinned refuses to go on beyond what a pinned preview allowed, or within
// one that the run knew nothing of.
func checkPinned(was string, now *preview.Pinned) error {
	switch {
	case now == nil && was == "", now != nil && was == now.Sum():
		return nil
	case now == nil:
		return errWasPinned
	case was == "":
		return errNotPinned
	}
	return errOtherPinned
}

var (
	errWasPinned   = errors.New("the run to go on with is that of a pinned preview, this is its plan")
	errNotPinned   = errors.New("the run to go on with is that of a plan, this is a pinned preview")
	errOtherPinned = errors.New("the run to go on with is that of another pinned preview")
)

// Visit takes in the next record of the journal. The last one about a target
// is the one that counts.
func (p *Past) Visit(at journal.Position, rec journal.Record) error {
	switch r := rec.(type) {
	case journal.Header:
		p.Header = r
	case journal.Targets:
		j := p.job(r.Job)
		if r.Part != "" {
			j.give(j, r)
			return nil
		}
		if r.Wave > 0 {
			j.join(j.cohort, r)
			return nil
		}
		for _, t := range r.Targets {
			j.cohort.Add(cohort.KeyOf(t))
		}
	case journal.Intent:
		j := p.job(r.Job)
		index, _ := j.cohort.Add(cohort.KeyOf(r.Target))
		j.replace(index)
		j.cohort.Begin(index, at)
	case journal.Result:
		return p.result(at, r)
	case journal.Mark:
		p.mark(r)
	}
	return nil
}

// mark takes in an event.
func (p *Past) mark(r journal.Mark) {
	switch r.Event {
	case journal.EventStarted:
		p.job(r.Job).start(r.At)
	case journal.EventListed:
		p.job(r.Job).listed = true
	case journal.EventEnded:
		if r.Job != "" {
			p.job(r.Job).endedAt, p.job(r.Job).status = r.At, spec.Status(r.Detail)
			p.job(r.Job).ended()
		} else {
			p.over = true
		}
	case journal.EventWave, journal.EventPassed:
		p.job(r.Job).visit(r)
	case journal.EventSummary: // the rows say it
	case journal.EventResumed:
		p.over = false
	}
}

func (p *Past) result(at journal.Position, r journal.Result) error {
	j := p.job(r.Job)
	index, _ := j.cohort.Add(cohort.KeyOf(r.Target))
	row := headOf(r.Row)
	if row.outcome == "" {
		return fmt.Errorf("a result of %s has the unknown outcome %q", r.Target.Device, gjson.GetBytes(r.Row, "outcome").Str)
	}
	if row.outcome == spec.OutcomeNotReached && row.attempts == 0 {
		at = cohort.NoLine // it says no more than the outcome
	}
	j.replace(index)
	j.cohort.Settle(index, row.outcome, at)
	if row.waits() {
		j.cohort.Reopen(index)
		return nil
	}
	if row.outcome != spec.OutcomeNotReached {
		j.count(row.attempts)
	}
	if row.confirmed != nil {
		j.addApplied(row.accepted, row.confirmed)
	}
	if row.attempts == 1 && (row.outcome == spec.OutcomeSucceeded || row.outcome == spec.OutcomeRejected) {
		if row.accepted != nil {
			row.ended = row.accepted
		}
		j.addLatency(row.began, row.ended)
	}
	return nil
}

// rowHead is the beginning of a row in the journal, which tells what became of a
// target.
type rowHead struct {
	outcome                                  spec.Outcome
	began, ended, confirmed, accepted, until []byte // times, all written alike; part of the row
	attempts                                 int
}

// waits tells whether the device is waited for to report a change.
func (h *rowHead) waits() bool {
	return h.outcome == spec.OutcomeUnconfirmed && bytes.Compare(h.ended, h.until) < 0
}

// headOf reads it. Rows are most of a journal, so this looks at them as they are
// written: before the outcome stand ids alone, and what follows has one order.
func headOf(row []byte) (h rowHead) {
	const outcome = `,"outcome":"`
	rest := headText(row[max(0, bytes.Index(row, []byte(outcome))):])
	h.outcome = outcomeOf(rest.next(outcome))
	h.began, h.ended, h.confirmed = rest.next(`,"startedAt":"`), rest.next(`,"endedAt":"`), rest.next(`,"confirmedAt":"`)
	rest, _ = bytes.CutPrefix(rest, []byte(`,"attempts":`))
	for len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9' {
		h.attempts, rest = 10*h.attempts+int(rest[0]-'0'), rest[1:]
	}
	h.accepted, h.until = rest.next(`,"confirm":{"acceptedAt":"`), rest.next(`,"by":"`)
	return h
}

// headText is what is left of a row's beginning.
type headText []byte

// next returns the string that follows key, if key comes next.
func (h *headText) next(key string) []byte {
	rest, found := bytes.CutPrefix(*h, []byte(key))
	if !found {
		return nil
	}
	value, rest, _ := bytes.Cut(rest, []byte{'"'})
	*h = rest
	return value
}

// start notes that the job's time came. One that is started again had started
// before, and has not ended any more.
func (j *pastJob) start(at time.Time) {
	if !j.begun {
		j.begun, j.startedAt = true, at
	}
	j.endedAt, j.status = time.Time{}, ""
	if !j.listed {
		j.members = nil // who belongs to a wave is listed again, with the rest
	}
}

// addLatency takes in how long the one attempt of a row took.
func (j *pastJob) addLatency(began, ended []byte) {
	if d, ok := between(began, ended); ok {
		_ = j.latency.RecordValue(max(1, d.Microseconds())) // beyond the range counts as nothing
	}
}

// addApplied takes in how long a device took to report a change.
func (j *pastJob) addApplied(accepted, confirmed []byte) {
	if d, ok := between(accepted, confirmed); ok {
		_ = j.applied.RecordValue(max(1, d.Milliseconds()))
	}
}

// between returns the time from one time of a row to another. They are mostly of
// one day, which is five times as fast to tell as to read two dates.
func between(from, to []byte) (time.Duration, bool) {
	const day = len("2006-01-02T")
	if len(from) > day && len(to) > day && string(from[:day]) == string(to[:day]) {
		begin, ok := timeOfDay(from[day:])
		end, endOK := timeOfDay(to[day:])
		if ok && endOK {
			return end - begin, true
		}
	}
	var begin, end time.Time
	err, endErr := begin.UnmarshalText(from), end.UnmarshalText(to)
	return end.Sub(begin), err == nil && endErr == nil
}

// timeOfDay reads 15:04:05.000Z, as rows have it.
func timeOfDay(b []byte) (time.Duration, bool) {
	const layout = "15:04:05.000Z"
	if len(b) != len(layout) {
		return 0, false
	}
	for i, c := range []byte(layout) {
		if digit := c-'0' <= 9; digit && b[i]-'0' > 9 || !digit && b[i] != c {
			return 0, false
		}
	}
	two := func(at int) int { return 10*int(b[at]-'0') + int(b[at+1]-'0') }
	seconds := 3600*two(0) + 60*two(3) + two(6)
	return time.Duration(1000*seconds+10*two(9)+int(b[11]-'0')) * time.Millisecond, true
}

// outcomeOf returns the outcome with this name; empty if there is none.
func outcomeOf(name []byte) spec.Outcome {
	for _, o := range spec.Outcomes() {
		if string(name) == string(o) {
			return o
		}
	}
	return ""
}

// replace takes the row of a target that had ended out of the count: attempts
// go on being numbered, so the row that comes next tells of them as well.
func (j *pastJob) replace(index uint32) {
	e := j.cohort.At(index)
	if outcome, ended := e.Outcome(); ended && outcome != spec.OutcomeNotReached {
		j.replaced = append(j.replaced, e.Position())
	}
}

// count adds the attempts of a row.
func (j *pastJob) count(attempts int) {
	j.attempts += attempts
	j.retries += max(0, attempts-1)
}

// discount subtracts those of the rows that were replaced.
func (j *pastJob) discount(rows *journal.RowReader) error {
	for _, at := range j.replaced {
		row, err := rows.Row(at)
		if err != nil {
			return err
		}
		attempts := int(gjson.GetBytes(row, "attempts").Int())
		j.attempts -= attempts
		j.retries -= max(0, attempts-1)
	}
	return nil
}

func (p *Past) job(name string) *pastJob {
	j, ok := p.jobs[name]
	if !ok {
		j = &pastJob{place: len(p.jobs), runBegan: p.Header.StartedAt, cohort: cohort.New(), latency: newLatency(), applied: newApplied()}
		p.jobs[name] = j
	}
	return j
}

// resume makes the past of a job this run's present: what is settled stays so,
// unless the user has picked its outcome.
func (l *ledger) resume(p *pastJob) error {
	l.roster.Cohort, l.whole, l.latency, l.applied = p.cohort, p.listed, p.latency, p.applied
	l.past = p
	if p.listed {
		l.roster.Cohort.Freeze()
		for wave, members := range p.members {
			if job := l.roster.Job; job.Rollout != nil && wave <= len(job.Rollout.Waves) {
				l.roster.AddToWave(wave, members...)
			}
		}
	}
	rows := journal.NewRowReader(l.journal)
	if err := p.discount(rows); err != nil {
		return err
	}
	for i := range uint32(l.roster.Cohort.Size()) {
		made, err := attemptsOf(l.roster.Cohort.At(i), l.journal, rows)
		if err != nil {
			return err
		}
		p.count(made)
		l.takeUp(i)
	}
	l.attempts, l.retries, l.before = p.attempts, p.retries, p.attempts
	l.counters.listed.Store(int64(l.roster.Cohort.Size()))
	l.resumed = uint32(l.roster.Cohort.Size())
	// Targets that are not listed yet were not picked either.
	l.more = !p.listed && l.picks(spec.OutcomeNotReached)
	l.unlisted = !p.listed && !l.picks(spec.OutcomeNotReached)
	return nil
}

// attemptsOf returns how many attempts were made for a target that has not come
// to an end. Those of the others are counted already.
func attemptsOf(e *cohort.Entry, in io.ReaderAt, rows *journal.RowReader) (int, error) {
	if e.Begun() && e.Position() == cohort.NoLine {
		return 0, nil // whoever learns what the hub did counts it
	}
	if e.Begun() {
		intent, err := journal.ReadIntent(in, e.Position())
		return intent.Attempt, err
	}
	o, _ := e.Outcome()
	if _, watched := e.Reopened(); !watched && o != spec.OutcomeNotReached || e.Position() == cohort.NoLine {
		return 0, nil
	}
	row, err := rows.Row(e.Position())
	return int(gjson.GetBytes(row, "attempts").Int()), err
}

// takeUp decides whether this run is to have another go at a target, and reopens
// it if an earlier run settled it.
func (l *ledger) takeUp(index uint32) {
	e := l.roster.Cohort.At(index)
	outcome, settled := e.Outcome()
	again := settled && l.picks(outcome) && (len(l.picked) > 0 || outcome == spec.OutcomeNotReached)
	// A patch in doubt is settled by reading the twin, which a run that is told to
	// stop does not get to.
	again = again || l.roster.Job.Twin != nil && outcome == spec.OutcomeUnanswered && l.repeats()
	_, watched := e.Reopened() // by Past: the device is to report a change
	switch {
	case watched:
		outcome, again = spec.OutcomeUnconfirmed, l.picks(spec.OutcomeNotReached) || l.picks(spec.OutcomeUnconfirmed)
		if !again {
			l.roster.Cohort.Settle(index, outcome, e.Position())
			l.count(l.roster.Cohort.Pool(index), outcome)
		}
	case again:
		l.roster.Cohort.Reopen(index)
	case settled:
		l.count(l.roster.Cohort.Pool(index), outcome)
	case e.Begun():
		outcome, again = spec.OutcomeUnanswered, l.goesOn(e)
	default:
		outcome, again = spec.OutcomeNotReached, l.picks(spec.OutcomeNotReached)
	}
	if again {
		l.taken[cohort.OutcomeIndex(outcome)]++
	} else {
		l.kept[cohort.OutcomeIndex(outcome)]++
	}
}

// goesOn tells whether this run does something for a target that was begun: the hub
// knows what became of one that it was given.
func (l *ledger) goesOn(e *cohort.Entry) bool { return e.Position() == cohort.NoLine || l.repeats() }

// repeats tells whether a call is made again that was begun and may have run.
func (l *ledger) repeats() bool {
	harmless := l.roster.Job.Twin != nil || l.roster.Job.Method.Idempotent
	return l.picks(spec.OutcomeUnanswered) && (harmless || len(l.picked) > 0)
}

// Resumption is what a run took over from the one that it goes on with.
type Resumption struct {
	Began, At time.Time            // when that was started, and when this one
	Taken     map[spec.Outcome]int // targets to be done again, by how they had ended
	Kept      map[spec.Outcome]int // the others
	More      bool                 // targets may come that had not been listed
}

// Resumed says what the run took over, or nil if it is the first.
func (r *Run) Resumed() *Resumption {
	if r.past == nil {
		return nil
	}
	n := &Resumption{Began: r.startedAt, At: r.resumedAt, Taken: map[spec.Outcome]int{}, Kept: map[spec.Outcome]int{}}
	for _, j := range r.jobs {
		for i, o := range spec.Outcomes() {
			n.Taken[o] += j.ledger.taken[i]
			n.Kept[o] += j.ledger.kept[i]
		}
		n.More = n.More || j.ledger.more
	}
	return n
}

// picks tells whether targets that ended so are to be taken up by this run.
func (l *ledger) picks(o spec.Outcome) bool {
	return len(l.picked) == 0 || slices.Contains(l.picked, o)
}

// revive makes an item of a cohort's target that is still to be done; nil if
// there is nothing to do for it. What a crash left open decides: a call may have
// run, so it is not made again unless that does no harm or the user picked it.
func (f *feed) revive(index uint32) (*item, error) {
	e := f.ledger.roster.Cohort.At(index)
	it := &item{Key: f.ledger.roster.Cohort.Target(index), index: index, line: cohort.NoLine}
	was, again := e.Reopened()
	switch {
	case e.Pending() && f.ledger.picks(spec.OutcomeNotReached):
		return it, nil
	case again:
		return it, f.restore(it, was, e.Position())
	case !e.Begun():
		return nil, nil //nolint:nilnil // neither an item nor an error
	}
	if e.Position() == cohort.NoLine { // with a part of the hub's, which tells
		it.unsure, it.began = true, f.ledger.past.startedAt
		return it, nil
	}
	intent, err := journal.ReadIntent(f.ledger.journal, e.Position())
	if err != nil {
		return nil, err
	}
	it.attempts, it.unsure, it.began = intent.Attempt, true, intent.At
	it.err = errForgotten()
	it.record(intent.At, 0, it.err)
	if f.ledger.roster.Job.Twin != nil {
		it.doubt = &spec.TwinResult{Before: parseSections(intent.Before), Patch: parseSections(intent.Patch)}
	}
	if f.ledger.repeats() {
		return it, nil
	}
	done := f.clerk.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: spec.OutcomeUnanswered})
	done.item = it
	f.ledger.enter(done)
	return nil, done.abort
}

// errForgotten is what became of an attempt whose intent stands alone.
func errForgotten() *hub.Error {
	return &hub.Error{Kind: hub.KindCut, Message: "the run ended before an answer was recorded"}
}

// restore takes over how a reopened target ended and what its row says: its
// attempts go on being counted, and the patch of one in doubt is needed to tell
// whose change a twin has.
func (f *feed) restore(it *item, was spec.Outcome, line journal.Position) error {
	it.was, it.line, it.unsure = was, line, was == spec.OutcomeUnanswered
	if line == cohort.NoLine {
		return nil
	}
	text, err := f.rows.Row(line)
	if err != nil {
		return err
	}
	row, err := parseRow(text, it)
	if err != nil {
		return err
	}
	if it.unsure || was == spec.OutcomeUnconfirmed {
		it.doubt = row.Twin // nil unless it was a patch
	}
	if waits(row) {
		it.confirm = row.Confirm
	}
	it.row, it.attempts, it.before, it.noted, it.history = row, row.Attempts, row.Attempts, row.Attempts, historyOf(row)
	if row.StartedAt != nil {
		it.began = row.StartedAt.Time
	}
	return nil
}

// historyOf returns the attempts that a row tells of. A row that went well at
// once has no history, but its times are those of its one attempt.
func historyOf(row *spec.Row) []spec.Attempt {
	if len(row.History) > 0 || row.Attempts == 0 || row.StartedAt == nil || row.EndedAt == nil {
		return row.History
	}
	a := spec.Attempt{
		Attempt: row.Attempts, StartedAt: *row.StartedAt, HTTPStatus: 200,
		DurationMs: row.EndedAt.Sub(row.StartedAt.Time).Milliseconds(),
	}
	if e := row.Error; e != nil {
		a.HTTPStatus, a.Error = e.HTTPStatus, e
	}
	return []spec.Attempt{a}
}

func parseSections(text json.RawMessage) *spec.Sections {
	doc := gjson.ParseBytes(text)
	s := &spec.Sections{}
	if v := doc.Get("desired"); v.Exists() {
		s.Desired = json.RawMessage(v.Raw)
	}
	if v := doc.Get("tags"); v.Exists() {
		s.Tags = json.RawMessage(v.Raw)
	}
	return s
}
