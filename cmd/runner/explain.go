package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/spec"
)

func newExplain(env environment) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [FIELD|RULE]",
		Short: "explain a field of a plan, or a rule of validate",
		Long: `explain prints the type, default and limits of a field of a plan, the keys below it
and an example. Without a field it lists the keys of a plan. It also explains the
rules that findings name.`,
		Example: `  runner explain jobs.retry.backoff
  runner explain backoff
  runner explain query-syntax`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return explainable(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			text, err := explain(name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(env.stdout, text)
			return err
		},
	}
}

func explain(name string) (string, error) {
	text, err := spec.Explain(name)
	if err == nil {
		return text, nil
	}
	for _, r := range spec.Rules() {
		if string(r.ID) == name {
			return fmt.Sprintf("%s: rule of runner validate, %s\n\n  %s\n  Examples, bad and good: docs/rules.md\n", r.ID, r.Severity, r.Doc), nil
		}
	}
	if errors.Is(err, spec.ErrNoField) {
		return "", exit.Usage(err.Error(), "runner explain lists the keys of a plan, runner explain jobs those of a job")
	}
	return "", err
}

// explainable are the fields and the rules, for the shell.
func explainable() []string {
	var all []string
	for _, f := range spec.Fields() {
		all = append(all, strings.ReplaceAll(f.Path, "[]", "")+"\t"+f.Doc)
	}
	for _, r := range spec.Rules() {
		all = append(all, string(r.ID)+"\t"+r.Doc)
	}
	return all
}
