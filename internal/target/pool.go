package target

import (
	"cmp"
	"context"
	"errors"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// NamedHub is a hub and the host name by which plan and report call it.
type NamedHub struct {
	Name string
	Hub  Hub
}

// Pool is a hub of a run with what all jobs share of it.
type Pool struct {
	NamedHub
	Size  spec.Hub // what the plan says of it
	Pacer *pace.Pacer
}

// NewPool returns the pool of a hub, of which others may use the rest. It waits for
// the hub as long as an outage may last; 0 is [DefaultOutage].
func NewPool(h NamedHub, plan *spec.Plan, shard spec.Shard, outage time.Duration, paused func(pace.Pause)) *Pool {
	p := &Pool{NamedHub: h, Size: plan.HubOf(h.Name)}
	p.Pacer = pace.New(p.Size.SKU, p.Size.Units, pace.Options{Hub: h.Name, Outage: cmp.Or(outage, DefaultOutage), Ask: p.ask, Tell: paused, Share: shard.Share()})
	return p
}

// DefaultOutage is for how long jobs wait for a hub that is not ready.
const DefaultOutage = 10 * time.Minute

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
func (p *Pool) read(ctx context.Context, who reader, c pace.Class, request func(Hub) error) error {
	for tries := 1; ; tries++ {
		if err := p.Pacer.Take(ctx, c, 1, who.from); err != nil {
			return err
		}
		began := clock.Now()
		err := request(p.Hub)
		p.Pacer.Answered(c, began, err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		herr := decide.AsHubError(err)
		v := decide.After(herr.Kind, decide.Reading, decide.Policy{})
		if v.Step == decide.StepAbort {
			return &HubError{Hub: p.Name, Err: err}
		}
		if !who.again(p, c, v, herr) {
			return err
		}
		if !clock.Sleep(ctx, who.wait(p, c, tries, herr)) {
			return context.Cause(ctx)
		}
	}
}

// wait returns how long to wait before a request is made again.
func (r *reader) wait(p *Pool, c pace.Class, tries int, err *hub.Error) time.Duration {
	least := err.Wait
	if err.Kind == hub.KindThrottled {
		least = max(least, decide.ThrottleFloor)
	}
	switch {
	case p.Pacer.Holds(c, least):
		return 0 // whoever is in line waits for the hub
	case err.Kind == hub.KindTokenExpired && r.expired == 1:
		return err.Wait
	}
	return decide.Backoff(r.retry, tries, least, decide.Jitter)
}

// again tells whether a request is worth one more try, and counts what it costs.
func (r *reader) again(p *Pool, c pace.Class, v decide.Verdict, err *hub.Error) bool {
	if err.Kind == hub.KindTokenExpired {
		if r.expired++; r.expired == 1 {
			return true
		}
	}
	switch {
	case v.Step == decide.StepWait:
		return true
	case v.Step != decide.StepRetry:
		return false
	case !r.brisk && p.Pacer.Spares(c, err, &r.excuse, r.retry.Attempts):
		return true
	}
	r.spent++
	return r.spent < r.retry.Attempts
}

// Read makes a request that changes nothing, or nothing more when it is made again,
// a few times if it must.
func (p *Pool) Read(ctx context.Context, c pace.Class, request func(Hub) error) error {
	retry := spec.Retry{Attempts: 3, Backoff: 250 * time.Millisecond, MaxBackoff: time.Second}
	err := p.read(ctx, reader{retry: retry, from: clock.Now(), brisk: true}, c, request)
	if _, refused := errors.AsType[*hub.Error](err); refused {
		return &HubError{Hub: p.Name, Err: err}
	}
	return err
}

// Preflight makes sure of a hub before anything is sent to its devices: that
// it is there, that it takes our credentials, and that it can be queried.
func Preflight(ctx context.Context, p *Pool) error {
	return p.Read(ctx, pace.Query, func(Hub) error { return p.ask(ctx) })
}

// ask asks the hub for something that it always has, and that changes nothing.
func (p *Pool) ask(ctx context.Context) error {
	_, err := p.Hub.Query(ctx, hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
	return err
}
