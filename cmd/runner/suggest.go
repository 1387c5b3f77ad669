package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"iothub-runner/spec"
)

// otherNames are what commands and flags are called in tools that people know.
func otherNames() map[string]string {
	return map[string]string{
		"plan": "runner preview", "diff": "runner preview", "dryrun": "runner preview", "what-if": "runner preview",
		"check": "runner validate", "lint": "runner validate", "run": "runner apply", "deploy": "runner apply", "exec": "runner apply",
		"up": "runner apply", "resume": "runner apply PLAN --resume last", "new": "runner init", "help": "runner --help",
		"simulate": "runner emulator", "serve": "runner emulator", "doc": "runner explain", "docs": "runner explain",
		"--dry-run": "runner preview", "--check": "runner preview", "--diff": "runner preview", "--plan": "runner preview",
		"--auto-approve": "--yes", "--force": "--yes", "--parallelism": "--concurrency", "--forks": "--concurrency", "--parallel": "--concurrency",
		"--limit": "--job", "--extra-vars": "--var", "--output": "--report", "--login": "--connection-string-file",
		"--connection-string": "--connection-string-file", "--continue": "--resume", "--retry": "--resume",
	}
}

// didYouMean is the hint for a word that is no command or flag: what it is
// called here, what it may be a slip of, or where the names stand.
func didYouMean(cmd *cobra.Command, word string) string {
	if name, ok := otherNames()[strings.ToLower(word)]; ok && offers(cmd, name) {
		return fmt.Sprintf("here that is %s; see %s --help", name, cmd.CommandPath())
	}
	var names []string
	if strings.HasPrefix(word, "-") {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	} else {
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
	}
	if name := spec.Closest(word, names); name != "" {
		return fmt.Sprintf("did you mean %s? See %s --help", name, cmd.CommandPath())
	}
	return see(cmd.CommandPath())
}

// offers tells whether a flag that a hint would name is one of the command's.
func offers(cmd *cobra.Command, name string) bool {
	flag, isFlag := strings.CutPrefix(name, "--")
	return !isFlag || cmd.Flags().Lookup(flag) != nil
}

// flagHint is the hint for what is wrong with the flags of a command.
func flagHint(cmd *cobra.Command, err error) string {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && len(unknown.GetSpecifiedName()) > 1 {
		return didYouMean(cmd, "--"+unknown.GetSpecifiedName())
	}
	return see(cmd.CommandPath())
}
