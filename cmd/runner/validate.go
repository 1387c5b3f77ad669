package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/render"
	"iothub-runner/spec"
)

// validateFlags are the flags of runner validate.
type validateFlags struct {
	talkFlags
	varFlags
	format string
	strict bool
}

// validateGCPercent is how much garbage may stand beside the plan that is read.
const validateGCPercent = 400

func newValidate(env environment) *cobra.Command {
	var f validateFlags
	cmd := &cobra.Command{
		Use:   "validate PLAN...",
		Short: "check plans without a hub",
		Long: `validate checks plans and prints all findings at once, each with its place in the
file and with the values that are accepted. It contacts no hub and changes nothing.

The exit code is 0 if all plans are valid (warnings are fine without --strict), 1 if
one is invalid, and 3 if a file cannot be read.`,
		Example: `  runner validate plan.yaml
  runner validate --format github plans/*.yaml
  runner validate --format sarif plan.yaml > plan.sarif`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exit.Usage("no plan given", "name the files: runner validate PLAN...")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runValidate(env, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "text", "write findings as `text`, json, github (annotations of a workflow) or sarif")
	flags.BoolVar(&f.strict, "strict", false, "treat warnings as errors")
	f.varFlags.add(flags)
	f.talkFlags.add(flags)
	completePlan(cmd)
	completeFlag(cmd, "format", oneOf("text", "json", "github", "sarif"))
	return cmd
}

func runValidate(env environment, f *validateFlags, files []string) error {
	if !slices.Contains(spec.Formats(), spec.Format(f.format)) {
		return exit.Usage(fmt.Sprintf("--format %q: want text, json, github or sarif", f.format), "")
	}
	if slices.Index(files, "-") != lastIndex(files, "-") {
		return exit.Usage("stdin can be read once: - is given twice", "")
	}
	vars, err := f.values(env)
	if err != nil {
		return err
	}
	// A tree of YAML is all pointers, and the process ends soon: collecting
	// costs more than it brings.
	debug.SetGCPercent(validateGCPercent)
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	var all spec.Diagnostics
	var unread []error
	var bad []string
	for _, file := range files {
		found, err := validateFile(env, file, vars)
		if err != nil {
			unread = append(unread, err) // the others are checked all the same
		}
		if f.strict {
			found = found.Strict()
		}
		if found.HasErrors() {
			bad = append(bad, file)
		}
		all = append(all, found...)
	}
	if err := all.Write(env.stdout, spec.Format(f.format), version); err != nil {
		return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("write findings: %w", output.Reason(err))}
	}
	if len(unread) > 0 {
		return &exit.Error{Code: exit.Invalid, Err: errors.Join(unread...), Hint: "name plan files, or - for stdin"}
	}
	errs, warnings := all.Count()
	if len(bad) > 0 {
		return &exit.Error{Code: exit.Missed, Err: fmt.Errorf("%s: %s", invalidText(bad), render.Count(errs, "error"))}
	}
	talk.Line(validText(files, warnings))
	return nil
}

// validText says that plans are valid.
func validText(files []string, warnings int) string {
	text := files[0] + " is valid"
	if len(files) > 1 {
		text = render.Count(len(files), "plan") + " are valid"
	}
	if warnings > 0 {
		text += ", with " + render.Count(warnings, "warning")
	}
	return text
}

// invalidText says which plans are not valid. What is wrong in a file that a plan
// names is wrong with the plan.
func invalidText(bad []string) string {
	if len(bad) == 1 {
		return fmt.Sprintf("the plan %s is invalid", bad[0])
	}
	return fmt.Sprintf("%d plans are invalid", len(bad))
}

// validateFile returns what is wrong with a plan; an error means that there was
// nothing to check.
func validateFile(env environment, file string, vars map[string]string) (spec.Diagnostics, error) {
	src, err := openPlan(env, file, vars)
	if err != nil {
		return nil, err
	}
	_, found := planfile.Parse(src.file, src.text, src.opts)
	return found, nil
}

func lastIndex(list []string, s string) int {
	for i, v := range slices.Backward(list) {
		if v == s {
			return i
		}
	}
	return -1
}
