package target

import (
	"context"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
)

// Reading makes a request that changes nothing, as often as it takes.
type Reading func(ctx context.Context, c pace.Class, request func(Hub) error) error

// EachJobRow yields what a job of a hub did for each device, as far as the hub shows
// it, until yield or the hub returns an error.
func EachJobRow(ctx context.Context, name string, read Reading, id string, yield func(hub.JobRow) error) error {
	q := hub.Query{Text: "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = " + Quote(id), PageSize: PageSize}
	met := newTokens()
	for {
		var page hub.JobRowPage
		err := read(ctx, pace.Query, func(h Hub) (err error) {
			page, err = h.JobRows(ctx, q)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range page.Rows {
			if err := yield(row); err != nil {
				return err
			}
		}
		if page.Continuation == "" {
			return nil
		}
		if !met.advance(page.Continuation, len(page.Rows)) {
			return &ContinuationError{Hub: name, Page: len(met.seen) + 1, Token: page.Continuation}
		}
		q.Continuation = page.Continuation
	}
}
