package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/mask"
	"iothub-runner/internal/render"
	"iothub-runner/internal/terminal"
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
	env.stderr = &terminal.Writer{
		Out: env.stderr, JSON: env.json, Clean: mask.Keys,
		Crashed: func(value any, stack []byte) { os.Exit(crash(plain, value, stack)) },
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
	f := &exit.Error{Code: exit.Internal, Err: fmt.Errorf("internal error: %v", value), Hint: bugHint}
	if env.json {
		f.Err = fmt.Errorf("%w\n%s", f.Err, stack)
		complain(env, f)
	} else {
		complain(env, f)
		_, _ = env.stderr.Write(stack) // there is nobody left to tell
	}
	env.flush() // the process may end before run does
	return f.Code
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
		Short: "apply a reviewed plan to a fleet of IoT devices",
		Long: `runner applies plans: YAML files of jobs for the devices of an Azure IoT Hub. A job
calls a direct method or patches twins, for the devices of a query, after a delay.

  runner apply --emulator plan.yaml    try a plan, no account needed
  runner apply plan.yaml               run it on the hub of
                                       IOTHUB_SERVICE_CONNECTION_STRING`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	group(root)
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit.Usage(err.Error(), flagHint(cmd, err))
	})
	root.CompletionOptions.DisableDefaultCmd = true // ours is newCompletion
	root.AddCommand(newInit(env), newValidate(env), newPreview(env), newApply(env), newReport(env), newRuns(env), newUndo(env), newJobs(env), newEmulator(env),
		newSchema(env), newExplain(env), newCompletion(env), newVersion(env), newMan(env))
	return root
}

// group makes a command one that has others and does nothing by itself.
func group(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return exit.Usage(fmt.Sprintf("unknown command %q", args[0]), didYouMean(cmd, args[0]))
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return exit.Usage(err.Error(), see(cmd.CommandPath()))
		}
		return nil
	}
}

func newVersion(env environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			switch format {
			case "text":
				_, err := fmt.Fprintln(env.stdout, version)
				return err
			case "json":
				return json.NewEncoder(env.stdout).Encode(built())
			}
			return exit.Usage(fmt.Sprintf("--format %q: want text or json", format), "")
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "write `FORMAT`: text or json")
	completeFlag(cmd, "format", oneOf("text", "json"))
	return cmd
}

// build is of what this program was built.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"` // of the commit
	Modified bool   `json:"modified"`       // the checkout was not that of the commit
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func built() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// newMan writes the manual. Whoever packs a release calls it.
func newMan(env environment) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "write the manual pages", Hidden: true, Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			header := &doc.GenManHeader{Title: "RUNNER", Section: "1", Source: "runner " + version, Manual: "runner"}
			if seconds, err := strconv.ParseInt(env.getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				at := time.Unix(seconds, 0).UTC()
				header.Date = &at
			}
			err := os.MkdirAll(args[0], 0o755) //nolint:gosec // everybody may read a manual
			if err == nil {
				cmd.Root().DisableAutoGenTag = true
				err = doc.GenManTree(cmd.Root(), header, args[0])
			}
			if err != nil {
				return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("write the manual: %w", err)}
			}
			return nil
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

// detach lets talk no longer hold up work.
func (env environment) detach() {
	if d, ok := env.stderr.(*terminal.Writer); ok {
		d.Detach()
	}
}

// showsKeys lets keys stand in what is said.
func (env environment) showsKeys() {
	if d, ok := env.stderr.(*terminal.Writer); ok {
		d.Clean = nil
	}
}

// flush waits a little for what was said to be read.
func (env environment) flush() {
	if d, ok := env.stderr.(*terminal.Writer); ok {
		d.Flush()
	}
}

// checkArguments refuses a command line that holds a secret, before any part of
// it is read, echoed or written down. A path was meant where the text of the
// file stands, most likely.
func checkArguments(args []string) error {
	for i, arg := range args {
		if mask.KeyShape.MatchString(arg) {
			return exit.Usage(
				fmt.Sprintf("argument %d holds a key or a signature of a hub (not shown); every user of this machine can read arguments", i+1),
				"put the connection string into "+connectionStringVar+", or into a file and name the file with --connection-string-file; then renew the key")
		}
	}
	return nil
}
