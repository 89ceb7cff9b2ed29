package envoy

import _ "embed"

// Bootstrap is envoy.yaml, the shipped Envoy configuration: an edge gateway on
// 127.0.0.1:10000 in front of one upstream on 127.0.0.1:8080. It asks one replica
// on 127.0.0.1:9191.
//
//go:embed envoy.yaml
var Bootstrap []byte

// InProcess is envoy-inprocess.yaml: Bootstrap with the module that answers for known
// tokens. The configuration of the filter names the socket /run/rescind/known.sock and
// the user 65532.
//
//go:embed envoy-inprocess.yaml
var InProcess []byte
