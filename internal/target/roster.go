// Package target says what a target selects, and what a job would send to each of
// it.
package target

import (
	"context"
	"hash/maphash"
	"slices"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// PageSize is the most rows that the hub returns at once.
const PageSize = 100

// Page is a piece of a job's listing: rows of one query page, or targets that
// the plan names, which have nothing but their key.
type Page struct {
	pool int
	Wave int // the page tells who belongs to it; 0 for the target's own listing
	Rows []hub.Row
}

// Roster turns the target of a job into its cohort: it lists what the target
// selects and says of each listed device whether it belongs. A run and a
// preview do it with the same code, so that they cannot disagree.
type Roster struct {
	Job     *spec.Job
	Pools   []*Pool
	Looks   spec.Columns           // at a twin, to know what to send
	exclude map[spec.DeviceID]bool // true once the target has selected it
	Only    func(cohort.Key) bool  // nil takes everybody
	Part    bool                   // others see to the rest of the targets, so that this part may be empty

	// Overwrites says that patches carry no etag. What was read of a twin may be
	// old by the time it is patched, so they hold all that is wanted and not only
	// what differed: an accepted one proves that the twin is as wanted.
	Overwrites bool
	From       time.Time // since when it asks the hub
	Cohort     *cohort.Cohort
	Members    [][]uint32 // of the cohort, for each wave that names its own
}

// NewRoster returns the roster of a job, with an empty cohort.
func NewRoster(job *spec.Job, pools []*Pool) Roster {
	r := Roster{Job: job, Pools: pools, Looks: job.Columns(), Cohort: cohort.New(), exclude: make(map[spec.DeviceID]bool, len(job.Target.Exclude))}
	for _, id := range job.Target.Exclude {
		r.exclude[id] = false
	}
	return r
}

// List sends the targets of the job to pages, in the order in which the hubs
// list them, and the ones named in the plan last. A target may come twice.
func (r *Roster) List(ctx context.Context, pages chan<- Page) error {
	if text := r.QueryText(); text != "" {
		for pool := range r.Pools {
			err := r.EachPage(ctx, pool, text, func(p Page) error { return send(ctx, pages, p) })
			if err != nil {
				return err
			}
		}
	}
	for ids := range r.Job.Target.Devices.Chunks(PageSize) {
		if err := send(ctx, pages, Page{Rows: Named(ids)}); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// SendWaves sends who belongs to the waves that select theirs by a condition. It
// comes after List.
func (r *Roster) SendWaves(ctx context.Context, pages chan<- Page) error {
	return r.listWaves(ctx, func(p Page) error { return send(ctx, pages, p) })
}

// Named returns targets that the plan lists by id as a query would.
func Named(ids []spec.DeviceID) []hub.Row {
	rows := make([]hub.Row, len(ids))
	for i, id := range ids {
		rows[i].Target = hub.Target{DeviceID: id.Device, ModuleID: id.Module}
	}
	return rows
}

// AddNamed puts those that the plan lists by id into the cohort, less those
// that are excluded, without asking anybody.
func (r *Roster) AddNamed() {
	for id := range r.Job.Target.Devices.All() {
		key := cohort.Key{Target: hub.Target{DeviceID: id.Device, ModuleID: id.Module}}
		if !r.excluded(key.Target) && (r.Only == nil || r.Only(key)) {
			r.Cohort.Add(key)
		}
	}
}

// EachPage yields the pages of a query on one hub until yield or the hub
// returns an error.
func (r *Roster) EachPage(ctx context.Context, pool int, text string, yield func(Page) error) error {
	q := hub.Query{Text: text, PageSize: PageSize}
	met := newTokens()
	for {
		p, err := r.queryPage(ctx, pool, q)
		if err != nil {
			return err
		}
		if err := yield(Page{pool: pool, Rows: p.Rows}); err != nil {
			return err
		}
		if p.Continuation == "" {
			return nil
		}
		if !met.advance(p.Continuation, len(p.Rows)) {
			return &ContinuationError{Hub: r.Pools[pool].Name, Page: len(met.seen) + 1, Token: p.Continuation}
		}
		q.Continuation = p.Continuation
	}
}

// tokens are the hashes of the continuation tokens that a listing has met, a few
// bytes for each: a listing of a million rows meets 10,000.
type tokens struct {
	seed  maphash.Seed
	seen  map[uint64]bool
	empty int // pages in a row that were empty and moved nothing
}

func newTokens() tokens { return tokens{seed: maphash.MakeSeed(), seen: map[uint64]bool{}} }

// maxEmpty is how many empty pages in a row may end with a token that was met
// before: a hub that is busy may send some.
const maxEmpty = 100

// advance tells whether the listing gets ahead with the token that a page of so
// many rows ends with. One that was met before would bring the same rows again.
func (t *tokens) advance(continuation string, rows int) bool {
	token := maphash.String(t.seed, continuation)
	if !t.seen[token] {
		t.seen[token], t.empty = true, 0
		return true
	}
	t.empty++
	return rows == 0 && t.empty <= maxEmpty
}

func send(ctx context.Context, pages chan<- Page, p Page) error {
	if len(p.Rows) == 0 {
		return context.Cause(ctx)
	}
	clock.Rest()
	defer clock.Work()
	select {
	case pages <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// QueryText returns the query that lists the job's target, with no more
// columns than the job needs; empty if the plan names all devices itself.
func (r *Roster) QueryText() string { return r.Job.Target.Query(r.Looks) }

// queryPage reads one page, as often as it takes.
func (r *Roster) queryPage(ctx context.Context, pool int, q hub.Query) (p hub.Page, err error) {
	err = r.Read(ctx, pool, pace.Query, func(h Hub) error {
		p, err = h.Query(ctx, q)
		return err
	})
	return p, err
}

// Read makes a request that changes nothing, as often as it takes.
func (r *Roster) Read(ctx context.Context, pool int, c pace.Class, request func(Hub) error) error {
	return r.Pools[pool].read(ctx, reader{retry: r.Job.Retry, from: r.From}, c, request)
}

// Take puts the targets of a page into the cohort, less those that are
// excluded, beyond the limit or there already, and yields the new ones.
func (r *Roster) Take(p Page, yield func(row *hub.Row, key cohort.Key, index uint32)) {
	for i := range p.Rows {
		row := &p.Rows[i]
		if r.excluded(row.Target) || r.Full() {
			continue
		}
		key := cohort.Key{Pool: p.pool, Target: row.Target}
		if r.Only != nil && !r.Only(key) {
			continue
		}
		if index, known := r.Cohort.Add(key); !known {
			yield(row, key, index)
		}
	}
}

// excluded tells whether the plan leaves a target out: by itself, or as a module
// of a device that it leaves out.
func (r *Roster) excluded(t hub.Target) bool {
	if len(r.exclude) == 0 {
		return false
	}
	out := false
	for _, id := range []spec.DeviceID{{Device: t.DeviceID, Module: t.ModuleID}, {Device: t.DeviceID}} {
		if _, ok := r.exclude[id]; ok {
			r.exclude[id], out = true, true
		}
	}
	return out
}

// IdleExclusions returns what the plan leaves out and the target did not select
// in the first place: nearly always a slip, such as another letter case. It
// knows nothing of a target that was cut off at a limit.
func (r *Roster) IdleExclusions() []string {
	if t := r.Job.Target; t.Limit > 0 || t.Top > 0 {
		return nil
	}
	var idle []string
	for id, met := range r.exclude {
		if !met {
			idle = append(idle, id.String())
		}
	}
	slices.Sort(idle)
	return idle
}

// Full tells whether the cohort has all that target.limit lets it have.
func (r *Roster) Full() bool {
	limit := r.Job.Target.Limit
	return limit > 0 && r.Cohort.Size() >= limit
}

// TooMany returns why a listing that can only become longer need not go on; nil
// while it may.
func (r *Roster) TooMany() error {
	if e := r.Job.Target.Expect; e.Max > 0 && r.Cohort.Size() > e.Max {
		return &ExpectError{Min: e.Min, Max: e.Max, Have: r.Cohort.Size()}
	}
	return nil
}

// JudgeListing returns what is wrong with a cohort whose listing has ended.
func (r *Roster) JudgeListing(err error) error {
	if err == ErrLimit { //nolint:errorlint // our own cause, handed back as it is
		err = nil
	}
	if err != nil {
		return err
	}
	// The listing may have ended before its last page was counted.
	if err := r.TooMany(); err != nil {
		return err
	}
	target := &r.Job.Target
	if idle := r.IdleExclusions(); len(idle) > 0 && target.Expect.Excluded {
		return &ExpectError{Idle: idle}
	}
	switch {
	case r.Cohort.Size() == 0 && !target.AllowEmpty && !r.Part:
		return ErrNoTargets
	case r.Cohort.Size() < target.Expect.Min:
		return &ExpectError{Min: target.Expect.Min, Max: target.Expect.Max, Have: r.Cohort.Size()}
	}
	return nil
}
