package provision

import _ "embed"

// schema is made by go test ./internal/provision -update, out of the types that the
// file is decoded into and their comments.
//
//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a provisioning file, for editors.
// What needs two values to be compared only Load can tell.
func Schema() []byte { return append([]byte(nil), schema...) }
