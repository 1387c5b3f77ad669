package preview

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/decide"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// forecast puts together what the views have seen, for a run that starts at now.
func (p *previewer) forecast(now time.Time) *Forecast {
	f := &Forecast{
		Schema: ForecastSchema, Runner: p.Runner, CreatedAt: spec.Time{Time: now}, TwinsFrom: "index", Warnings: []string{},
		Plan: spec.PlanRef{Name: p.plan.Name, File: p.plan.File, SHA256: p.plan.SHA256},
	}
	if p.Direct {
		f.TwinsFrom = "twins"
	}
	for _, pool := range p.pools {
		f.Hubs = append(f.Hubs, HubForecast{Name: pool.Name, SKU: pool.Size.SKU, Units: pool.Size.Units})
	}
	p.stopDependents()
	c := &calendar{plan: p.plan, pools: p.pools, now: now, loads: make(map[string]Load, len(p.jobs)), times: map[string]span{}}
	total := demand{}
	for _, v := range p.jobs {
		d := v.demand()
		d.shares = v.shares()
		total.add(d)
		c.loads[v.Job.Name] = d.load(p.pools, v.Job.Rate)
	}
	total.shares = sharesOf(p.jobs...)
	total.requests[pace.Query] += len(p.pools) // to see whether the hub is there
	total.messages += len(p.pools)
	f.Summary.Load = total.load(p.pools, 0)
	for _, v := range p.jobs {
		f.add(v, c)
	}
	if q := f.Summary.Quota; q > 0 && f.Summary.PerDay > 1 {
		f.Warnings = append(f.Warnings, fmt.Sprintf("the run takes %d messages at least, the hub's daily quota is %d", f.Summary.Messages, q))
	}
	return f
}

// add adds what one job would do.
func (f *Forecast) add(v *view, c *calendar) {
	at := c.span(v.Job)
	j := JobForecast{
		Name: v.Job.Name, Type: v.Job.Type, Target: v.Job.Target.Text, StartsAt: spec.Time{Time: at.start},
		Targets: v.Cohort.Size(), Limit: v.Job.Target.Limit, Groups: []Group{}, Load: c.loads[v.Job.Name],
	}
	if v.err == nil {
		n := &v.counts
		j.Changes, j.Calls, j.Unchanged, j.Failing, j.LeftAlone = n.changes, n.calls, n.unchanged, n.failing, n.leftAlone
		j.Groups = v.groups.sorted()
	}
	for _, need := range v.Job.Needs {
		j.After = append(j.After, need.Job)
		if need.If == spec.NeedAlways {
			j.AfterAny = append(j.AfterAny, need.Job)
		}
	}
	j.Engines = v.engines()
	if ends := schedule.Deadline(v.Job, at.start); !ends.IsZero() {
		j.Deadline = &spec.Time{Time: ends}
	}
	if at.opens != (Opening{}) {
		j.Window = &at.opens
	}
	if rule := v.Job.Confirm; rule != nil {
		j.Confirm = rule.Within.String()
	}
	if j.Waves = v.waves(c.plan.Name, at.start, j.Seconds); len(j.Waves) > 0 {
		j.Pause = pauseText(v.Job.Rollout)
	}
	if !at.end.IsZero() {
		j.EndsAt = &spec.Time{Time: at.end}
	}
	f.stop(v, &j)
	f.Warnings = append(f.Warnings, j.late(at)...)
	f.Warnings = append(f.Warnings, v.doubts(c, at)...)
	if idle := v.IdleExclusions(); v.err == nil && len(idle) > 0 {
		f.Warnings = append(f.Warnings, "job "+v.Job.Name+": "+target.IdleText(idle))
	}
	f.Summary.Targets += j.Targets
	f.Summary.Changes += j.Changes
	f.Summary.Calls += j.Calls
	f.Summary.Unchanged += j.Unchanged
	f.Summary.Failing += j.Failing
	f.Jobs = append(f.Jobs, j)
}

// stop notes why a job would send nothing.
func (f *Forecast) stop(v *view, j *JobForecast) {
	err := v.err
	switch {
	case err == nil:
	case v.held != nil:
		j.Stopped, j.Skipped = err.Error(), v.held.Status == spec.StatusSkipped
	case errors.Is(err, errUnmet):
		j.Stopped = err.Error()
	case target.AsUnexpected(err):
		j.Stopped = err.Error()
		if f.stopped == nil {
			f.stopped = fmt.Errorf("job %s: %w", j.Name, err)
		}
	default:
		j.Error = brief(err)
		if f.incomplete == nil {
			f.incomplete = fmt.Errorf("job %s: %w", j.Name, err)
		}
	}
}

func pauseText(r *spec.Rollout) string {
	if r.Manual {
		return spec.PauseManual
	}
	return r.Pause.String()
}

// errUnmet means that a job needs the success of one that would not succeed.
var errUnmet = errors.New("it would not succeed")

// stopDependents finds the jobs that would not start, because one whose success
// they need would not even be carried out.
func (p *previewer) stopDependents() {
	views := map[string]*view{}
	for _, v := range p.jobs {
		views[v.Job.Name] = v
	}
	for more := true; more; {
		more = false
		for _, v := range p.jobs {
			for _, need := range v.Job.Needs {
				if v.err == nil && need.If != spec.NeedAlways && views[need.Job].err != nil {
					v.err, v.counts, more = fmt.Errorf("it needs job %s: %w", need.Job, errUnmet), jobCounts{}, true
				}
			}
		}
	}
}

// doubts returns why a job may not go as its part of the forecast says.
func (v *view) doubts(c *calendar, at span) (all []string) {
	if v.err != nil {
		return nil
	}
	if !v.Job.At.IsZero() && at.start.After(schedule.Later(v.Job.At, c.now)) && at.opens == (Opening{}) {
		all = append(all, fmt.Sprintf("job %s is due at %s, but what it needs ends at %s at the earliest: it starts then",
			v.Job.Name, v.Job.At.UTC().Format(time.RFC3339), at.start.UTC().Format(time.RFC3339)))
	}
	if text := v.waiting(&c.pools[0].Size); text != "" {
		all = append(all, text)
	}
	miss := decide.Misses{Failed: v.counts.failing}
	if miss.Beyond(v.Job.Tolerate, v.Cohort.Size()) == nil {
		return all
	}
	text := "job " + v.Job.Name + " would fail"
	if len(v.Job.Needs) > 0 {
		text += ", as the twins are before the others run"
	}
	text += fmt.Sprintf(": %d of its %d targets cannot be done", v.counts.failing, v.Cohort.Size())
	if names := dependents(c.plan, v.Job.Name); len(names) > 0 {
		text += "; what needs its success would not start: " + strings.Join(names, ", ")
	}
	return append(all, text)
}

// dependents names the jobs that need the success of a job.
func dependents(plan *spec.Plan, name string) (all []string) {
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		if slices.ContainsFunc(job.Needs, func(n spec.Need) bool { return n.Job == name && n.If != spec.NeedAlways }) {
			all = append(all, job.Name)
		}
	}
	return all
}

// late returns what does not fit: a job that needs longer than it has.
func (j *JobForecast) late(at span) []string {
	var all []string
	if at.end.IsZero() {
		return nil
	}
	takes := round(at.end.Sub(at.start))
	if j.Deadline != nil && at.end.After(j.Deadline.Time) {
		all = append(all, fmt.Sprintf("job %s takes %v at least, its deadline is %v: not every device will be reached",
			j.Name, takes, j.Deadline.Sub(at.start)))
	}
	if j.Window != nil && at.end.After(j.Window.To.Time) {
		all = append(all, fmt.Sprintf("job %s takes %v at least, its window closes after %v: not every device will be reached in it",
			j.Name, takes, round(j.Window.To.Sub(at.start))))
	}
	return all
}

func round(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(10 * time.Millisecond)
}

// demand is what something asks of a hub, in the units of its throttles.
type demand struct {
	requests [pace.Classes]int
	steps    int // of the method throttle
	messages int
	attempts int // that a job's own rate bounds

	jobDevices int // that the hub's Jobs service does something for

	shares []float64 // of each hub, as far as it is known where the targets are
}

// shares is which part of its targets each hub has.
func (v *view) shares() []float64 { return sharesOf(v) }

// sharesOf is which part of the targets of some jobs each hub has.
func sharesOf(views ...*view) []float64 {
	shares := make([]float64, len(views[0].Pools))
	if len(shares) == 1 {
		return []float64{1}
	}
	all := 0
	for _, v := range views {
		all += v.Cohort.Size()
		for i := range uint32(v.Cohort.Size()) {
			shares[v.Cohort.Pool(i)]++
		}
	}
	for i := range shares {
		shares[i] /= float64(max(1, all))
	}
	return shares
}

// demand returns what a run of the job asks for, less what it repeats.
func (v *view) demand() demand {
	if v.Job.Engine == spec.EngineHubJobs {
		return v.hubDemand()
	}
	return v.directDemand()
}

// listingDemand is what it takes to find the targets.
func (v *view) listingDemand() (d demand) {
	d.requests[pace.Query] = v.counts.pages
	if v.counts.pages > 0 {
		d.messages = pace.Steps(v.counts.pageBytes, v.meter)
	}
	return d
}

func (v *view) directDemand() demand {
	c, d := &v.counts, v.listingDemand()
	if v.err != nil {
		return d
	}
	d.steps, d.attempts = c.steps, c.changes+c.calls
	d.messages += c.messages
	d.requests[pace.TwinRead] = c.unchanged + c.named
	d.requests[pace.TwinWrite] = c.changes
	d.requests[pace.Method] = c.calls
	return d
}

func (d *demand) add(other demand) {
	for c := range d.requests {
		d.requests[c] += other.requests[c]
	}
	d.steps += other.steps
	d.messages += other.messages
	d.jobDevices += other.jobDevices
}

// load works out what that comes to. All hubs work at once, so it takes as long as the
// one that takes longest.
func (d demand) load(pools []*target.Pool, rate float64) (longest Load) {
	perDay := 0.0
	for i, p := range pools {
		l := d.on(&p.Size, d.shares[i], rate)
		if perDay = max(perDay, l.PerDay); len(pools) > 1 {
			l.Hub = p.Name
		}
		if i == 0 || l.Seconds > longest.Seconds {
			longest = l
		}
	}
	longest.PerDay = perDay // of the hub that has least left
	return longest
}

// on works out what comes to a hub that has a share of the targets.
func (d demand) on(h *spec.Hub, share, rate float64) Load {
	l := Load{Requests: map[string]int{}, Messages: d.messages}
	perSecond, _ := pace.Rates(h.SKU, h.Units)
	for c := range pace.Class(pace.Classes) {
		n := d.requests[c]
		if n > 0 {
			l.Requests[c.String()] = n
		}
		if c == pace.Method {
			n = d.steps
		}
		l.atLeast(float64(n)*share, perSecond[c], c.String())
	}
	l.atLeast(float64(d.attempts), rate, "rate")
	l.atLeast(float64(d.jobDevices)*share, pace.JobDevices(h.SKU, h.Units), "jobDevices")
	l.Seconds = tenths(l.Seconds)
	if quota, _ := pace.DailyQuota(h.SKU, h.Units); quota > 0 {
		l.Quota, l.PerDay = quota, math.Round(float64(d.messages)*share/float64(quota)*1e4)/1e4
	}
	return l
}

// atLeast notes that n of something take their time. What is not known to be
// limited takes none.
func (l *Load) atLeast(n, perSecond float64, name string) {
	if perSecond > 0 && n/perSecond > l.Seconds {
		l.Seconds, l.Limit = n/perSecond, name
	}
}

// span is when a job would start, and end at the earliest.
type span struct {
	start time.Time
	end   time.Time // zero if the size of the hub is not known
	opens Opening
}

// calendar works out when the jobs of a run would start.
type calendar struct {
	plan  *spec.Plan
	pools []*target.Pool
	now   time.Time
	loads map[string]Load
	times map[string]span
}

// span returns the time of a job: its own, or after the jobs that it needs. The
// plan's check has made sure that these do not need each other.
func (c *calendar) span(job *spec.Job) span {
	if s, ok := c.times[job.Name]; ok {
		return s
	}
	start := schedule.Due(c.now, job)
	for _, need := range job.Needs {
		s := c.span(c.job(need.Job))
		after := s.start
		if !s.end.IsZero() {
			after = s.end
		}
		start = schedule.Later(start, after.Add(job.Delay))
	}
	s := span{start: start}
	if s.start.Before(c.now) {
		s.start = c.now
	}
	if job.Window != nil {
		from, to := schedule.NextOpening(job.Window, s.start)
		s.start, s.opens = schedule.Later(s.start, from), Opening{From: spec.Time{Time: from}, To: spec.Time{Time: to}}
	}
	load := c.loads[job.Name]
	if _, known := pace.Rates(c.pools[0].Size.SKU, c.pools[0].Size.Units); known || load.Limit == "rate" {
		s.end = s.start.Add(time.Duration(load.Seconds * float64(time.Second)))
		if r := job.Rollout; r != nil && len(r.Waves) > 1 {
			s.end = s.end.Add(time.Duration(len(r.Waves)-1) * r.Pause)
		}
		if job.Rollout != nil && job.Rollout.Manual {
			s.end = time.Time{} // it is for somebody to say
		}
	}
	c.times[job.Name] = s
	return s
}

func (c *calendar) job(name string) *spec.Job {
	i := slices.IndexFunc(c.plan.Jobs, func(j spec.Job) bool { return j.Name == name })
	return &c.plan.Jobs[i] // checkNeeds has made sure that there is one
}

// waiting says what it may cost to wait for devices that are not online, if that
// is worth a word: each call is charged to the hub's quota of the day.
func (v *view) waiting(h *spec.Hub) string {
	if v.Job.Method == nil || v.Job.Offline != spec.OfflineWait || v.counts.calls == 0 {
		return ""
	}
	const day, worth = 24 * time.Hour, 0.1
	span := min(v.Job.Deadline, day)
	each := decide.OfflineCalls(v.Job.Retry, span) * v.counts.dearest
	quota, _ := pace.DailyQuota(h.SKU, h.Units)
	whose := "of the hub's quota of"
	if quota == 0 {
		quota, _ = pace.DailyQuota("S1", 1)
		whose = "of the hub's quota, of which an S1 unit has"
	}
	if float64(each*v.counts.calls) < worth*float64(quota) {
		return ""
	}
	return fmt.Sprintf("job %s waits for devices that are offline: one that stays away takes about %d messages in %v %s %d a day, so that %d of them use it up",
		v.Job.Name, each, span, whose, quota, (quota+each-1)/each)
}
