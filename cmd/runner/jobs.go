package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/output"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/render"
	"iothub-runner/internal/target"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// jobsFlags are the flags of runner jobs.
type jobsFlags struct {
	connection
	talkFlags
	format  string
	kind    string
	status  string
	limit   int
	devices bool
}

func newJobs(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "look at the hub's own jobs, and cancel them",
		Long: `jobs shows the jobs of the hub's own Jobs service, whoever made them: plans with
engine: hubJobs, the az client, or other programs. The hub remembers them for 30 days.`,
	}
	group(cmd)
	cmd.AddCommand(newJobsList(env), newJobsShow(env), newJobsCancel(env))
	return cmd
}

func newJobsList(env environment) *cobra.Command {
	var f jobsFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "list the hub's jobs",
		Example: "  runner jobs list --status running",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), env, func(ctx context.Context, h *jobHub) error { return f.list(ctx, env, h) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.status, "status", "", "only jobs with this `STATUS`: "+strings.Join(jobStatuses(), ", "))
	flags.StringVar(&f.kind, "type", "", "only jobs of this `TYPE`: "+hub.JobMethod+" or "+hub.JobTwin)
	flags.IntVar(&f.limit, "limit", 0, "at most `N` jobs (0: all)")
	f.addTo(cmd)
	completeFlag(cmd, "status", oneOf(jobStatuses()...))
	completeFlag(cmd, "type", oneOf(hub.JobMethod, hub.JobTwin))
	return cmd
}

func newJobsShow(env environment) *cobra.Command {
	var f jobsFlags
	cmd := &cobra.Command{
		Use:     "show JOB",
		Short:   "show a job of the hub, and what it did for each device",
		Example: "  runner jobs show --devices nightly-lock",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), env, func(ctx context.Context, h *jobHub) error { return f.show(ctx, env, h, args[0]) })
		},
	}
	cmd.Flags().BoolVar(&f.devices, "devices", false, "with a row for each device; the hub takes 20 queries a minute for each unit, of 100 rows")
	f.addTo(cmd)
	return cmd
}

func newJobsCancel(env environment) *cobra.Command {
	var f jobsFlags
	cmd := &cobra.Command{
		Use:   "cancel JOB",
		Short: "cancel a job of the hub that has not begun to run",
		Long: `cancel cancels a job that waits for its start. The hub cancels no job that runs: it
goes on until each of its devices has ended, or its time is over.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), env, func(ctx context.Context, h *jobHub) error { return f.cancel(ctx, env, h, args[0]) })
		},
	}
	f.addTo(cmd)
	return cmd
}

func (f *jobsFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "write `text` or json")
	f.connection.add(flags)
	f.talkFlags.add(flags)
	completeFlag(cmd, "format", oneOf("text", "json"))
}

func jobStatuses() []string {
	var names []string
	for _, s := range []hub.JobStatus{hub.JobQueued, hub.JobScheduled, hub.JobRunning, hub.JobCompleted, hub.JobFailed, hub.JobCancelled} {
		names = append(names, string(s))
	}
	return names
}

// jobHub is a hub whose jobs somebody looks at.
type jobHub struct {
	pool   *target.Pool
	client *hubclient.Client
}

// run opens the hub and has it looked at.
func (f *jobsFlags) run(ctx context.Context, env environment, look func(context.Context, *jobHub) error) error {
	if err := f.check(); err != nil {
		return err
	}
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	client, err := f.open(env, 1, talk.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := terminal.UntilSignal(ctx)
	defer stop()
	h := &jobHub{client: client}
	h.pool = target.NewPool(target.NamedHub{Name: client.HostName(), Hub: client}, &spec.Plan{}, spec.Shard{}, 0, talk.Paused)
	return look(ctx, h)
}

func (f *jobsFlags) check() error {
	switch {
	case f.format != "text" && f.format != "json":
		return exit.Usage(fmt.Sprintf("--format %q: want text or json", f.format), "")
	case f.status != "" && !slices.Contains(jobStatuses(), f.status):
		return exit.Usage(fmt.Sprintf("--status %q: want one of %s", f.status, strings.Join(jobStatuses(), ", ")), "")
	case f.kind != "" && f.kind != hub.JobMethod && f.kind != hub.JobTwin:
		return exit.Usage(fmt.Sprintf("--type %q: want %s or %s", f.kind, hub.JobMethod, hub.JobTwin), "")
	case f.limit < 0:
		return exit.Usage(fmt.Sprintf("--limit %d: want 0 or more", f.limit), "")
	}
	return nil
}

// list writes the jobs that the flags pick, as they come: a hub may remember many.
func (f *jobsFlags) list(ctx context.Context, env environment, h *jobHub) error {
	out := render.NewHubJobs(env.stdout, f.format)
	filter := hub.JobFilter{Type: f.kind, Status: hub.JobStatus(f.status), PageSize: target.PageSize}
	for n := 0; ; {
		var page hub.JobPage
		err := h.pool.Read(ctx, pace.JobCall, func(target.Hub) (err error) {
			page, err = h.client.Jobs(ctx, filter)
			return err
		})
		if err != nil {
			return err
		}
		for i := range page.Jobs {
			if n++; f.limit > 0 && n > f.limit {
				break
			}
			out.Job(&page.Jobs[i])
		}
		if page.Continuation == "" || f.limit > 0 && n >= f.limit {
			break
		}
		if page.Continuation == filter.Continuation {
			return &target.HubError{Hub: h.pool.Name, Err: errors.New("it lists the same jobs over and over")}
		}
		filter.Continuation = page.Continuation
	}
	return written(out.Close())
}

func (f *jobsFlags) show(ctx context.Context, env environment, h *jobHub, id string) error {
	var job hub.Job
	err := h.pool.Read(ctx, pace.JobCall, func(target.Hub) (err error) {
		job, err = h.client.Job(ctx, id)
		return err
	})
	if err != nil {
		return noSuchJob(id, err)
	}
	out := render.NewHubJob(env.stdout, f.format, &job)
	if f.devices {
		err = target.EachJobRow(ctx, h.pool.Name, h.pool.Read, id, func(row hub.JobRow) error {
			out.Row(&row)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return written(out.Close())
}

func (f *jobsFlags) cancel(ctx context.Context, env environment, h *jobHub, id string) error {
	var job hub.Job
	err := h.pool.Read(ctx, pace.JobCall, func(target.Hub) (err error) {
		job, err = h.client.CancelJob(ctx, id)
		return err
	})
	if herr, ok := errors.AsType[*hub.Error](err); ok && herr.StatusCode/100 == 4 && strings.Contains(herr.Error(), "OperationNotAllowedInCurrentState") {
		return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("job %s is not cancelled: %s", id, herr.Message), Hint: "the hub cancels jobs that wait for their start, and no others; see runner jobs show " + render.ShellWord(id)}
	}
	if err != nil {
		return noSuchJob(id, err)
	}
	out := render.NewHubJob(env.stdout, f.format, &job)
	return written(out.Close())
}

// noSuchJob says that the hub knows no job of this id, if that is what it is.
func noSuchJob(id string, err error) error {
	if herr, ok := errors.AsType[*hub.Error](err); ok && herr.Kind == hub.KindNotFound {
		return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("the hub knows no job %q", id), Hint: "it forgets jobs after 30 days; runner jobs list shows those that it knows"}
	}
	return err
}

func written(err error) error {
	if err == nil {
		return nil
	}
	return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("write: %w", output.Reason(err))}
}
