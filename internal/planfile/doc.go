// Package planfile turns the bytes of a plan into a [spec.Plan] that is valid as a
// whole, or into every finding it has, each with its position in the file.
//
// It reads no clock, no network and no environment; files that a plan names are
// read through the fs.FS it is handed, and values of variables come in [Options].
// Time zones are looked up in the system's database or the one in the binary.
//
// A value of the plan may differ by device. It then comes as a [spec.Template],
// which whoever sends it fills in. Everything else is settled by [Parse]: defaults,
// variables, lists of devices.
//
// Parse walks the YAML nodes along the table of [spec.Fields]; the validator takes
// its limits from it. Nothing in a finding shows a secret that stands in the plan,
// not even the source line that it echoes.
package planfile
