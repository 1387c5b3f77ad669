package runner

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// pageSize is the most rows that the hub returns at once.
const pageSize = 100

// page is a piece of a job's listing: rows of one query page, or targets that
// the plan names, which have nothing but their key.
type page struct {
	pool int
	rows []hub.Row
}

// roster turns the target of a job into its cohort: it lists what the target
// selects and says of each listed device whether it belongs. A run and a
// preview do it with the same code, so that they cannot disagree.
type roster struct {
	job     *spec.Job
	pools   []*pool
	looks   spec.Columns           // at a twin, to know what to send
	exclude map[spec.DeviceID]bool // true once the target has selected it
	only    func(cohort.Key) bool  // nil takes everybody

	// overwrites says that patches carry no etag. What was read of a twin may be
	// old by the time it is patched, so they hold all that is wanted and not only
	// what differed: an accepted one proves that the twin is as wanted.
	overwrites bool
	from       time.Time // since when it asks the hub
	cohort     *cohort.Cohort
}

func newRoster(job *spec.Job, pools []*pool) roster {
	r := roster{job: job, pools: pools, looks: job.Columns(), cohort: cohort.New(), exclude: make(map[spec.DeviceID]bool, len(job.Target.Exclude))}
	for _, id := range job.Target.Exclude {
		r.exclude[id] = false
	}
	return r
}

// list sends the targets of the job to pages, in the order in which the hubs
// list them, and the ones named in the plan last. A target may come twice.
func (r *roster) list(ctx context.Context, pages chan<- page) error {
	if text := r.queryText(); text != "" {
		for pool := range r.pools {
			err := r.eachPage(ctx, pool, text, func(p page) error { return send(ctx, pages, p) })
			if err != nil {
				return err
			}
		}
	}
	for ids := range slices.Chunk(r.job.Target.Devices, pageSize) {
		if err := send(ctx, pages, page{rows: named(ids)}); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// named returns targets that the plan lists by id as a query would.
func named(ids []spec.DeviceID) []hub.Row {
	rows := make([]hub.Row, len(ids))
	for i, id := range ids {
		rows[i].Target = hub.Target{DeviceID: id.Device, ModuleID: id.Module}
	}
	return rows
}

// addNamed puts those that the plan lists by id into the cohort, less those
// that are excluded, without asking anybody.
func (r *roster) addNamed() {
	for _, id := range r.job.Target.Devices {
		if t := (hub.Target{DeviceID: id.Device, ModuleID: id.Module}); !r.excluded(t) {
			r.cohort.Add(cohort.Key{Target: t})
		}
	}
}

// eachPage yields the pages of a query on one hub until yield or the hub
// returns an error.
func (r *roster) eachPage(ctx context.Context, pool int, text string, yield func(page) error) error {
	q := hub.Query{Text: text, PageSize: pageSize}
	tokens := tokens{seed: maphash.MakeSeed(), seen: map[uint64]bool{}}
	for {
		p, err := r.queryPage(ctx, pool, q)
		if err != nil {
			return err
		}
		if err := yield(page{pool: pool, rows: p.Rows}); err != nil {
			return err
		}
		if p.Continuation == "" {
			return nil
		}
		if !tokens.advance(p) {
			return &ContinuationError{Hub: r.pools[pool].Name, Page: len(tokens.seen) + 1, Token: p.Continuation}
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

// maxEmpty is how many empty pages in a row may end with a token that was met
// before: a hub that is busy may send some.
const maxEmpty = 100

// advance tells whether the listing gets ahead with the token that a page ends
// with. One that was met before would bring the same rows again.
func (t *tokens) advance(p hub.Page) bool {
	token := maphash.String(t.seed, p.Continuation)
	if !t.seen[token] {
		t.seen[token], t.empty = true, 0
		return true
	}
	t.empty++
	return len(p.Rows) == 0 && t.empty <= maxEmpty
}

func send(ctx context.Context, pages chan<- page, p page) error {
	if len(p.rows) == 0 {
		return context.Cause(ctx)
	}
	select {
	case pages <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// queryText returns the query that lists the job's target, with no more
// columns than the job needs; empty if the plan names all devices itself.
func (r *roster) queryText() string { return r.job.Target.Query(r.looks) }

// queryPage reads one page, as often as it takes.
func (r *roster) queryPage(ctx context.Context, pool int, q hub.Query) (p hub.Page, err error) {
	err = r.read(ctx, pool, pace.Query, func(h Hub) error {
		p, err = h.Query(ctx, q)
		return err
	})
	return p, err
}

// read makes a request that changes nothing, as often as it takes.
func (r *roster) read(ctx context.Context, pool int, c pace.Class, request func(Hub) error) error {
	return r.pools[pool].read(ctx, reader{retry: r.job.Retry, from: r.from}, c, request)
}

// reader is who makes requests that change nothing.
type reader struct {
	retry spec.Retry
	from  time.Time // since when it asks the hub
	brisk bool      // a hub that is not ready uses up its attempts

	spent   int
	expired int // how often a token was
	excuse  pace.Excuse
}

// read makes a request that changes nothing, as often as it takes.
func (p *pool) read(ctx context.Context, who reader, c pace.Class, request func(Hub) error) error {
	for tries := 1; ; tries++ {
		if err := p.pacer.Take(ctx, c, 1, who.from); err != nil {
			return err
		}
		began := time.Now()
		err := request(p.Hub)
		p.pacer.Answered(c, began, err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		herr := asHubError(err)
		v := decide(herr.Kind, reading, policy{})
		if v.step == stepAbort {
			return &HubError{Hub: p.Name, Err: err}
		}
		if !who.again(p, c, v, herr) {
			return err
		}
		if !pace.Sleep(ctx, who.wait(p, c, tries, herr)) {
			return context.Cause(ctx)
		}
	}
}

// wait returns how long to wait before a request is made again.
func (r *reader) wait(p *pool, c pace.Class, tries int, err *hub.Error) time.Duration {
	least := err.Wait
	if err.Kind == hub.KindThrottled {
		least = max(least, throttleFloor)
	}
	switch {
	case p.pacer.Holds(c, least):
		return 0 // whoever is in line waits for the hub
	case err.Kind == hub.KindTokenExpired && r.expired == 1:
		return err.Wait
	}
	return backoff(r.retry, tries, least, jitter)
}

// again tells whether a request is worth one more try, and counts what it costs.
func (r *reader) again(p *pool, c pace.Class, v verdict, err *hub.Error) bool {
	if err.Kind == hub.KindTokenExpired {
		if r.expired++; r.expired == 1 {
			return true
		}
	}
	switch {
	case v.step == stepWait:
		return true
	case v.step != stepRetry:
		return false
	case !r.brisk && p.pacer.Spares(c, err, &r.excuse, r.retry.Attempts):
		return true
	}
	r.spent++
	return r.spent < r.retry.Attempts
}

// take puts the targets of a page into the cohort, less those that are
// excluded, beyond the limit or there already, and yields the new ones.
func (r *roster) take(p page, yield func(row *hub.Row, key cohort.Key, index uint32)) {
	for i := range p.rows {
		row := &p.rows[i]
		if r.excluded(row.Target) || r.full() {
			continue
		}
		key := cohort.Key{Pool: p.pool, Target: row.Target}
		if r.only != nil && !r.only(key) {
			continue
		}
		if index, known := r.cohort.Add(key); !known {
			yield(row, key, index)
		}
	}
}

// excluded tells whether the plan leaves a target out: by itself, or as a module
// of a device that it leaves out.
func (r *roster) excluded(t hub.Target) bool {
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

// idleExclusions returns what the plan leaves out and the target did not select
// in the first place: nearly always a slip, such as another letter case. It
// knows nothing of a target that was cut off at a limit.
func (r *roster) idleExclusions() []string {
	if t := r.job.Target; t.Limit > 0 || t.Top > 0 {
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

func (r *roster) full() bool {
	limit := r.job.Target.Limit
	return limit > 0 && r.cohort.Size() >= limit
}

// tooMany returns why a listing that can only become longer need not go on; nil
// while it may.
func (r *roster) tooMany() error {
	if e := r.job.Target.Expect; e.Max > 0 && r.cohort.Size() > e.Max {
		return &ExpectError{Min: e.Min, Max: e.Max, Have: r.cohort.Size()}
	}
	return nil
}

// judgeListing returns what is wrong with a cohort whose listing has ended.
func (r *roster) judgeListing(err error) error {
	if err == errLimit { //nolint:errorlint // our own cause, handed back as it is
		err = nil
	}
	if err != nil {
		return err
	}
	// The listing may have ended before its last page was counted.
	if err := r.tooMany(); err != nil {
		return err
	}
	target := &r.job.Target
	if idle := r.idleExclusions(); len(idle) > 0 && target.Expect.Excluded {
		return &ExpectError{Idle: idle}
	}
	switch {
	case r.cohort.Size() == 0 && !target.AllowEmpty:
		return errNoTargets
	case r.cohort.Size() < target.Expect.Min:
		return &ExpectError{Min: target.Expect.Min, Max: target.Expect.Max, Have: r.cohort.Size()}
	}
	return nil
}

// preflight makes sure of a hub before anything is sent to its devices: that
// it is there, that it takes our credentials, and that it can be queried.
func preflight(ctx context.Context, p *pool) error {
	retry := spec.Retry{Attempts: 3, Backoff: 250 * time.Millisecond, MaxBackoff: time.Second}
	err := p.read(ctx, reader{retry: retry, from: time.Now(), brisk: true}, pace.Query, func(Hub) error { return p.ask(ctx) })
	if _, refused := errors.AsType[*hub.Error](err); refused {
		return &HubError{Hub: p.Name, Err: err}
	}
	return err
}

// ask asks the hub for something that it always has, and that changes nothing.
func (p *pool) ask(ctx context.Context) error {
	_, err := p.Hub.Query(ctx, hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
	return err
}
