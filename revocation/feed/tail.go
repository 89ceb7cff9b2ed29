package feed

import (
	"context"
	"sort"
	"sync"
	"time"

	"rescind/revocation/feed/feedpb"
)

// gather is the least time between two steps of the tail. A single change goes
// out at once. Under load several go out together.
const gather = 2 * time.Millisecond

// Bounds of the tail, which may exceed them by its last revision.
const (
	tailParts = 4096
	tailBytes = 2 << 20
)

// tail is the newest end of the log, packed once for all replicas. Its parts
// never change, because sessions hold slices of them without a lock.
type tail struct {
	src Source

	mu    sync.RWMutex
	from  uint64           // parts are the revisions after from,
	head  uint64           // up to head and including head
	parts []*feedpb.Change // appended to; cut off at the front by copying
	bytes int              // of parts
	early []*feedpb.Change // short revisions beyond head, while a long one is packed
	grown chan struct{}    // closed when head moves, or early grows
	grows uint64           // how often grown was closed
	users int              // sessions; without any, nothing is packed
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

// step takes in the revisions of the source after head. Only run calls it, and
// only step moves head.
func (t *tail) step() {
	t.mu.RLock()
	idle := t.users == 0
	t.mu.RUnlock()
	var fresh []*feedpb.Change
	held := false
	if !idle {
		changes, ok := t.src.Changes(t.head, readChanges)
		looked := t.head
		for _, c := range changes {
			fresh = append(fresh, partsOf(c, func() { looked = t.lookBeyond(max(c.Revision, looked)) })...)
		}
		held = ok && len(fresh) > 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.early = nil
	if held {
		t.append(fresh)
	} else {
		t.head = t.src.Revision()
		t.from, t.parts, t.bytes = t.head, nil, 0
	}
	t.wake()
}

// wake notes that there is more to send. The caller holds mu.
func (t *tail) wake() {
	t.grows++
	close(t.grown)
	t.grown = make(chan struct{})
}

// lookBeyond packs the short revisions after the given revision, so that the short
// revisions can overtake a long revision that is being packed. lookBeyond returns
// the last revision that it has looked at.
func (t *tail) lookBeyond(revision uint64) uint64 {
	changes, ok := t.src.Changes(revision, readChanges)
	if !ok || len(changes) == 0 {
		return revision
	}
	var early []*feedpb.Change
	for _, c := range changes {
		if len(c.Removed) > 0 || len(c.Added) == 0 || len(c.Added) > partEntries {
			continue
		}
		if p := partsOf(c, nil); canOvertake(p) {
			early = append(early, p...)
		}
	}
	if early != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.early = append(t.early, early...)
		t.wake()
	}
	return changes[len(changes)-1].Revision
}

// canOvertake reports whether the revision of these parts is short and removes
// nothing, so that the revision may be sent ahead of its turn.
func canOvertake(parts []*feedpb.Change) bool {
	c := parts[0]
	return len(parts) == 1 && len(c.Removed) == 0 && len(c.Added) > 0 && len(c.Added) <= maxAheadBytes
}

// overtaking returns the short revisions after the given one that are beyond
// head, while a long one is packed.
func (t *tail) overtaking(revision uint64) []*feedpb.Change {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i, c := range t.early {
		if c.Revision > revision {
			return t.early[i:len(t.early):len(t.early)]
		}
	}
	return nil
}

// append adds parts that end a revision, and cuts the front off beyond the
// bounds. The caller holds mu.
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

// growth returns how often the tail has grown, and a channel that is closed when
// the tail grows next.
func (t *tail) growth() (grows uint64, grown <-chan struct{}) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.grows, t.grown
}

// after returns the parts of the revisions after the given revision. held is false
// if the tail begins later.
func (t *tail) after(revision uint64) (parts []*feedpb.Change, held bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if revision < t.from {
		return nil, false
	}
	i := sort.Search(len(t.parts), func(i int) bool { return t.parts[i].Revision > revision })
	n := len(t.parts)
	return t.parts[i:n:n], true
}

// use adds n to the number of sessions.
func (t *tail) use(n int) {
	t.mu.Lock()
	t.users += n
	t.mu.Unlock()
}
