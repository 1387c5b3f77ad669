// Package runner applies a plan to a fleet: it decides which device is due,
// makes at most one call per device at a time, and remembers enough to be
// killed at any moment.
//
// The Go API serves the runner command and may change with it; only the plan,
// the report, the commands and the exit codes are promised.
package runner
