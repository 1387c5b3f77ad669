package target

import (
	"context"

	"iothub-runner/internal/hub"
)

// A Hub is what Apply needs of an IoT hub. Implementations must be safe for
// concurrent use and must not retry: the attempt, its number and its cost
// belong to the plan. Every error that a method returns is a [*hub.Error].
type Hub interface {
	// Query returns one page of rows. The rows belong to the caller.
	Query(ctx context.Context, q hub.Query) (hub.Page, error)
	// Twin reads a twin directly, past the query index.
	Twin(ctx context.Context, t hub.Target) (hub.Twin, error)
	// PatchTwin merges p into a twin if its etag is ifMatch, or in any case
	// when ifMatch is [hub.AnyETag].
	PatchTwin(ctx context.Context, t hub.Target, p hub.Patch, ifMatch string) (hub.Twin, error)
	// Invoke calls a direct method and waits for the device's answer.
	Invoke(ctx context.Context, t hub.Target, c hub.Call) (hub.Answer, error)
	JobHub
}

// JobHub is the hub's own Jobs service.
type JobHub interface {
	// CreateJob has the hub carry out a job. It may be tried again: the hub holds
	// one job of an id.
	CreateJob(ctx context.Context, j hub.NewJob) error
	Job(ctx context.Context, id string) (hub.Job, error)
	// CancelJob cancels a job that has not begun to run.
	CancelJob(ctx context.Context, id string) (hub.Job, error)
	// JobRows returns one page of a query of devices.jobs.
	JobRows(ctx context.Context, q hub.Query) (hub.JobRowPage, error)
}
