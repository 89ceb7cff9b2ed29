package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// headroom is about how much garbage may gather before a collection, however
// many bytes the process holds.
const headroom = 128 << 20

// BoundGarbage keeps the garbage of the process in proportion to the rate of
// its allocations instead of to the bytes that it holds. It also gives memory
// back to the system that only a start or a bulk load needed. It runs until ctx
// ends, and does nothing where GOGC is set.
//
// A server holds millions of entries without pointers. They cost a collection
// nothing, but by the runtime's own rule garbage could grow to the same size.
func BoundGarbage(ctx context.Context) {
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
		if p := gcPercent(live); p != percent { // each change stops the world
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

// gcPercent returns the GOGC that lets about headroom of garbage gather beside
// live bytes.
func gcPercent(live uint64) int {
	return int(min(400, max(10, headroom*100/max(live, 1))))
}

// wasteful reports whether more memory is free than garbage will fill again.
func wasteful(live, free uint64) bool {
	return free > 2*headroom+live/4
}
