package ledger

import (
	"context"
	"slices"
	"sort"
	"time"

	"rescind/revocation"
)

// The ledger is what the feed sends to the replicas. Recent changes are not
// kept a second time: what a revision added are the rows with its number, in
// their place, and only what was restored is remembered by revision.

// restores are the restorations in the order of the log, the newest ones.
type restores struct {
	list    []restoredAt
	dropped uint64 // the revision of the last that is not in list any more
}

type restoredAt struct {
	revision uint64
	id       revocation.ID
}

const (
	maxRestores = 1 << 20 // 24 MB
	maxBehind   = 1 << 20 // revisions; beyond, a snapshot is cheaper
	maxEntries  = 1 << 16 // in one answer of Changes, where a revision does not have more
)

func (r *restores) add(revision uint64, id revocation.ID) {
	if len(r.list) == maxRestores {
		r.dropped = r.list[maxRestores/4-1].revision
		r.list = slices.Clone(r.list[maxRestores/4:])
	}
	r.list = append(r.list, restoredAt{revision, id})
}

// of are the restorations of one revision.
func (r *restores) of(revision uint64) []restoredAt {
	i := sort.Search(len(r.list), func(i int) bool { return r.list[i].revision >= revision })
	j := i
	for j < len(r.list) && r.list[j].revision == revision {
		j++
	}
	return r.list[i:j]
}

// LogID is the identity of the log.
func (l *Ledger) LogID() string { return l.log.ID() }

// Replaces are the logs that this one takes the place of.
func (l *Ledger) Replaces() []string { return l.log.Replaces() }

// Retention is the longest that a revocation may last.
func (l *Ledger) Retention() time.Duration { return l.retention }

// Revision is the last one applied.
func (l *Ledger) Revision() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.revision
}

// Age is how long ago it was certain that nothing was beyond Revision. Where
// other nodes write the log too that takes word from them; a node that is cut
// off grows old.
func (l *Ledger) Age() time.Duration {
	at, head := l.log.Agreed()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revision >= head && at.After(l.sure) {
		l.sure = at
	}
	return time.Since(l.sure)
}

// Len is the number of revocations in force, give or take those that expired
// in the last few seconds.
func (l *Ledger) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.rows.live
}

// Wait returns when the revision is greater than after.
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

// Snapshot yields every entry in force, a chunk at a time; no lock is held
// while yield runs. What was yielded is the state at the revision returned,
// once the changes after that revision are applied to it: it may have some of
// them already.
func (l *Ledger) Snapshot(yield func([]revocation.Entry) error) (revision uint64, err error) {
	l.mu.RLock()
	revision = l.revision
	chunks := slices.Clone(l.rows.chunks)
	l.mu.RUnlock()
	for _, c := range chunks {
		l.mu.RLock()
		now := l.clock()
		part := make([]revocation.Entry, 0, len(c.rows))
		for i := range c.rows {
			if w := &c.rows[i]; w.state == standing && w.expires > now {
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
	return revision, nil
}

// Changes are those of the revisions after the given one, each revision once
// and none left out, at most so many. held is false if the caller is too far
// behind, or ahead, for changes: it needs a snapshot. Entries that have
// expired since are left out.
func (l *Ledger) Changes(after uint64, most int) (changes []revocation.Change, held bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if after > l.revision || l.revision-after > maxBehind || after < l.restores.dropped {
		return nil, false
	}
	now := l.clock()
	entries := 0
	for rev := after + 1; rev <= l.revision && len(changes) < most && entries < maxEntries; rev++ {
		c := revocation.Change{Revision: rev}
		for w := range l.rows.of(rev) {
			if w.expires > now {
				c.Added = append(c.Added, l.rows.entry(w))
			}
		}
		for _, r := range l.restores.of(rev) {
			if _, w := l.rows.find(r.id); w != nil && w.expires > now {
				c.Removed = append(c.Removed, l.rows.entry(w))
			}
		}
		entries += len(c.Added) + len(c.Removed)
		changes = append(changes, c)
	}
	return changes, true
}
