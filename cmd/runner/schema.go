package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/exit"
	"iothub-runner/spec"
)

// schemas are the documents that have a JSON Schema.
func schemas() []string { return []string{"plan", "report", "fleet"} }

func newSchema(env environment) *cobra.Command {
	return &cobra.Command{
		Use:   "schema [plan|report|fleet]",
		Short: "print the JSON Schema of a document",
		Long: `schema prints the JSON Schema of plans (the default), of reports, or of the fleet
files of the emulator. An editor that knows it completes keys and marks mistakes:
put its file beside the plan, and name it in the first line, as runner init does.`,
		Example: `  runner schema > plan.schema.json
  runner schema report`,
		Args:      usageArgs(cobra.MaximumNArgs(1)),
		ValidArgs: schemas(),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "plan"
			if len(args) > 0 {
				name = args[0]
			}
			text := schemaOf(name)
			if text == nil {
				return exit.Usage(fmt.Sprintf("there is no schema %q", name), "name plan, report or fleet")
			}
			_, err := env.stdout.Write(text)
			return err
		},
	}
}

func schemaOf(name string) []byte {
	switch name {
	case "plan":
		return spec.PlanSchemaJSON()
	case "report":
		return spec.ReportSchemaJSON()
	case "fleet":
		return fleet.Schema()
	}
	return nil
}
