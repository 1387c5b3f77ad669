package target

import (
	"context"
	"iter"
	"strings"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// ByID yields conditions that select the devices of rows by their ids, as many in
// each as one page can answer and one query can hold, with the number of them.
// Modules are left out.
func ByID(rows []hub.Row) iter.Seq2[string, int] {
	devices := make([]string, 0, len(rows))
	for _, row := range rows {
		if row.ModuleID == "" {
			devices = append(devices, row.DeviceID)
		}
	}
	return byID(devices)
}

func byID(devices []string) iter.Seq2[string, int] {
	const maxChars = 7000 // a query may have 8192
	return func(yield func(string, int) bool) {
		for len(devices) > 0 {
			condition, n := InDevices(devices, PageSize, maxChars)
			if !yield(condition, n) {
				return
			}
			devices = devices[n:]
		}
	}
}

// InDevices returns a condition that names the first of some devices, and how many:
// as many as there may be, and as have room in about so many characters.
func InDevices(devices []string, most, chars int) (condition string, n int) {
	var b strings.Builder
	b.WriteString("deviceId IN [")
	for ; n < min(len(devices), most) && b.Len() < chars; n++ {
		if n > 0 {
			b.WriteByte(',')
		}
		b.WriteString(Quote(devices[n]))
	}
	return b.String() + "]", n
}

// Quote writes a text as the query language has it.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `\'`) + "'" }

// Look finds what the query index shows of some targets of one hub, as long as
// the hub takes queries at once. It is worth a request for each that is not
// found, so it neither waits nor tries again.
func (r *Roster) Look(ctx context.Context, pool int, targets []hub.Target, columns spec.Columns) map[hub.Target]hub.Row {
	found, _ := r.lookUp(targets, columns, func(q hub.Query) (hub.Page, error) { return r.Pools[pool].query(ctx, q) })
	return found
}

// Await is a Look that waits for the hub and tries again.
func (r *Roster) Await(ctx context.Context, pool int, targets []hub.Target, columns spec.Columns) map[hub.Target]hub.Row {
	found, _ := r.lookUp(targets, columns, func(q hub.Query) (hub.Page, error) { return r.queryPage(ctx, pool, q) })
	return found
}

func (r *Roster) lookUp(targets []hub.Target, columns spec.Columns, ask func(hub.Query) (hub.Page, error)) (map[hub.Target]hub.Row, error) {
	source, wanted := spec.SourceDevices, make(map[hub.Target]bool, len(targets))
	var devices []string
	seen := map[string]bool{}
	for _, t := range targets {
		wanted[t] = true
		if t.ModuleID != "" {
			source = spec.SourceModules
		}
		if !seen[t.DeviceID] {
			seen[t.DeviceID] = true
			devices = append(devices, t.DeviceID)
		}
	}
	found := make(map[hub.Target]hub.Row, len(targets))
	for condition := range byID(devices) {
		q := hub.Query{Text: (&spec.Target{Source: source, Where: condition}).Query(columns), PageSize: PageSize}
		for more := true; more; more = q.Continuation != "" {
			p, err := ask(q)
			if err != nil {
				return found, err
			}
			for _, row := range p.Rows {
				if wanted[row.Target] {
					found[row.Target] = row
				}
			}
			if q.Continuation == p.Continuation {
				break
			}
			q.Continuation = p.Continuation
		}
	}
	return found, nil
}

// errBusy means that the hub takes no query at once.
var errBusy = &hub.Error{Kind: hub.KindThrottled, Message: "no query is due"}

// query makes one attempt at a page, if the hub takes one now.
func (p *Pool) query(ctx context.Context, q hub.Query) (hub.Page, error) {
	if !p.Pacer.TryTake(pace.Query) {
		return hub.Page{}, errBusy
	}
	began := clock.Now()
	page, err := p.Hub.Query(ctx, q)
	p.Pacer.Answered(pace.Query, began, err)
	return page, err
}
