// Package spec describes the two documents that users of runner see: the plan
// they write and the report they read.
//
// [Parse] turns the bytes of a plan into a [Plan] that is valid as a whole, or
// into every finding it has, each with its position in the file. It reads no
// clock, no network and no environment; files that a plan names are read
// through the fs.FS it is handed, and values of variables come in [Options].
// Time zones are looked up in the system's database or the one in the binary.
//
// A value of the plan may differ by device. It then comes as a [Template],
// which whoever sends it fills in with [Template.Execute]. Everything else is
// settled by Parse: defaults, variables, lists of devices.
//
// # One table
//
// [Fields] lists every key of a plan with its type, limits and default. Parse
// walks the YAML nodes along it, the validator takes its limits from it, and
// [PlanSchemaJSON], [Explain] and [PlanReference] are made from it. [Rules]
// does the same for what can be found.
//
// # Findings
//
// [Diagnostics] are sorted, and written as text, JSON, annotations of GitHub
// or SARIF by [Diagnostics.Write]. Nothing in them shows a secret that stands
// in the plan, not even the source line that a finding echoes.
//
// Only the formats of the plan and of the report are promised. The Go API of
// this package serves the runner command and may change with it.
package spec
