package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"iothub-runner/internal/render"
)

// environment is what the process is given: commands reach the outside through
// it alone, so that a test can give them another.
type environment struct {
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	json   bool   // everything on stderr is JSON; set by run
	state  string // folder of --state-dir; empty for the user's own
}

// run is the program: it returns the exit code and has said why on stderr.
func run(args []string, env environment) (code int) {
	// A report written into a closed pipe is an error to report, not a reason
	// to die with calls in flight.
	signal.Ignore(syscall.SIGPIPE)
	env.json = wantsJSON(args)
	plain := env
	env.stderr = &droppingWriter{
		out: env.stderr, json: env.json,
		crashed: func(value any, stack []byte) { os.Exit(crash(plain, value, stack)) },
	}
	env.stdout = &render.Escaper{Out: env.stdout}
	defer env.flush()
	defer func() {
		if p := recover(); p != nil {
			code = crash(env, p, debug.Stack())
		}
	}()
	if err := checkArguments(args); err != nil {
		return exitCode(env, err)
	}
	root := newRoot(env)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return exitCode(env, err)
}

// crash reports a panic as what it is: a fault of ours.
func crash(env environment, value any, stack []byte) int {
	f := &failure{code: exitInternal, err: fmt.Errorf("internal error: %v", value), hint: bugHint}
	if env.json {
		f.err = fmt.Errorf("%w\n%s", f.err, stack)
		complain(env, f)
	} else {
		complain(env, f)
		_, _ = env.stderr.Write(stack) // there is nobody left to tell
	}
	env.flush() // the process may end before run does
	return f.code
}

// wantsJSON finds --log-format json by itself: what is wrong with the other
// flags is to be said in JSON as well.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch {
		case arg == "--":
			return false
		case arg == "--log-format=json", arg == "--log-format" && i+1 < len(args) && args[i+1] == "json":
			return true
		}
	}
	return false
}

func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "runner",
		Short: "change a fleet of IoT devices from a reviewed file",
		Long: `runner carries out plans: YAML files of jobs for the devices of an Azure IoT Hub.
A job calls a direct method or patches twins, over a target query, after a delay.

  runner apply --emulator plan.yaml    try a plan, no account needed
  runner apply plan.yaml               carry it out on the hub of
                                       IOTHUB_SERVICE_CONNECTION_STRING`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Sprintf("unknown command %q", args[0]), didYouMean(cmd, args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(err.Error(), flagHint(cmd, err))
	})
	root.CompletionOptions.DisableDefaultCmd = true // ours is newCompletion
	root.AddCommand(newInit(env), newValidate(env), newPreview(env), newApply(env), newEmulator(env),
		newSchema(env), newExplain(env), newCompletion(env), newVersion(env))
	return root
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(err.Error(), see(cmd.CommandPath()))
		}
		return nil
	}
}

func newVersion(env environment) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.stdout, version)
			return err
		},
	}
}

// readFile reads a file that the user named; "-" is standard input.
func readFile(env environment, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(env.stdin)
	}
	return os.ReadFile(name) //nolint:gosec // the user names the file
}
