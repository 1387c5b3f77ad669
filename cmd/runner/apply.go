package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/exit"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/output"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/state"
	"iothub-runner/internal/target"
	"iothub-runner/internal/telemetry"
	"iothub-runner/internal/terminal"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// applyFlags are the flags of runner apply.
type applyFlags struct {
	hubFlags
	talkFlags
	fileFlags
	reports     []string
	journal     string
	stateDir    string
	concurrency int
	rate        string
	grace       time.Duration
	outage      time.Duration
	yes         bool
	resume      string
	orStart     bool
	asIf        string
	tier        string
	only        []string
	durability  string
	lockTimeout time.Duration
	detach      bool
	output      string
	tell        tellFlags
	noSummary   bool
	shardText   string
	shard       spec.Shard // read from it
}

func newApply(env environment) *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply PLAN|PINNED",
		Short: "run a plan and report the result for each device",
		Long: `apply checks a plan and runs its jobs, all at once and each at its time. It writes a
JSON report with one row for each device of each job.

With a pinned preview (runner preview --out) it touches only the devices in the
preview, and skips those whose twins have changed since.

Progress goes to stderr, the report to stdout or to the files of --report.`,
		Example: `  runner apply --emulator examples/tutorial.yaml
  runner apply --report report.json plan.yaml`,
		Args: onePlan,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("concurrency") && f.concurrency < 1 {
				return exit.Usage(fmt.Sprintf("--concurrency %d: want at least 1", f.concurrency), "")
			}
			if f.outage <= 0 {
				return exit.Usage(fmt.Sprintf("--outage %s: want a time above zero, such as 10m", f.outage), "")
			}
			var err error
			if f.shard, err = parseShard(f.shardText, env.getenv); err != nil {
				return err
			}
			env.state = f.stateDir
			return runApply(cmd.Context(), env, &f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.reports, "report", nil, "write the report to `[FORMAT=]FILE` (- is stdout, the default; may be repeated); FORMAT is json, html, markdown, junit, csv or ndjson, by default what the name ends in")
	flags.StringVar(&f.journal, "journal", "", "keep the journal in `FILE` (default below $XDG_STATE_HOME/runner)")
	flags.StringVar(&f.stateDir, "state-dir", "", "keep journals and locks below `DIR` (default $XDG_STATE_HOME/runner, or ~/.local/state/runner)")
	flags.IntVar(&f.concurrency, "concurrency", 0, "run at most `N` attempts at once in each job, instead of the plan's")
	flags.StringVar(&f.rate, "rate", "", "make attempts at most at this `RATE` in each job, such as 40/s; a lower rate in the plan wins")
	flags.DurationVar(&f.grace, "grace", time.Minute, "how long an interrupted run waits for calls in flight (`TIME`)")
	flags.DurationVar(&f.outage, "outage", target.DefaultOutage, "how long jobs wait for a hub that takes no calls before they stop (`TIME`)")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask for confirmation at a terminal before changing devices of a real hub")
	flags.StringVar(&f.resume, "resume", "", "resume the `RUN` of this journal, id or report, or the last unfinished one (last); --journal says where its journal is")
	flags.BoolVar(&f.orStart, "or-start", false, "with --resume last: start a new run if none is unfinished")
	flags.StringVar(&f.asIf, "as-if", "", "with --emulator: begin at this `TIME`, such as 2026-12-01T01:55:00Z, and jump over waits in which nothing is in flight")
	flags.StringVar(&f.tier, "tier", "", "with --emulator: a hub of this `TIER` (free, S1, S2 or S3), which refuses what is beyond its throttles")
	flags.StringSliceVar(&f.only, "only", nil, "with --resume: retry only devices with these `OUTCOMES`, such as failed,offline (failed includes rejected, unanswered and unconfirmed)")
	flags.StringVar(&f.durability, "durability", "batch", "`WHEN` to sync the journal to disk: always, batch (at most 100 ms behind) or off")
	flags.StringVar(&f.shardText, "shard", "", "act on the `K/N`th part of the devices, such as 2/5, with that share of the hub's rates; run the others elsewhere. auto/N takes K from "+completionVar+", as Kubernetes sets it")
	flags.StringVar(&f.output, "output", "report", "write `WHAT` to stdout: the report at the end, or ndjson, a line for each event as it happens")
	flags.BoolVar(&f.noSummary, "no-summary", false, "do not add the result to the file that "+stepSummaryVar+" names")
	flags.BoolVar(&f.detach, "detach", false, "end once the hub has taken every job; --resume collects the report (engine hubJobs)")
	flags.DurationVar(&f.lockTimeout, "lock-timeout", 0, "how long to wait for another run of this plan on this hub (`TIME`)")
	f.tell.add(flags)
	f.hubFlags.add(flags)
	f.talkFlags.add(flags)
	f.fileFlags.add(flags)
	completePlan(cmd)
	completeFlag(cmd, "durability", oneOf("always", "batch", "off"))
	return cmd
}

// gcPercent is how much garbage may stand beside what is in use in a run.
const gcPercent = 20

// runApply checks everything that can be checked before a hub is asked, then
// carries the plan out.
func runApply(ctx context.Context, env environment, f *applyFlags, file string) error {
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	// What grows with the fleet are records without pointers, which cost the
	// collector nothing to look at: it may as well come often, and the process
	// stay small.
	debug.SetGCPercent(gcPercent)
	plan, pinned, hubs, err := f.prepare(env, talk, file)
	if err != nil {
		return err
	}
	defer hubs.close()
	if f.asIf != "" {
		defer clock.Rehearse(hubs.clocks)()
	}
	if err = f.confirm(ctx, env, talk, hubs, plan, pinned); err != nil {
		return err
	}
	return f.carryOut(ctx, env, talk, file, plan, pinned, hubs)
}

// carryOut carries a plan out on a hub that is open: nothing was sent yet, and
// reports, lock and journal may still refuse it.
func (f *applyFlags) carryOut(ctx context.Context, env environment, talk *terminal.Talk, file string, plan *spec.Plan, pinned *preview.Pinned, hubs *openedHubs) error {
	mode, err := f.fileMode()
	if err != nil {
		return err
	}
	reports, err := f.openReports(env, file, mode)
	if err != nil {
		return err
	}
	defer reports.Discard()
	place := placeOf(env, hubs, plan)
	place.Shard = f.shard
	unlock, err := place.Lock(ctx, f.lockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	record, err := f.request(place).Open(plan, pinned)
	if err != nil {
		return err
	}
	defer func() { sayDropped(talk, record.Close()) }()
	record.Plan, record.Flags = file, f.again()
	if f.shard.Of > 0 {
		record.Flags = append(record.Flags, "--shard", f.shard.String())
	}
	if f.stateDir != "" {
		record.Flags = append(record.Flags, "--state-dir", f.stateDir)
	}

	signals := terminal.WatchSignals(ctx, talk, f.grace)
	defer signals.Stop()
	signals.WatchOutput(reports.Stdout)
	reports.Last = signals.Stop // who does not read stdout can still end the program
	sayPlan(talk, plan, hubs)
	watch, err := f.watchers(ctx, env, talk, record, hubs)
	if err != nil {
		record.Unused = true
		return err
	}
	defer watch.close()
	run, err := runner.Apply(signals.Dispatch, plan, runner.Options{
		Hubs:      hubs.named,
		Journal:   record.Writer,
		Past:      record.Past,
		Only:      record.Only,
		Pinned:    pinned,
		RunID:     record.ID,
		Runner:    version,
		Observer:  watch.observers,
		RowEnded:  watch.rows(),
		Within:    watch.within(),
		Outage:    f.outage,
		Paused:    talk.Paused,
		Work:      signals.Work,
		Grace:     f.grace,
		Crashed:   func(value any, stack []byte) { os.Exit(crash(env, value, stack)) },
		Rehearsal: hubs.emulated,
		AsIf:      f.asIf != "",
		Detach:    f.detach,
		Shard:     f.shard,
	})
	watch.live.Stop()
	if err != nil {
		record.Unused = true
		return err
	}
	return f.conclude(run, env, talk, reports, record, watch)
}

// sayPlan says which plan meets which hubs.
func sayPlan(talk *terminal.Talk, plan *spec.Plan, hubs *openedHubs) {
	text := fmt.Sprintf("plan %s (%s, sha256 %s)", plan.Name, plan.File, plan.SHA256[:min(len(plan.SHA256), shortHash)])
	attrs := []slog.Attr{slog.String("event", "plan"), slog.String("plan", plan.Name), slog.String("sha256", plan.SHA256)}
	if !hubs.emulated {
		text += " on hub " + strings.Join(hubs.names(), ", ")
		attrs = append(attrs, slog.String("hub", strings.Join(hubs.names(), ", ")))
	}
	talk.Line(text, attrs...)
}

// shortHash is how much of a hash people compare.
const shortHash = 12

// placeOf is where the state of a plan on its hubs is kept.
func placeOf(env environment, hubs *openedHubs, plan *spec.Plan) state.Place {
	names := hubs.names()
	return state.Place{Hub: names[0], Others: names[1:], Plan: plan.Name, Emulated: hubs.emulated, StateDir: env.state, Getenv: env.getenv}
}

func (f *applyFlags) request(at state.Place) state.Request {
	return state.Request{Place: at, Journal: f.journal, Resume: f.resume, OrStart: f.orStart, Only: f.only, Durability: f.durability, Runner: version}
}

// recorded returns the variables of the run that is to go on, which may have been
// given on a command line.
func (f *applyFlags) recorded(env environment, text []byte) map[string]string {
	if f.resume == "" {
		return nil
	}
	at := state.Place{Shard: f.shard, Emulated: f.emulator != "", StateDir: env.state, Getenv: env.getenv}
	at.Plan, at.Hub = planfile.NameOf(text)
	if cs, err := f.connectionString(env); err == nil && !at.Emulated && at.Hub == "" {
		if parsed, parseErr := hubclient.ParseConnectionString(cs); parseErr == nil {
			at.Hub = parsed.HostName
		}
	}
	if at.Plan == "" || at.Hub == "" && !at.Emulated {
		return nil
	}
	return f.request(at).RecordedVars()
}

// prepare reads the plan and opens its hub, for as many calls at once as the
// plan has once the flags stand above it.
func (f *applyFlags) prepare(env environment, talk *terminal.Talk, file string) (*spec.Plan, *preview.Pinned, *openedHubs, error) {
	plan, pinned, err := f.planOf(env, talk, file)
	if err == nil {
		err = override(plan, f)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if err = checkEngine(plan, pinned != nil); err == nil && f.detach {
		err = f.checkDetach(plan)
	}
	if err == nil {
		err = f.checkShard(plan, pinned != nil)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	at, err := f.rehearsalTime()
	if err != nil {
		return nil, nil, nil, err
	}
	if f.asIf != "" && f.tier == "" {
		plan.Hub.SKU, plan.Hub.Units = "", 0 // nobody waits for throttles that are not there
		for i := range plan.Hubs {
			plan.Hubs[i].SKU, plan.Hubs[i].Units = "", 0
		}
	}
	env.detach()
	if f.tell.otlp != "" {
		f.trace = telemetry.TraceParent
	}
	f.emulated = emulatedHub{at: at, tier: f.tier}
	hubs, err := f.openHubs(env, plan, connections(plan), talk.Log)
	if err != nil {
		return nil, nil, nil, err
	}
	if pinned != nil {
		if err = pinned.Check(plan, hubs.names()); err != nil {
			hubs.close()
			return nil, nil, nil, err
		}
	}
	return plan, pinned, hubs, nil
}

// rehearsalTime is when a rehearsal begins; zero if there is none.
func (f *applyFlags) rehearsalTime() (at time.Time, err error) {
	switch {
	case f.emulator == "" && (f.asIf != "" || f.tier != ""):
		return at, exit.Usage("--as-if and --tier go with --emulator", "the time of a real hub cannot be jumped over")
	case f.asIf == "":
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339, f.asIf); err != nil {
		return at, exit.Usage(fmt.Sprintf("--as-if %q is not a time with its zone", f.asIf), "write it as 2026-12-01T01:55:00Z or 2026-12-01T02:55:00+01:00")
	}
	return at, nil
}

// again returns the flags without which the command that goes on with this run
// would meet another hub, or other jobs.
func (f *hubFlags) again() []string {
	var args []string
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				args = append(args, flag, v)
			}
		}
	}
	add("--connection-string-file", f.stringFile)
	add("--ca-file", f.caFile)
	if f.auth == authEntra {
		add("--auth", f.auth)
	}
	add("--hub", f.hostName)
	add("--job", f.jobs...)
	add("--engine", f.engine)
	add("--var-file", f.files...)
	if f.strict {
		args = append(args, "--strict")
	}
	for _, v := range f.vars { // the value may be a secret
		name, _, _ := strings.Cut(v, "=")
		args = append(args, "--var", name+"=...")
	}
	return args
}

// conclude writes the reports of a run that has ended and says how it went.
func (f *applyFlags) conclude(run *runner.Run, env environment, talk *terminal.Talk, reports *output.Files, record *state.Record, watch *watchers) error {
	code := codeOfRun(run)
	doc := run.Document(code)
	rep := doc.Head()
	talk.RunEnded(rep)
	watch.end(rep)
	f.stepSummary(env, talk, doc)
	err := reports.Write(doc, func(w io.Writer) error {
		return render.Summary(terminal.Below(w), rep, render.Style{Color: talk.Colors()}, again(record))
	})
	if err != nil {
		record.Keep = true
		return &exit.Error{
			Code: max(code, exit.Missed), Err: err,
			Hint: "the run itself " + string(rep.Run.Status) + "; every row is in the journal " + record.Path,
		}
	}
	for _, name := range reports.Names {
		talk.Line("report "+name, slog.String("event", "report"), slog.String("file", name))
	}
	if run.Status() == spec.StatusDetached {
		talk.Line("the hub goes on by itself; collect the report with "+again(record), slog.String("event", "detached"), slog.String("collect", again(record)))
	}
	if code == exit.OK {
		return nil
	}
	if !reports.Brief() {
		digest(talk, rep)
	}
	return verdict(rep, run.Cause(), reports.SeeWhy(), record)
}

// onePlan checks the arguments of apply and preview, which take one plan at a time.
func onePlan(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return exit.Usage("no plan given", fmt.Sprintf("name the file: runner %s PLAN", cmd.Name()))
	case len(args) > 1 && cmd.Flags().Changed("emulator"):
		return exit.Usage(fmt.Sprintf("one plan at a time, not %d: %q", len(args), args), "the fleet goes after an equals sign: --emulator=FLEET.yaml")
	case len(args) > 1:
		return exit.Usage(fmt.Sprintf("one plan at a time, not %d: %q", len(args), args), "a plan can hold several jobs")
	}
	return nil
}

// override applies the flags that stand above the plan.
func override(plan *spec.Plan, f *applyFlags) error {
	if err := selectJobs(plan, f.jobs); err != nil {
		return err
	}
	limit := 0.0
	if f.rate != "" {
		var err error
		if limit, err = planfile.ParseRate(f.rate); err != nil || limit <= 0 {
			return exit.Usage(fmt.Sprintf("--rate %q is not a rate", f.rate), "write a number per second, minute or hour: 40/s, 300/m or 10/h")
		}
	}
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		if job.Engine == spec.EngineHubJobs && (f.concurrency > 0 || limit > 0) {
			return exit.Usage(fmt.Sprintf("job %s: --rate and --concurrency are not for the engine hubJobs: the hub has a pace of its own", job.Name), "leave them out, or name other jobs with --job")
		}
		if f.concurrency > 0 {
			job.Concurrency = f.concurrency
		}
		if limit > 0 && (job.Rate == 0 || limit < job.Rate) {
			job.Rate = limit
		}
	}
	return nil
}

// connections is how many the plan can use at once: one for each attempt that
// may be under way, and one for each job's listing.
func connections(plan *spec.Plan) int {
	n := 0
	for i := range plan.Jobs {
		n += plan.Jobs[i].Concurrency + 1
	}
	return n
}
