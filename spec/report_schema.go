package spec

import _ "embed"

//go:embed report.schema.json
var reportSchema []byte

// ReportSchemaJSON returns the JSON Schema (2020-12) of reports. The slice
// belongs to the caller.
func ReportSchemaJSON() []byte { return append([]byte(nil), reportSchema...) }
