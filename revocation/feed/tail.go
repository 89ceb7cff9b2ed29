package feed

import (
	"context"
	"sort"
	"sync"
	"time"

	"rescind/revocation/feed/feedpb"
)

// gather is the least time between two steps of the tail. A change that comes
// alone goes out at once; under load they go out together.
const gather = 2 * time.Millisecond

// What the tail keeps, beyond the last revision.
const (
	tailParts = 4096
	tailBytes = 2 << 20
)

// tail is the newest end of the log, packed once for all followers. Parts are
// never changed once they are in it: followers hold slices of it without a
// lock.
type tail struct {
	src Source

	mu    sync.RWMutex
	from  uint64           // parts are the revisions after from
	head  uint64           // up to and with head
	parts []*feedpb.Change // appended to; cut off at the front by copying
	bytes int              // of parts
	grown chan struct{}    // closed when head moves
	users int              // followers; without any, nothing is packed
}

func newTail(src Source) *tail {
	at := src.Revision()
	return &tail{src: src, from: at, head: at, grown: make(chan struct{})}
}

// run follows the source until ctx ends.
func (t *tail) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for t.src.Wait(ctx, t.head) == nil {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		t.step()
		pause.Reset(gather)
	}
}

// step takes in what the source has beyond head. Only run calls it, and only
// it moves head.
func (t *tail) step() {
	t.mu.RLock()
	idle := t.users == 0
	t.mu.RUnlock()
	var fresh []*feedpb.Change
	held := false
	if !idle {
		changes, ok := t.src.Changes(t.head, readChanges)
		for _, c := range changes {
			fresh = append(fresh, parts(c)...)
		}
		held = ok && len(fresh) > 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if held {
		t.append(fresh)
	} else {
		t.head = t.src.Revision()
		t.from, t.parts, t.bytes = t.head, nil, 0
	}
	close(t.grown)
	t.grown = make(chan struct{})
}

func (t *tail) append(fresh []*feedpb.Change) {
	for _, p := range fresh {
		t.bytes += size(p)
	}
	t.parts = append(t.parts, fresh...)
	t.head = fresh[len(fresh)-1].Revision
	if len(t.parts) <= tailParts && t.bytes <= tailBytes {
		return
	}
	drop, bytes := 0, t.bytes // down to half, so that copying is rare
	for drop < len(t.parts)-len(fresh) && (len(t.parts)-drop > tailParts/2 || bytes > tailBytes/2) {
		revision := t.parts[drop].Revision
		for drop < len(t.parts) && t.parts[drop].Revision == revision {
			bytes -= size(t.parts[drop])
			drop++
		}
		t.from = revision
	}
	t.parts = append([]*feedpb.Change(nil), t.parts[drop:]...)
	t.bytes = bytes
}

// after are the parts of the revisions after the given one. Without any, grown
// tells when to ask again; held is false if the tail begins later than that.
func (t *tail) after(revision uint64) (parts []*feedpb.Change, grown <-chan struct{}, held bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if revision < t.from {
		return nil, t.grown, false
	}
	i := sort.Search(len(t.parts), func(i int) bool { return t.parts[i].Revision > revision })
	n := len(t.parts)
	return t.parts[i:n:n], t.grown, true
}

// use counts a follower in or out.
func (t *tail) use(n int) {
	t.mu.Lock()
	t.users += n
	t.mu.Unlock()
}
