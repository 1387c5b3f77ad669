package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/render"
	"iothub-runner/spec"
)

//go:embed init.yaml
var firstPlan string

// schemaFile is where init puts the schema that the plan's first line names.
const schemaFile = "plan.schema.json"

// initFlags are the flags of runner init.
type initFlags struct {
	talkFlags
	force bool
}

func newInit(env environment) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init [PLAN]",
		Short: "write a first plan, with comments",
		Long: `init writes a first plan, plan.yaml unless you name another file, and beside it the
schema that editors use to complete and check it. The plan runs on the emulated hub
without changes. With - it writes the plan to stdout.`,
		Example: `  runner init
  runner apply --emulator plan.yaml`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			file := "plan.yaml"
			if len(args) > 0 {
				file = args[0]
			}
			return runInit(env, &f, file)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.force, "force", false, "replace an existing file")
	f.add(flags)
	return cmd
}

func runInit(env environment, f *initFlags, file string) error {
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	if file == "-" {
		_, err := fmt.Fprint(env.stdout, strings.ReplaceAll(firstPlan, "PLANFILE", "plan.yaml"))
		return err
	}
	schema := filepath.Join(filepath.Dir(file), schemaFile)
	if !f.force && isForeign(schema) {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("%q is there already, and is no schema of plans", schema), Hint: "name a plan in another folder, or replace the file with --force"}
	}
	text := strings.ReplaceAll(firstPlan, "PLANFILE", render.ShellWord(filepath.Base(file)))
	if err := create(file, text, f.force); err != nil {
		hint := "name a file that can be written"
		if errors.Is(err, fs.ErrExist) {
			hint = "name another file, or replace it with --force"
		}
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("write plan %q: %w", file, output.Reason(err)), Hint: hint}
	}
	if err := create(schema, string(spec.PlanSchemaJSON()), true); err != nil {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("write schema %q: %w", schema, output.Reason(err)), Hint: "the plan is written; runner schema prints its schema"}
	}
	talk.Line(fmt.Sprintf("%s is written, and %s for your editor; try it: runner apply --emulator %s", file, schema, render.ShellWord(file)),
		slog.String("event", "written"), slog.String("plan", file), slog.String("schema", schema))
	return nil
}

// isForeign tells whether a file is there that init has not written: the schema
// of another version may be replaced, somebody else's file may not.
func isForeign(name string) bool {
	text, err := os.ReadFile(name) //nolint:gosec // beside the plan that the user names
	if err != nil {
		return false // there is none, or writing it says why not
	}
	var ours, theirs struct {
		Title string `json:"title"`
	}
	if err := json.Unmarshal(spec.PlanSchemaJSON(), &ours); err != nil {
		panic("runner: the schema of plans is not JSON: " + err.Error())
	}
	return json.Unmarshal(text, &theirs) != nil || theirs.Title != ours.Title
}

// create writes a file, which must not be there yet unless it may be replaced.
func create(name, text string, replace bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if !replace {
		mode |= os.O_EXCL
	}
	f, err := os.OpenFile(name, mode, 0o644) //nolint:gosec // the user names it, and others may read it
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
