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
// what it makes, not to what it holds, and gives back the memory that only a
// start or a load has needed. Most of what a server holds, millions of entries,
// has no pointers and costs a collection nothing, but would let garbage grow to
// the same size. Who has set GOGC knows better.
func thriftily(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	percent := 0
	for {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
		metrics.Read(sample)
		live, free := sample[0].Value.Uint64(), sample[1].Value.Uint64()
		if p := gcPercent(live); p != percent { // the world stops for it
			percent = p
			debug.SetGCPercent(p)
		}
		if wasteful(live, free) {
			debug.FreeOSMemory()
		}
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

// wasteful says that more memory is free than garbage will fill again.
func wasteful(live, free uint64) bool {
	return free > 2*headroom+live/4
}
