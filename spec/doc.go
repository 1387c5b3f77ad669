// Package spec describes the two documents that users of runner see: the plan
// they write and the report they read.
//
// Parse turns the bytes of a plan into a [Plan] that is valid as a whole, or
// into every finding it has, each with its position in the file. It reads no
// clock, no network and no environment; files that a plan names are read
// through the fs.FS it is handed.
//
// Only the formats of the plan and of the report are promised. The Go API of
// this package serves the runner command and may change with it.
package spec
