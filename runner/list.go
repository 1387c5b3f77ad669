package runner

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"iothub-runner/internal/hub"
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

// list sends the targets of the job to pages, in the order in which the hubs
// list them, and the ones named in the plan last. A target may come twice.
func (j *jobRun) list(ctx context.Context, pages chan<- page) error {
	if text := j.queryText(); text != "" {
		for pool := range j.pools {
			if err := j.listPool(ctx, pool, text, pages); err != nil {
				return err
			}
		}
	}
	named := make([]hub.Row, 0, len(j.job.Target.Devices))
	for _, id := range j.job.Target.Devices {
		named = append(named, hub.Row{Target: hub.Target{DeviceID: id.Device, ModuleID: id.Module}})
	}
	return send(ctx, pages, page{rows: named})
}

func (j *jobRun) listPool(ctx context.Context, pool int, text string, pages chan<- page) error {
	q := hub.Query{Text: text, PageSize: pageSize}
	for {
		p, err := j.queryPage(ctx, pool, q)
		if err != nil {
			return err
		}
		if err := send(ctx, pages, page{pool: pool, rows: p.Rows}); err != nil {
			return err
		}
		if p.Continuation == "" {
			return nil
		}
		q.Continuation = p.Continuation
	}
}

func send(ctx context.Context, pages chan<- page, p page) error {
	if len(p.rows) == 0 {
		return ctx.Err()
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
func (j *jobRun) queryText() string {
	t := j.job.Target
	if !t.All && t.Where == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	if t.Top > 0 {
		b.WriteString("TOP " + strconv.Itoa(t.Top) + " ")
	}
	b.WriteString("deviceId")
	if t.Source == spec.SourceModules {
		b.WriteString(", moduleId")
	}
	if u := j.job.Twin; u != nil {
		b.WriteString(", etag")
		if u.Tags != nil {
			b.WriteString(", tags")
		}
		if u.Desired != nil {
			b.WriteString(", properties.desired AS desired")
		}
	}
	b.WriteString(" FROM " + string(t.Source))
	if t.Where != "" {
		b.WriteString(" WHERE " + t.Where)
	}
	return b.String()
}

// queryPage reads one page, as often as it takes.
func (j *jobRun) queryPage(ctx context.Context, pool int, q hub.Query) (hub.Page, error) {
	return j.pools[pool].query(ctx, j.job.Retry, q)
}

// query reads one page, as often as it takes.
func (p *pool) query(ctx context.Context, retry spec.Retry, q hub.Query) (hub.Page, error) {
	spent, expired := 0, false
	for tries := 1; ; tries++ {
		if !p.pacer.take(ctx, ClassQuery, 1) {
			return hub.Page{}, context.Cause(ctx)
		}
		began := time.Now()
		result, err := p.Hub.Query(ctx, q)
		p.pacer.answered(ClassQuery, time.Since(began), err)
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return hub.Page{}, context.Cause(ctx)
		}
		herr := asHubError(err)
		switch v := decide(herr.Kind, reading, policy{}); {
		case herr.Kind == hub.KindTokenExpired && !expired:
			expired = true
			continue
		case v.step == stepAbort, herr.Kind == hub.KindTokenExpired:
			return hub.Page{}, &HubError{Hub: p.Name, Err: err}
		case v.step == stepWait:
			herr.Wait = max(herr.Wait, throttleFloor)
		case v.step == stepRetry && spent+1 < retry.Attempts:
			spent++
		default:
			return hub.Page{}, err
		}
		if !sleep(ctx, backoff(retry, tries, herr.Wait, jitter)) {
			return hub.Page{}, context.Cause(ctx)
		}
	}
}

// preflight makes sure of a hub before anything is sent to its devices: that
// it is there, that it takes our credentials, and that it can be queried.
func preflight(ctx context.Context, p *pool) error {
	retry := spec.Retry{Attempts: 3, Backoff: 250 * time.Millisecond, MaxBackoff: time.Second}
	_, err := p.query(ctx, retry, hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
	if _, refused := errors.AsType[*hub.Error](err); refused {
		return &HubError{Hub: p.Name, Err: err}
	}
	return err
}
