package fleet

import _ "embed" // for the schema

//go:embed fleet.schema.json
var schema []byte

// Schema returns the JSON Schema of the fleet file, for editors. It accepts
// every file that Parse accepts; Parse also finds what no schema can say, such
// as shares that add up to more than the whole.
func Schema() []byte { return append([]byte(nil), schema...) }
