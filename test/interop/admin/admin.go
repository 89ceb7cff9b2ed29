// Package admin is a client of the admin API as somebody else has it: oapi-codegen
// made it of the published description, and nothing is changed by hand. The file
// openapi.json is that description, without its texts. A test compares it with
// the one that a control endpoint serves.
package admin

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml openapi.json
