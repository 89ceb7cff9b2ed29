package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// headroom is about how much garbage may gather before it is collected, however
// much is held.
const headroom = 128 << 20

// thriftily keeps the garbage of a process that holds much in proportion to
// what it makes, not to what it holds. Most of what a server holds, millions
// of entries, has no pointers and costs a collection nothing, but would let
// garbage grow to the same size. Who has set GOGC knows better.
func thriftily(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		debug.SetGCPercent(gcPercent(sample[0].Value.Uint64()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func gcPercent(live uint64) int {
	return int(min(400, max(10, headroom*100/max(live, 1))))
}
