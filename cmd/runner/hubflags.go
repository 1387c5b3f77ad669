package main

import (
	"cmp"
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
	flags.StringVar(&f.emulator, "emulator", "", "use an emulated hub in this process, with the devices of `FLEET.yaml` or a built-in one; several hubs take one for all, or one for each with commas between")
	flags.Lookup("emulator").NoOptDefVal = builtinFleet
	flags.StringArrayVar(&f.jobs, "job", nil, "run only the job of this `NAME` (may be repeated)")
	flags.BoolVar(&f.strict, "strict", false, "treat warnings as errors, and an exclusion that excludes nothing")
	flags.StringVar(&f.engine, "engine", "", "have `ENGINE` carry out all jobs, instead of the plan's: direct or hubJobs")
	f.varFlags.add(flags)
	f.connection.add(flags)
}

// openedHubs are the hubs that a command uses.
type openedHubs struct {
	named    []target.NamedHub
	emulated bool
	clocks   clock.Hubs                                             // of emulated ones
	counts   []func(ctx context.Context, query string) (int, error) // none for emulated ones
	closers  []func()
}

// names returns their host names.
func (h *openedHubs) names() []string {
	names := make([]string, len(h.named))
	for i := range h.named {
		names[i] = h.named[i].Name
	}
	return names
}

func (h *openedHubs) close() {
	for _, one := range h.closers {
		one()
	}
}

// openHubs opens the hubs of a plan, each with so many connections at most.
func (f *hubFlags) openHubs(env environment, plan *spec.Plan, connections int, log *slog.Logger) (*openedHubs, error) {
	if f.auth != "key" && f.auth != authEntra {
		return nil, exit.Usage(fmt.Sprintf("--auth %q: want key or entra", f.auth), "")
	}
	hubs := plan.Hubs
	if len(hubs) == 0 {
		hubs = []spec.Hub{{}}
		if f.auth == authEntra && f.hostName == "" {
			hubs[0].HostName = plan.Hub.HostName
		}
	} else if f.stringFile != "" {
		return nil, exit.Usage("--connection-string-file is for one hub, and the plan has several", "set the variable of each hub's connectionStringEnv")
	}
	all := &openedHubs{emulated: f.emulator != ""}
	for i := range hubs {
		var err error
		if all.emulated {
			err = all.emulate(f, hubs, i, connections, log)
		} else {
			err = all.open(f.connection, env, &hubs[i], connections, log)
		}
		if err != nil {
			all.close()
			return nil, err
		}
	}
	return all, nil
}

// open opens one hub of a plan, or the only one, of which nothing need be known.
func (h *openedHubs) open(c connection, env environment, hub *spec.Hub, connections int, log *slog.Logger) error {
	c.hub, c.variable = hub.HostName, hub.ConnectionStringEnv
	client, err := c.open(env, connections, log)
	if err != nil {
		return err
	}
	if hub.HostName != "" && !strings.EqualFold(hub.HostName, client.HostName()) {
		client.Close()
		return &target.WrongHubError{Want: hub.HostName, Have: client.HostName()}
	}
	h.named = append(h.named, target.NamedHub{Name: client.HostName(), Hub: client})
	h.counts, h.closers = append(h.counts, client.Count), append(h.closers, client.Close)
	return nil
}

// emulate starts an emulated hub in the place of one of a plan's. Its fleet is that of
// all, or the one at the same place in the list of fleets.
func (h *openedHubs) emulate(f *hubFlags, hubs []spec.Hub, i, connections int, log *slog.Logger) error {
	fleets := strings.Split(f.emulator, ",")
	if len(fleets) > 1 && len(fleets) != len(hubs) {
		return exit.Usage(fmt.Sprintf("--emulator names %d fleets, and the plan has %d hubs", len(fleets), len(hubs)), "name one for each hub, or one for all")
	}
	client, server, err := openEmulator(fleets[min(i, len(fleets)-1)], f.emulated, f.connection, connections, log)
	if err != nil {
		return err
	}
	h.named = append(h.named, target.NamedHub{Name: cmp.Or(hubs[i].HostName, "emulator"), Hub: client})
	h.clocks = append(h.clocks, server)
	h.closers = append(h.closers, func() {
		client.Close()
		_ = server.Close() // it held nothing that outlives the run
	})
	return nil
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
