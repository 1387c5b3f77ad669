package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/terminal"
)

// talkFlags say how much is said on stderr, and how.
type talkFlags struct {
	progress  string
	quiet     bool
	verbose   bool
	logFormat string
}

func (f *talkFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.progress, "progress", "auto", "`HOW` to show progress on stderr: auto, tty, plain or none")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only errors on stderr")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say a line for each device, and log every request to the hub (never a secret)")
	flags.StringVar(&f.logFormat, "log-format", "text", "`FORMAT` of everything on stderr: text or json")
}

func (c *connection) add(flags *pflag.FlagSet) {
	flags.StringVar(&c.stringFile, "connection-string-file", "", "read the hub's connection string from `FILE` (- is stdin) instead of "+connectionStringVar)
	flags.StringVar(&c.auth, "auth", "key", "`HOW` to ask the hub: key (a connection string, or the signature in "+sasTokenVar+") or entra (workload identity, managed identity, or az login)")
	flags.StringVar(&c.hostName, "hub", "", "with --auth entra: `HOST` of the hub (default: hub.hostName of the plan)")
	flags.StringVar(&c.caFile, "ca-file", "", "trust the certificate authorities in `FILE` (PEM) as well as the system's")
}

// talk makes what a command says on stderr.
func (f *talkFlags) talk(env environment) (*terminal.Talk, error) {
	if f.logFormat != "text" && f.logFormat != "json" {
		return nil, exit.Usage(fmt.Sprintf("--log-format %q: want text or json", f.logFormat), "")
	}
	if !slices.Contains([]string{"auto", "tty", "plain", "none"}, f.progress) {
		return nil, exit.Usage(fmt.Sprintf("--progress %q: want auto, tty, plain or none", f.progress), "")
	}
	return terminal.New(env.stderr, terminal.Manner{Getenv: env.getenv, JSON: env.json, Quiet: f.quiet, Verbose: f.verbose, Progress: f.progress}), nil
}

// fileFlags say who may read the files that a command writes.
type fileFlags struct{ mode string }

func (f *fileFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.mode, "file-mode", "0600", "write files with this `MODE`, in octal; they may contain values of variables")
}

// fileMode reads a mode such as 0640. Its owner reads and writes it in any case.
func (f *fileFlags) fileMode() (os.FileMode, error) {
	n, err := strconv.ParseUint(f.mode, 8, 32)
	if err != nil || n > 0o777 || n&0o600 != 0o600 {
		return 0, exit.Usage(fmt.Sprintf("--file-mode %q: want permissions in octal, from 0600 to 0777", f.mode), "0640 lets the group read the file, 0644 everybody")
	}
	return os.FileMode(n), nil
}
