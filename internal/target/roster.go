// Package target says what a target selects, and what a job would send to each of
// it.
package target

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

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
	Pool    int // where they are
	Wave    int // the page tells who belongs to it; 0 for the target's own listing
	Rows    []hub.Row
	missing bool // those that are in the cohort are to be passed over, whichever hub has them
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

// List yields the targets of the job on one hub, in the order in which the hub
// lists them, and those that the plan names last. A target may come twice.
func (r *Roster) List(ctx context.Context, pool int, yield func(Page) error) error {
	if text := r.QueryText(); text != "" {
		if err := r.EachPage(ctx, pool, text, yield); err != nil {
			return err
		}
	}
	if err := r.ListNamed(ctx, pool, yield); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// ListNamed yields those that the plan names: where it has several hubs, those that
// this one has.
func (r *Roster) ListNamed(ctx context.Context, pool int, yield func(Page) error) error {
	for ids := range r.Job.Target.Devices.Chunks(PageSize) {
		rows := Named(ids)
		if len(r.Pools) > 1 {
			var err error
			if rows, err = r.find(ctx, pool, rows); err != nil {
				return err
			}
		}
		if err := yield(Page{Pool: pool, Rows: rows}); err != nil {
			return err
		}
	}
	return nil
}

// ListMissing yields those that the plan names. [Roster.Take] puts the ones into the
// cohort that no hub has shown, as if this one had.
func (r *Roster) ListMissing(pool int, yield func(Page) error) error {
	for ids := range r.Job.Target.Devices.Chunks(PageSize) {
		if err := yield(Page{Pool: pool, Rows: Named(ids), missing: true}); err != nil {
			return err
		}
	}
	return nil
}

// find returns those of some targets that a hub has.
func (r *Roster) find(ctx context.Context, pool int, named []hub.Row) ([]hub.Row, error) {
	targets := make([]hub.Target, len(named))
	for i := range named {
		targets[i] = named[i].Target
	}
	found, err := r.lookUp(targets, r.Looks, func(q hub.Query) (hub.Page, error) { return r.queryPage(ctx, pool, q) })
	rows := make([]hub.Row, 0, len(found))
	for _, t := range targets {
		if row, ok := found[t]; ok {
			rows = append(rows, row)
		}
	}
	return rows, err
}

// ListWaves yields who belongs on one hub to the waves that select theirs by a
// condition. It comes after the cohort's own listing.
func (r *Roster) ListWaves(ctx context.Context, pool int, yield func(Page) error) error {
	if r.Job.Rollout == nil {
		return nil
	}
	for i, w := range r.Job.Rollout.Waves {
		if w.Query == "" {
			continue
		}
		text := (&spec.Target{Source: r.Job.Target.Source, Where: w.Query}).Query(spec.Columns{})
		if err := r.EachPage(ctx, pool, text, func(p Page) error {
			p.Wave = i + 1
			return yield(p)
		}); err != nil {
			return fmt.Errorf("wave %d: %w", i+1, err)
		}
	}
	return nil
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
		if err := yield(Page{Pool: pool, Rows: p.Rows}); err != nil {
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
		if p.missing && r.known(row.Target) {
			continue
		}
		key := cohort.Key{Pool: p.Pool, Target: row.Target}
		if r.Only != nil && !r.Only(key) {
			continue
		}
		if index, known := r.Cohort.Add(key); !known {
			yield(row, key, index)
		}
	}
}

// known tells whether a target of any hub is in the cohort.
func (r *Roster) known(t hub.Target) bool {
	return len(r.named(spec.DeviceID{Device: t.DeviceID, Module: t.ModuleID})) > 0
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
