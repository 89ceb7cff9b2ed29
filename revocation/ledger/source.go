package ledger

import (
	"context"
	"slices"
	"sort"
	"time"

	"rescind/revocation"
)

// The ledger is the source of the feed. It does not keep recent changes a second
// time: the rows of a revision are in their place, by its number. Only changes
// to rows of earlier revisions are remembered, as moves.

// moves are changes to older rows in the order of the log, the newest ones: the
// rows that replicas drop, because they were restored or are covered, and the
// rows that they hold again.
type moves struct {
	list    []move
	dropped uint64 // the revision of the last move that is not in list any more
}

type move struct {
	revision uint64
	id       revocation.ID
	shown    bool // replicas hold the row again
}

const (
	maxMoves   = 1 << 20 // 32 MB
	maxBehind  = 1 << 20 // revisions; beyond, a snapshot is cheaper
	maxEntries = 1 << 16 // in one answer of Changes, where a revision does not have more
)

func (m *moves) add(revision uint64, shown bool, ids ...revocation.ID) {
	for _, id := range ids {
		if len(m.list) == maxMoves {
			m.dropped = m.list[maxMoves/4-1].revision
			m.list = slices.Clone(m.list[maxMoves/4:])
		}
		m.list = append(m.list, move{revision, id, shown})
	}
}

// of returns the moves of one revision.
func (m *moves) of(revision uint64) []move {
	i := sort.Search(len(m.list), func(i int) bool { return m.list[i].revision >= revision })
	j := i
	for j < len(m.list) && m.list[j].revision == revision {
		j++
	}
	return m.list[i:j]
}

// LogID returns the identity of the log.
func (l *Ledger) LogID() string { return l.log.ID() }

// Replaces returns the logs that this one takes the place of.
func (l *Ledger) Replaces() []string { return l.log.Replaces() }

// Retention returns the longest time that a revocation may last.
func (l *Ledger) Retention() time.Duration { return l.retention }

// Revision returns the last revision that is applied.
func (l *Ledger) Revision() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.revision
}

// Mark returns the mark of a revision: a hash of the revision's record. Mark returns
// 0 if the record has ended, or is too far back.
func (l *Ledger) Mark(revision uint64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.marks.of(revision)
}

// Age returns the time since no node had a revision beyond Revision. A node that
// is cut off from the others grows old, because it cannot know their revisions.
func (l *Ledger) Age() time.Duration {
	at, head := l.log.Agreed()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revision >= head && at.After(l.sure) {
		l.sure = at
	}
	return time.Since(l.sure)
}

// Len returns the number of revocations that replicas hold, give or take those
// that expired in the last few seconds. Covered revocations do not count.
func (l *Ledger) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.rows.live - l.rows.hidden
}

// Lasting returns the last revision, and how many entries of it end after the
// minute: a replica at that revision holds as many. ok is false if the minute
// is long over.
func (l *Ledger) Lasting(m revocation.Minute) (revision uint64, n int, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n, ok = l.rows.census.After(m)
	return l.revision, n, ok
}

// Wait returns nil once the revision is greater than after, or the error of ctx.
func (l *Ledger) Wait(ctx context.Context, after uint64) error {
	for {
		l.mu.RLock()
		revision, changed := l.revision, l.changed
		l.mu.RUnlock()
		if revision > after {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Snapshot yields every entry in force, a chunk at a time. It holds no lock while
// yield runs. The result is the state at the revision returned, once the changes
// after that revision are applied. Until then it denies at least the tokens that
// were denied at that revision and are still denied; it may have some of the
// later changes.
func (l *Ledger) Snapshot(yield func([]revocation.Entry) error) (revision uint64, err error) {
	l.mu.RLock()
	revision = l.revision
	chunks := slices.Clone(l.rows.chunks)
	l.mu.RUnlock()
	readAt := make(map[*chunk]uint64, len(chunks))
	for _, c := range chunks {
		l.mu.RLock()
		readAt[c] = l.revision
		now := l.clock()
		part := make([]revocation.Entry, 0, len(c.rows))
		for i := range c.rows {
			if w := &c.rows[i]; w.shown() && w.expires > now {
				part = append(part, l.rows.entry(w))
			}
		}
		l.mu.RUnlock()
		if len(part) == 0 {
			continue
		}
		if err := yield(part); err != nil {
			return 0, err
		}
	}
	if missed := l.missed(revision, readAt); len(missed) > 0 {
		err = yield(missed)
	}
	return revision, err
}

// missed returns the entries in force that a snapshot since a revision left out
// because they were covered when their chunk was read. Without them a replica
// could have neither a row nor its cover until it applied the next change.
func (l *Ledger) missed(since uint64, readAt map[*chunk]uint64) (entries []revocation.Entry) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	now := l.clock()
	yielded := map[revocation.ID]bool{} // whether the row was shown when it was read
	later := map[revocation.ID]bool{}   // a move after the reading was seen
	from := sort.Search(len(l.moves.list), func(i int) bool { return l.moves.list[i].revision > since })
	for _, m := range l.moves.list[from:] {
		c, w := l.rows.find(m.id)
		if w == nil || w.state != standing || w.expires <= now {
			continue
		}
		switch at, ok := readAt[c]; {
		case !ok || later[m.id]: // newer than the snapshot, or known
		case m.revision <= at:
			yielded[m.id] = m.shown
		default:
			later[m.id] = true
			if _, known := yielded[m.id]; !known {
				yielded[m.id] = !m.shown
			}
		}
	}
	for id, was := range yielded {
		if !was {
			_, w := l.rows.find(id)
			entries = append(entries, l.rows.entry(w))
		}
	}
	return entries
}

// Changes returns the changes of the revisions after the given one, each revision
// once and none left out, at most so many. held is false if the caller is too far
// behind, or ahead, and needs a snapshot. Expired entries are left out, and so are
// the revocations of a revision that another one of the same revision covers.
//
// An entry that is added and removed is removed: a revision shows rows before
// it hides them, and restores no row that it adds.
func (l *Ledger) Changes(after uint64, most int) (changes []revocation.Change, held bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if after > l.revision || l.revision-after > maxBehind || after < l.moves.dropped {
		return nil, false
	}
	now := l.clock()
	entries := 0
	for rev := after + 1; rev <= l.revision && len(changes) < most && entries < maxEntries; rev++ {
		c := l.change(rev, now)
		entries += len(c.Added) + len(c.Removed)
		changes = append(changes, c)
	}
	return changes, true
}

// change returns the change of one revision. The caller holds mu.
func (l *Ledger) change(revision uint64, now revocation.Micros) revocation.Change {
	c := revocation.Change{Revision: revision, Mark: l.marks.of(revision)}
	var covered map[uint32]struct{} // indexes of the revocations of this revision that it covers itself
	for _, m := range l.moves.of(revision) {
		if m.id.Revision == revision {
			if covered == nil {
				covered = map[uint32]struct{}{}
			}
			covered[m.id.Index] = struct{}{}
			continue
		}
		switch _, w := l.rows.find(m.id); {
		case w == nil || w.expires <= now:
		case m.shown:
			c.Added = append(c.Added, l.rows.entry(w))
		default:
			c.Removed = append(c.Removed, l.rows.entry(w))
		}
	}
	for _, w := range l.rows.from(revocation.ID{Revision: revision}) {
		if _, hidden := covered[w.index]; !hidden && w.expires > now {
			c.Added = append(c.Added, l.rows.entry(w))
		}
	}
	return c
}
