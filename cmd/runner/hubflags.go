package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/exit"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// hubFlags say which plan meets which hub. The commands that ask a hub about a
// plan share them.
type hubFlags struct {
	connection
	varFlags
	emulator string
	emulated emulatedHub
	jobs     []string
	strict   bool
	engine   string
}

// emulatedHub is what an emulated hub is like, besides its fleet.
type emulatedHub struct {
	at   time.Time // when its time begins; zero for now
	tier string
}

// builtinFleet is the value of --emulator without a file.
const builtinFleet = "built-in"

func (f *hubFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.emulator, "emulator", "", "use an emulated hub in this process, with the devices of `FLEET.yaml` or a built-in one")
	flags.Lookup("emulator").NoOptDefVal = builtinFleet
	flags.StringArrayVar(&f.jobs, "job", nil, "run only the job of this `NAME` (may be repeated)")
	flags.BoolVar(&f.strict, "strict", false, "treat warnings as errors, and an exclusion that excludes nothing")
	flags.StringVar(&f.engine, "engine", "", "have `ENGINE` carry out all jobs, instead of the plan's: direct or hubJobs")
	f.varFlags.add(flags)
	f.connection.add(flags)
}

// openedHub is the hub that a command uses.
type openedHub struct {
	name     string
	client   target.Hub
	emulated bool
	clock    clock.Hub                                            // of an emulated one
	count    func(ctx context.Context, query string) (int, error) // nil for an emulated one
	close    func()
}

// openHub opens the hub with so many connections at most.
func (f *hubFlags) openHub(env environment, connections int, log *slog.Logger) (*openedHub, error) {
	if f.emulator != "" {
		return openEmulator(f.emulator, f.emulated, connections, log)
	}
	client, err := f.open(env, connections, log)
	if err != nil {
		return nil, err
	}
	return &openedHub{name: client.HostName(), client: client, count: client.Count, close: client.Close}, nil
}

// openPlan opens the plan that these flags say something about. The caller gives it
// where else values of variables come from.
func (f *hubFlags) openPlan(env environment, file string) (planSource, error) {
	vars, err := f.values(env)
	if err != nil {
		return planSource{}, err
	}
	src, err := openPlan(env, file, vars)
	if err != nil {
		return src, err
	}
	src.strict = f.strict
	src.opts.Engine, err = f.chosenEngine()
	return src, err
}

// selectJobs leaves the named jobs in the plan; all if none is named.
func selectJobs(plan *spec.Plan, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(plan.Jobs, func(j spec.Job) bool { return j.Name == name }) {
			return exit.Usage(fmt.Sprintf("--job %q: the plan has no such job", name), "its jobs are "+jobNames(plan))
		}
	}
	plan.Jobs = slices.DeleteFunc(plan.Jobs, func(j spec.Job) bool { return !slices.Contains(names, j.Name) })
	return nil
}

func jobNames(plan *spec.Plan) string {
	names := make([]string, len(plan.Jobs))
	for i := range plan.Jobs {
		names[i] = plan.Jobs[i].Name
	}
	return strings.Join(names, ", ")
}
