package runner

import (
	"context"
	"errors"
	"slices"
	"sync"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// list lists the targets on all hubs, and then who of them belongs to which wave.
func (d *direct) list(targets, waves context.Context) {
	clock.Work()
	defer clock.Rest()
	r := &d.ledger.roster
	err := d.eachHub(targets, func(l *lane) error {
		return r.List(targets, l.pool, func(p target.Page) error { return l.send(targets, p) })
	})
	if err == nil && len(d.pools) > 1 {
		err = d.listMissing(targets)
	}
	selects := d.job().Rollout != nil && slices.ContainsFunc(d.job().Rollout.Waves, func(w spec.Wave) bool { return w.Query != "" })
	if selects && (err == nil || err == target.ErrLimit) { //nolint:errorlint // our own cause, handed back as it is
		broken := d.eachHub(waves, func(l *lane) error {
			return r.ListWaves(waves, l.pool, func(p target.Page) error { return l.send(waves, p) })
		})
		if broken != nil {
			err = broken
		}
	}
	d.feed.listed <- err // one value, one place: never blocks
}

// eachHub does something for each hub that can be used: for all at once, unless the
// plan counts them. Where there are several, one that fails is lost.
func (d *direct) eachHub(ctx context.Context, do func(*lane) error) error {
	if len(d.pools) == 1 {
		return do(d.feed.lanes[0])
	}
	errs := make([]error, len(d.pools))
	one := func(l *lane) {
		if l.lossOf() != nil {
			d.ledger.short[l.pool] = true
		} else if err := do(l); err != nil && ctx.Err() == nil {
			d.ledger.short[l.pool] = true
			d.lose(l.pool, err)
		} else {
			errs[l.pool] = err
		}
	}
	var hubs sync.WaitGroup
	for _, l := range d.feed.lanes {
		if t := &d.job().Target; t.Limit > 0 || t.Top > 0 {
			one(l)
			continue
		}
		hubs.Go(guarded(d.crashed, func() {
			clock.Work()
			defer clock.Rest()
			one(l)
		}))
	}
	clock.Rest()
	hubs.Wait()
	clock.Work()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// listMissing lists those that the plan names and no hub has: on a hub that could not
// be asked, if there is one, and else on the first, which is called and says so.
func (d *direct) listMissing(ctx context.Context) error {
	on := d.feed.lanes[0]
	for _, l := range d.feed.lanes {
		if l.lossOf() != nil {
			on = l
			break
		}
	}
	return d.ledger.roster.ListMissing(on.pool, func(p target.Page) error { return on.send(ctx, p) })
}

// lose ends what an error ends that makes a hub useless: its part of the job, or if it
// is the only one the job, or the run.
func (d *direct) lose(pool int, err error) {
	_, fatal := target.AsFatal(err)
	_, late := errors.AsType[*pace.NotReadyError](err)
	switch l := d.feed.lanes[pool]; {
	case len(d.pools) > 1:
		l.lose(err)
		select {
		case d.lossSignal <- struct{}{}:
		default: // the loop is told already
		}
	case fatal:
		d.abort(err)
	case late:
		d.stop(err)
	}
}

// hubReports tells of each hub, where there are several.
func (r *Run) hubReports() []spec.HubReport {
	if len(r.pools) == 1 {
		return nil
	}
	all := make([]spec.HubReport, len(r.pools))
	for pool, p := range r.pools {
		h := spec.HubReport{Hub: p.Name, Outcomes: map[spec.Outcome]int{}}
		for _, j := range r.jobs {
			if err := j.ledger.lost[pool]; err != nil && h.Lost == "" {
				h.Lost = causeOfLoss(err)
			}
			for i, o := range spec.Outcomes() {
				if n := j.ledger.tally[pool].outcomes[i]; n > 0 {
					h.Outcomes[o] += n
					h.Targets += n
				}
			}
		}
		all[pool] = h
	}
	return all
}
