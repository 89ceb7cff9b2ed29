//go:build pprof

package main

import (
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // it stands in no build without the tag pprof
	"os"
)

// A build with the tag pprof serves profiles of itself on the address that
// RESCIND_PPROF names. `go run ./test/bench -profile` makes such a build. No other
// build has this listener.
func init() {
	addr := os.Getenv("RESCIND_PPROF")
	if addr == "" {
		return
	}
	l, err := net.Listen("tcp", addr) //nolint:noctx // it returns at once
	if err != nil {
		panic(err)
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("listening", "name", "pprof", "addr", l.Addr().String())
	go func() { panic(http.Serve(l, nil)) }() //nolint:gosec // the profile of a benchmark
}
