package envoy

import _ "embed"

// Bootstrap is envoy.yaml, the shipped Envoy configuration: an edge gateway on
// 127.0.0.1:10000 in front of one upstream on 127.0.0.1:8080. It asks one replica
// on 127.0.0.1:9191.
//
//go:embed envoy.yaml
var Bootstrap []byte
