package target

import (
	"context"
	"strings"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
)

// EachJobRow yields what a job of the hub did for each device, as far as the hub
// shows it, until yield or the hub returns an error.
func EachJobRow(ctx context.Context, p *Pool, id string, yield func(hub.JobRow) error) error {
	q := hub.Query{Text: "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '" + strings.ReplaceAll(id, "'", `\'`) + "'", PageSize: PageSize}
	met := newTokens()
	for {
		var page hub.JobRowPage
		err := p.Read(ctx, pace.Query, func(h Hub) (err error) {
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
			return &ContinuationError{Hub: p.Name, Page: len(met.seen) + 1, Token: page.Continuation}
		}
		q.Continuation = page.Continuation
	}
}
