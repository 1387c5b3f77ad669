package runner

import (
	"context"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/hub"
)

// looker returns what looks up the twins of targets that the listing brought too
// early to keep them: a query for a hundred of them costs less than a read for
// each. Where the hub has no time for queries they go as they are, and are read.
// Nil if the job does not look at twins, or has to know all of them: whose change a
// twin shows that a pinned preview holds cannot be told from a row of the index.
func (d *direct) looker(ctx context.Context) func([]*item) {
	roster := &d.ledger.roster
	if !roster.Looks.ETag || d.ledger.pins != nil {
		return nil
	}
	return func(items []*item) {
		d.owned.Go(guarded(d.crashed, func() {
			clock.Work()
			defer clock.Rest()
			targets := make([]hub.Target, len(items))
			for i, it := range items {
				targets[i] = it.Target
			}
			found := roster.Look(ctx, items[0].Pool, targets, roster.Looks)
			for _, it := range items {
				if row, ok := found[it.Target]; ok {
					it.sight = roster.Sight(&row)
				}
			}
			d.feed.looked <- items
		}))
	}
}
