//go:build !release

package envoy

import "embed"

// ModuleSource is the source of the module that answers for known tokens, in the
// folder module. The demo builds the module from it.
//
//go:embed module/Makefile module/*.c module/*.h
var ModuleSource embed.FS
