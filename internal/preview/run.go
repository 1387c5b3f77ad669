package preview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/mask"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// Options are the parts that a preview is made of.
type Options struct {
	// Hubs are the hubs to look at; at least one.
	Hubs []target.NamedHub
	// Runner is the version of the program.
	Runner string
	// Rehearsal lets the plan look at another hub than the one it names.
	Rehearsal bool
	// Direct reads every twin by itself instead of trusting the query index,
	// which can be minutes behind: one request for each.
	Direct bool
	// Pin is told of every target in turn; nil if nobody wants to know.
	Pin *PinWriter
	// Looked is told how many targets of a job were looked at so far; nil if
	// nobody wants to know.
	Looked func(job string, targets int)
	// Paused is called when a hub takes no calls of a kind for a while, from any
	// goroutine; nil if nobody wants to know.
	Paused func(pace.Pause)
}

// maxReads is how many twins a preview reads at once.
const maxReads = 32

// preview looks at a fleet for a plan.
type previewer struct {
	Options
	plan  *spec.Plan
	pools []*target.Pool
	jobs  []*view // in the order of the plan
	held  schedule.Holds
}

// view is what a preview sees of one job.
type view struct {
	target.Roster
	pin    *PinWriter
	direct bool
	looked func(job string, targets int)
	mask   *mask.Mask

	meter  int // bytes of one message of the daily quota
	groups *groups
	counts jobCounts
	closed bool           // no more targets belong to it
	held   *schedule.Hold // why the job would not begin; nil if it would
	err    error          // why its listing ended
}

// jobCounts are what a forecast of time and quota is made of.
type jobCounts struct {
	pages     int // of queries
	pageBytes int
	named     int // targets that a run has to read before it can patch them
	changes   int
	calls     int
	steps     int // of the method throttle
	unchanged int
	failing   int
	leftAlone int // twins that have changed since they were recorded
	messages  int // of the daily quota, less those of queries
	dearest   int // of those, what one call takes at most
}

// Make works out what Apply would do now, and sends nothing to any device.
// Targets are found by the code that Apply finds them with. An error means that
// a hub could not be used, or that ctx ended; what keeps a single job from
// running stands in the forecast.
func Make(ctx context.Context, plan *spec.Plan, o Options) (*Forecast, error) {
	if err := target.CheckHubs(plan, o.Hubs, o.Rehearsal); err != nil {
		return nil, err
	}
	for i := range plan.Jobs {
		if err := checkNeeds(plan, &plan.Jobs[i]); err != nil {
			return nil, err
		}
	}
	now := clock.Now()
	p := &previewer{Options: o, plan: plan}
	for _, h := range o.Hubs {
		p.pools = append(p.pools, target.NewPool(h, plan, spec.Shard{}, 0, o.Paused))
	}
	for _, pool := range p.pools {
		if err := target.Preflight(ctx, pool); err != nil {
			return nil, err
		}
	}
	var late *schedule.LateError
	p.held, late = schedule.HoldLate(plan, now, nil)
	for _, s := range p.surveys() {
		if err := s.run(ctx); err != nil {
			return nil, err
		}
	}
	f := p.forecast(now)
	if late != nil {
		f.stopped = late
	}
	return f, nil
}

// survey is one listing for all jobs that have the same target.
type survey struct {
	target  spec.Target
	columns spec.Columns
	jobs    []*view
	pools   []*target.Pool
}

// surveys makes the views, and puts those together that can share a listing.
func (p *previewer) surveys() []*survey {
	var all []*survey
	_, meter := pace.DailyQuota(p.pools[0].Size.SKU, p.pools[0].Size.Units)
	for i := range p.plan.Jobs {
		job := &p.plan.Jobs[i]
		v := &view{Roster: target.NewRoster(job, p.pools), pin: p.Pin, direct: p.Direct, looked: p.Looked, mask: mask.New(p.plan), meter: meter, groups: newGroups()}
		p.jobs = append(p.jobs, v)
		if h, ok := p.held[job.Name]; ok {
			v.AddNamed()
			v.held, v.err = &h, h.Err
			continue
		}
		s := find(all, &job.Target)
		if s == nil {
			s = &survey{target: job.Target, pools: p.pools}
			all = append(all, s)
		}
		s.columns.ETag = s.columns.ETag || v.Looks.ETag
		s.columns.Add(v.Looks.TwinSections)
		s.jobs = append(s.jobs, v)
	}
	return all
}

func find(all []*survey, t *spec.Target) *survey {
	for _, s := range all {
		if s.target.Source == t.Source && s.target.Where == t.Where && s.target.All == t.All && s.target.Top == t.Top {
			return s
		}
	}
	return nil
}

// run lists the targets and looks at each. An error ends the preview; what is
// wrong with one job is noted there.
func (s *survey) run(ctx context.Context) error {
	err := s.listed(ctx)
	if fatal(ctx, err) {
		return err
	}
	for _, v := range s.jobs {
		if v.err == nil {
			v.err = err
		}
		if v.err == nil {
			v.err = v.lookAtNamed(ctx)
		}
		if fatal(ctx, v.err) {
			return v.err
		}
		v.err = v.JudgeListing(v.err)
		if v.err == nil && v.Job.Rollout != nil {
			v.err = v.lookAtWaves(ctx)
		}
		if fatal(ctx, v.err) {
			return v.err
		}
	}
	return nil
}

// lookAtWaves finds out who belongs to the waves that name their targets.
func (v *view) lookAtWaves(ctx context.Context) error {
	for pool := range v.Pools {
		err := v.ListWaves(ctx, pool, func(p target.Page) error {
			v.TakeWave(p)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return v.NameWaves()
}

// fatal tells whether an error ends the preview, not only one job's part of it.
func fatal(ctx context.Context, err error) bool {
	_, ok := target.AsFatal(err)
	_, pin := errors.AsType[*PinError](err)
	return err != nil && (ok || pin || ctx.Err() != nil)
}

// listed goes through the pages of the query, until no job wants more.
func (s *survey) listed(ctx context.Context) error {
	text := s.target.Query(s.columns)
	if text == "" {
		return nil
	}
	for pool := range s.pools {
		err := s.jobs[0].EachPage(ctx, pool, text, func(p target.Page) error { return s.look(ctx, p) })
		if err == target.ErrLimit { //nolint:errorlint // our own, handed back as it is
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// look shows a page to every job that wants more.
func (s *survey) look(ctx context.Context, p target.Page) error {
	size, more := 0, false
	for i := range p.Rows {
		r := &p.Rows[i]
		size += len(r.DeviceID) + len(r.ModuleID) + len(r.ETag) + len(r.Tags) + len(r.Desired) + len(r.Reported) + 50
	}
	for _, v := range s.jobs {
		if v.closed {
			continue
		}
		v.counts.pages++
		v.counts.pageBytes += size
		if err := v.look(ctx, p, false); err != nil {
			return err
		}
		if v.err = v.TooMany(); v.err != nil || v.Full() {
			v.closed = true
		}
		more = more || !v.closed
	}
	if !more {
		return target.ErrLimit
	}
	return nil
}

// manyNames is from how many named devices on they are looked up by query: a
// page of a query shows a hundred.
const manyNames = 20

// lookAtNamed looks at the devices that the plan lists by id, also for a job
// that does not care for their twins: an id may be misspelled.
func (v *view) lookAtNamed(ctx context.Context) error {
	devices := &v.Job.Target.Devices
	if len(v.Pools) > 1 {
		return v.seekNamed(ctx)
	}
	for ids := range devices.Chunks(namesAtOnce) {
		rows := target.Named(ids)
		if devices.Len() >= manyNames && !v.direct {
			var err error
			if rows, err = v.lookUp(ctx, rows); err != nil {
				return err
			}
		}
		for some := range slices.Chunk(rows, target.PageSize) {
			if err := v.look(ctx, target.Page{Rows: some}, true); err != nil {
				return err
			}
			if v.err = v.TooMany(); v.err != nil {
				return v.err
			}
		}
	}
	return nil
}

// seekNamed looks at the devices that the plan lists by id on the hubs that have them.
func (v *view) seekNamed(ctx context.Context) error {
	see := func(p target.Page) error {
		if err := v.look(ctx, p, true); err != nil {
			return err
		}
		v.err = v.TooMany()
		return v.err
	}
	for pool := range v.Pools {
		if err := v.ListNamed(ctx, pool, see); err != nil {
			return err
		}
	}
	return v.ListMissing(0, see)
}

// namesAtOnce is how many named devices are looked up together: a list may have
// a million.
const namesAtOnce = 5000

// lookUp fills in what the query index shows of named devices. Those that it
// does not show, and modules, stay as they are.
func (v *view) lookUp(ctx context.Context, named []hub.Row) ([]hub.Row, error) {
	at := make(map[string]int, len(named))
	for i, row := range named {
		if row.ModuleID == "" {
			at[row.DeviceID] = i
		}
	}
	wanted := v.Looks
	wanted.ETag = true
	for condition, missing := range target.ByID(named) {
		text := (&spec.Target{Source: spec.SourceDevices, Where: condition}).Query(wanted)
		err := v.EachPage(ctx, 0, text, func(p target.Page) error {
			for _, row := range p.Rows {
				if i, ok := at[row.DeviceID]; ok && row.ModuleID == "" {
					named[i] = row
					missing--
				}
			}
			if missing <= 0 {
				return target.ErrLimit
			}
			return nil
		})
		if err != nil && err != target.ErrLimit { //nolint:errorlint // our own, handed back as it is
			return nil, err
		}
	}
	return named, nil
}

// checkNeeds makes sure that the jobs that a job needs are part of the run.
func checkNeeds(plan *spec.Plan, job *spec.Job) error {
	for _, need := range job.Needs {
		if !slices.ContainsFunc(plan.Jobs, func(j spec.Job) bool { return j.Name == need.Job }) {
			return &schedule.NeedError{Job: job.Name, Need: need.Job}
		}
	}
	return nil
}

// seen is a target that was looked at.
type seen struct {
	cohort.Key
	*target.Sight
	payload json.RawMessage // of a call that differs by device
	err     error
}

// look works out what the job does to the targets of a page.
func (v *view) look(ctx context.Context, p target.Page, named bool) error {
	var fresh []seen
	v.Take(p, func(row *hub.Row, key cohort.Key, _ uint32) {
		s := v.Sight(row)
		if s == nil && named && row.ETag != "" {
			s = &target.Sight{ETag: row.ETag}
		}
		fresh = append(fresh, seen{Key: key, Sight: s})
	})
	if v.Looks.ETag || named {
		if err := v.readTwins(ctx, fresh); err != nil {
			return err
		}
	}
	for i := range fresh {
		v.add(&fresh[i], named)
	}
	if v.looked != nil && len(fresh) > 0 {
		v.looked(v.Job.Name, v.Cohort.Size())
	}
	if v.pin != nil {
		return v.pin.add(v.Job.Name, fresh)
	}
	return nil
}

// readTwins reads the twins that the listing did not show, or all of them if
// that is wanted.
func (v *view) readTwins(ctx context.Context, fresh []seen) error {
	var g errgroup.Group
	g.SetLimit(min(maxReads, v.Job.Concurrency))
	for i := range fresh {
		f := &fresh[i]
		if f.Sight != nil && !v.direct {
			continue
		}
		g.Go(func() error {
			var t hub.Twin
			err := v.Read(ctx, f.Pool, pace.TwinRead, func(h target.Hub) (err error) {
				t, err = h.Twin(ctx, f.Target)
				return err
			})
			f.Sight = &target.Sight{ETag: t.ETag, Version: t.Version, Desired: t.Desired, Tags: t.Tags, Reported: t.Reported, Direct: true}
			if fatal(ctx, err) {
				return err
			}
			f.err = err
			return nil
		})
	}
	return g.Wait()
}

// add counts a target and puts it into its group.
func (v *view) add(f *seen, named bool) {
	name := f.String()
	if len(v.Pools) > 1 {
		name += " on " + v.Pools[f.Pool].Name
	}
	c := &v.counts
	if f.err == nil {
		e, err := v.Effect(f.Target, f.Sight)
		if err == nil && v.changedSince(f, &e) {
			c.leftAlone++
			v.groups.add(name, Group{Error: "its twin has changed since it was recorded"})
			return
		}
		if err == nil {
			if v.Job.Method != nil && v.Job.Method.Template != nil {
				f.payload = e.Payload
			}
			v.groups.add(name, v.group(&e, named))
			return
		}
		f.err = err
	}
	c.failing++
	v.groups.add(name, Group{Error: brief(f.err)})
}

// changedSince tells whether a twin is not the one any more that the plan has
// recorded.
func (v *view) changedSince(f *seen, e *target.Effect) bool {
	if v.Job.Twin == nil || v.Job.Twin.Guard != spec.GuardRecorded || e.Unchanged() {
		return false
	}
	etag, err := v.RecordedETag(f.Target)
	return err != nil || etag != f.ETag
}

// group counts an effect and describes it.
func (v *view) group(e *target.Effect, named bool) Group {
	c := &v.counts
	if named && v.Looks.ETag && (v.Job.Method != nil || !e.Unchanged()) {
		c.named++
		c.messages++
	}
	if m := v.Job.Method; m != nil {
		c.calls++
		c.steps += pace.Steps(len(e.Payload), pace.MethodStep)
		messages := pace.Steps(len(e.Payload), v.meter) + 1 // an answer is one at least
		c.messages += messages
		c.dearest = max(c.dearest, messages)
		return Group{Call: &CallForecast{
			MethodName: m.Name, Payload: v.mask.JSON(e.Payload),
			ConnectTimeoutInSeconds: seconds(m.ConnectTimeout), ResponseTimeoutInSeconds: seconds(m.ResponseTimeout),
		}}
	}
	if e.Unchanged() {
		c.unchanged++
		c.messages++ // a run reads the twin itself before it says so
		return Group{Unchanged: true}
	}
	c.changes++
	c.messages += pace.Steps(len(e.Desired.Patch)+len(e.Tags.Patch), v.meter)
	return Group{
		Before: v.mask.Sections(&spec.Sections{Desired: e.Desired.Before, Tags: e.Tags.Before}),
		Patch:  v.mask.Sections(&spec.Sections{Desired: e.Desired.Patch, Tags: e.Tags.Patch}),
	}
}

// brief says what went wrong in words that are the same for each device.
func brief(err error) string {
	e, ok := errors.AsType[*hub.Error](err)
	if !ok {
		return err.Error()
	}
	switch {
	case e.Name != "" && e.Code != 0:
		return fmt.Sprintf("hub answered %d %s", e.Code, e.Name)
	case e.StatusCode != 0:
		return fmt.Sprintf("hub answered HTTP %d", e.StatusCode)
	}
	return e.Error()
}
