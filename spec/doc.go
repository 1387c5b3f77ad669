// Package spec describes the two documents that users of runner see: the plan
// they write and the report they read. Package planfile reads the first.
//
// [Fields] lists every key of a plan with its type, limits and default.
// [PlanSchemaJSON], [Explain] and [PlanReference] are made from it, and whoever
// reads a plan goes by it. [Rules] does the same for what can be found.
//
// [Diagnostics] are sorted, and written as text, JSON, annotations of GitHub or
// SARIF by [Diagnostics.Write]. A value of the plan that differs by device is a
// [Template], which whoever sends it fills in with [Template.Execute].
//
// Only the formats of the plan and of the report are promised. The Go API of
// this package serves the runner command and may change with it.
package spec
