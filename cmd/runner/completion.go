package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/render"
	"iothub-runner/spec"
)

func newCompletion(env environment) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "print a shell completion script",
		Long: `completion prints a script for a shell, which then completes commands, flags, and
the names of a plan's jobs and variables.

  bash        source <(runner completion bash)      # with the package bash-completion
  zsh         runner completion zsh > "${fpath[1]}/_runner"
  fish        runner completion fish > ~/.config/fish/completions/runner.fish
  powershell  runner completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return exit.Usage("name one shell: bash, zsh, fish or powershell", "as in source <(runner completion bash)")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.stdout, true)
			case "zsh":
				return root.GenZshCompletion(env.stdout)
			case "fish":
				return root.GenFishCompletion(env.stdout, true)
			}
			return root.GenPowerShellCompletionWithDesc(env.stdout)
		},
	}
}

// completePlan lets the shell complete the plan of a command and what its flags
// take from it.
func completePlan(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
	}
	completeFlag(cmd, "job", func(args []string) []string {
		var names []string
		for _, p := range plansOf(args) {
			for i := range p.Jobs {
				names = append(names, p.Jobs[i].Name+"\t"+string(p.Jobs[i].Type)+" of "+render.Clip(p.Jobs[i].Target.Text, 60))
			}
		}
		return names
	})
	completeFlag(cmd, "progress", oneOf("auto", "tty", "plain", "none"))
	completeFlag(cmd, "log-format", oneOf("text", "json"))
	completeFlag(cmd, "var", func(args []string) []string {
		var names []string
		for _, p := range plansOf(args) {
			for name, value := range p.Vars {
				names = append(names, name+"=\tnow "+render.Clip(value, 60))
			}
		}
		slices.Sort(names)
		return names
	})
}

// completeFlag lets the shell complete the values of a flag, if the command has
// it.
func completeFlag(cmd *cobra.Command, flag string, values func(args []string) []string) {
	if cmd.Flags().Lookup(flag) == nil {
		return
	}
	err := cmd.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		list := values(args)
		if slices.ContainsFunc(list, func(v string) bool { return strings.Contains(v, "=\t") }) {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return list, directive
	})
	if err != nil {
		panic("a flag was given its completion twice: " + err.Error())
	}
}

// oneOf completes a flag that takes one of a few words.
func oneOf(words ...string) func([]string) []string { return func([]string) []string { return words } }

// plansOf reads the plans that a command line names. One that is not valid yet
// helps nobody to complete, and says nothing.
func plansOf(files []string) []*spec.Plan {
	var plans []*spec.Plan
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the user names the file
		if err != nil {
			continue
		}
		plan, _ := planfile.Parse(file, text, planfile.Options{FS: output.Folder(filepath.Dir(file))})
		if plan != nil {
			plans = append(plans, plan)
		}
	}
	return plans
}
