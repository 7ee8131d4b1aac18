package config

import _ "embed"

// schema is made by go test ./internal/config -update, out of the types that the
// file is decoded into and their comments.
//
//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of the configuration file, for
// editors. What it refuses, Load refuses, except that a key without a value is no
// error there; what needs two values to be compared only Load can tell.
func Schema() []byte { return append([]byte(nil), schema...) }
