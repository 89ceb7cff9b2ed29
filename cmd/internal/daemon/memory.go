package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// headroom is about how much garbage may gather before a collection, however
	// many bytes the process holds.
	headroom = 128 << 20
	// small is how many bytes a process may hold whose garbage is kept small as well. A
	// collection of so few bytes costs little, so a replica with few tokens and no
	// revocations stays small.
	small        = 8 << 20
	smallPercent = 40
	// large is how many bytes a process holds that may have the most garbage.
	large       = 32 << 20
	mostPercent = 400
)

// BoundGarbage keeps the garbage of the process in proportion to the rate of
// its allocations instead of to the bytes that it holds. It also gives memory
// back to the system that only a start or a bulk load needed. It runs until ctx
// ends, and does nothing where GOGC is set.
//
// A server holds millions of entries without pointers. They cost a collection
// nothing, but by the runtime's own rule garbage could grow to the same size. GOGC is
// for operators who know better.
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

// gcPercent returns the GOGC beside live bytes. From small to large it grows, and beyond
// large it lets about headroom of garbage gather.
func gcPercent(live uint64) int {
	rising := smallPercent + (max(live, small)-small)*(mostPercent-smallPercent)/(large-small)
	return int(min(rising, mostPercent, max(10, headroom*100/max(live, 1))))
}

// wasteful reports whether more memory is free than garbage will fill again.
func wasteful(live, free uint64) bool {
	return free > 2*headroom+live/4
}
