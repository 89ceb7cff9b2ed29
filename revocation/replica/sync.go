package replica

import (
	"fmt"
	"slices"
	"time"

	"rescind/revocation"
)

// Greet begins a connection to a control endpoint that has this log at this
// revision and keeps revocations for as long as retention. It returns
// [ErrForeignLog] or [ErrOlderRevision] if following that control endpoint would
// lead back.
func (f *Follower) Greet(logID string, revision uint64, retention time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	switch {
	case f.known.logID != "" && f.known.logID != logID:
		err = fmt.Errorf("%w: it has log %s, and this replica has log %s at revision %d; if that log is gone for good, start the control endpoint once with --accept-log %s",
			ErrForeignLog, logID, f.known.logID, f.known.revision, f.known.logID)
	case f.known.logID == logID && revision < f.known.revision:
		err = fmt.Errorf("%w: it is at revision %d, and this replica is at revision %d; if the log was restored from a backup, start the control endpoint once with --accept-log %s",
			ErrOlderRevision, revision, f.known.revision, logID)
	}
	if err != nil {
		f.refused.set(err.Error())
		return err
	}
	f.refused.clear()
	f.greeted, f.retention = position{logID: logID, revision: revision}, retention
	f.checkRetention()
	f.connected.Store(true)
	return nil
}

// Compare compares the mark of the follower's furthest revision with the mark that a
// control endpoint has for that revision of this log; 0: the control endpoint knows
// none. Compare returns [ErrOtherHistory] if the marks differ. A follower that knows no
// mark takes that of the control endpoint.
func (f *Follower) Compare(logID string, mark uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := &f.known
	switch {
	case logID != known.logID || mark == 0 || mark == known.mark:
		return nil
	case known.mark != 0:
		err := fmt.Errorf("%w: its revision %d is not the one of this replica, so it was restored from an older copy and lacks revocations that this replica has; see OPERATIONS.md, \"All control nodes are lost\", or start the control endpoint once with --accept-log %s, and the replica takes its set as it is",
			ErrOtherHistory, known.revision, logID)
		f.refused.set(err.Error())
		return err
	}
	known.mark = mark
	if c := *f.current.Load(); c.set != nil {
		c.mark = mark
		f.current.Store(&c)
	}
	f.toDisk(func(d *directory) error { return d.noteMark(f.known) })
	return nil
}

// Refuse notes why a control endpoint is not followed, for the status, until the
// follower is greeted by one that is.
func (f *Follower) Refuse(why error) { f.refused.set(why.Error()) }

// Accept lets another log take the place of the follower's log if that is one of
// replaced: an operator of the control endpoint has named it. The set stays in
// force until the new one is loaded, so nothing is lost.
func (f *Follower) Accept(replaced []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known.logID == "" || !slices.Contains(replaced, f.known.logID) {
		return
	}
	f.log.Warn("an operator has replaced the log of this replica", "log", f.known.logID, "revision", f.known.revision)
	f.known, f.furthest = position{}, 0
}

// older reports whether a set at p would lead back: it is of the known log, and
// from before a revision that is in force. The caller holds mu.
func (f *Follower) older(p position) bool {
	return p.logID == f.known.logID && p.revision < max(f.known.revision, f.furthest)
}

// lastRevision returns the last revision that entries belong to; 0 for none.
func lastRevision(entries []revocation.Entry) (last uint64) {
	for i := range entries {
		last = max(last, entries[i].ID.Revision)
	}
	return last
}

// ApplyPart puts entries of the next revision in force, so that a long revision
// takes effect while the rest of it is on its way. The follower's revision stays
// the same: the next revision is in force when [Follower.Apply] has been given
// the rest. A part has no removed entries, so a revision whose rest never comes
// denies too much rather than too little. The log has the entries, and sends them
// again.
func (f *Follower) ApplyPart(revision uint64, added []revocation.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.current.Load()
	if c.set != nil && revision != c.revision+1 {
		return fmt.Errorf("a part of revision %d came in the place of revision %d", revision, c.revision+1)
	}
	if err := f.addEarly(added); err != nil {
		return err
	}
	f.toDisk(func(d *directory) error { return d.appendPart(revision, added) })
	return nil
}

// ApplyAhead puts the entries of a later revision in force before their turn,
// and returns when they are on disk too: they need not wait for a long revision
// before theirs. The follower's revision does not change, and the entries must
// come again in their turn.
func (f *Follower) ApplyAhead(added []revocation.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.addEarly(added); err != nil {
		return err
	}
	f.furthest = max(f.furthest, lastRevision(added))
	next := f.current.Load().revision + 1 // a journal has them among the parts of the next revision
	f.toDisk(func(d *directory) error { return d.appendAhead(next, added) })
	return nil
}

// addEarly adds entries of a revision that is not whole yet. The caller holds mu.
func (f *Follower) addEarly(added []revocation.Entry) error {
	c := f.current.Load()
	if c.set == nil {
		return ErrNotReady
	}
	seen := c.set.view.Load()
	grown, err := c.set.change(added, nil, f.clock())
	if err != nil {
		f.discard(err.Error())
		return err
	}
	next := *c
	next.ahead += grown
	f.hold(&next)
	f.changed(Changed{added, c.revision, c.set.view.Load() != seen})
	return nil
}

// Apply puts changes in force and returns when they are on disk too. It passes
// over changes that are in force already. It fails, and puts nothing in force,
// if the changes do not follow the follower's revision without a gap.
func (f *Follower) Apply(changes []revocation.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.current.Load()
	if c.set == nil {
		return ErrNotReady
	}
	for len(changes) > 0 && changes[0].Revision <= c.revision {
		changes = changes[1:]
	}
	for i, change := range changes { // before any of it is in force and not in the journal
		if want := c.revision + 1 + uint64(i); change.Revision != want {
			return fmt.Errorf("revision %d came in the place of revision %d", change.Revision, want)
		}
	}
	at := f.clock()
	for i := range changes {
		change, seen := &changes[i], c.set.view.Load()
		if err := c.set.apply(change.Added, change.Removed, at); err != nil {
			f.discard(err.Error())
			return err
		}
		c = &current{position: position{c.logID, change.Revision, change.Mark}, set: c.set, fromDisk: c.fromDisk}
		f.hold(c)
		f.changed(Changed{change.Added, change.Revision, c.set.view.Load() != seen})
	}
	if len(changes) == 0 {
		return nil
	}
	f.toDisk(func(d *directory) error {
		if err := d.append(changes); err != nil {
			return err
		}
		return d.noteMark(f.known)
	})
	return nil
}

// Contact takes the control endpoint's word that an age ago there was nothing
// beyond this revision, if that is the follower's revision. server is the time
// now by the control endpoint's clock. Only Contact advances the set's freshness.
// Loading or applying changes does not: their sender may itself be cut off from
// the log.
func (f *Follower) Contact(revision uint64, server time.Time, age time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.current.Load()
	if h.set == nil || revision != h.revision {
		return
	}
	if h.fromDisk {
		next := *h
		next.fromDisk = false
		f.hold(&next)
	}
	now := time.Now()
	c := &contact{sure: now.Add(-age), at: now, server: server}
	if old := f.contact.Load(); old != nil && old.sure.After(c.sure) && !old.sure.After(now) {
		c.sure = old.sure
	}
	f.contact.Store(c)
	f.toDisk(func(d *directory) error { return d.noteContact(c.sure, f.retention) })
}

// Disconnected notes that the connection is gone. The set stays in force.
func (f *Follower) Disconnected() { f.connected.Store(false) }
