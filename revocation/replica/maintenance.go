package replica

import (
	"errors"
	"time"
)

// maintenance is how often ended entries are dropped and the invariants are
// checked.
const maintenance = time.Second

// compactionRetry is how long after a failure the disk is tried again.
const compactionRetry = 10 * time.Second

// maintain drops ended entries, renews filters, checks the invariants and keeps
// the journal short, until the follower is closed.
func (f *Follower) maintain() {
	tick := time.NewTicker(maintenance)
	defer tick.Stop()
	retry := time.Now()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		f.maintainSet()
		if now := time.Now(); f.dir != nil && (!f.diskError.holds() || now.After(retry)) {
			retry = now.Add(compactionRetry)
			f.compact()
		}
	}
}

// maintainSet does the work on the set, and discards it if it is corrupt.
func (f *Follower) maintainSet() {
	set := f.current.Load().set
	if set == nil {
		return
	}
	set.sweep(f.ended(time.Now()))
	began, filter := time.Now(), set.view.Load().filter
	err := set.renew()
	if set.view.Load().filter != filter {
		f.log.Info("revocation filter rebuilt", "revocations", set.len(), "seconds", time.Since(began).Seconds())
	}
	if err == nil {
		err = set.check()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.corruption.holds() {
		err = errors.New(f.corruption.String())
	}
	if err != nil && f.current.Load().set == set {
		f.discard(err.Error())
	}
}

// compact replaces the snapshot and begins a new journal, if the journal has
// become long or if writing has failed. It reads the set while the set goes on
// changing: the new journal has those changes, because it begins first.
func (f *Follower) compact() {
	f.mu.Lock()
	c := f.current.Load()
	failed := f.diskError.holds()
	if c.set == nil || !failed && !f.dir.needsCompaction() {
		f.mu.Unlock()
		return
	}
	head := header{Log: c.logID, Revision: c.revision, Retention: f.retention, Entries: c.set.len(), Ordered: true}
	err := f.dir.begin(head)
	if err == nil {
		f.diskError.clear()
	}
	f.mu.Unlock()
	var w *snapshotWriter
	if err == nil {
		w, err = f.dir.snapshot(head)
	}
	if err == nil {
		err = c.set.each(w.add)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if w != nil {
		defer w.abandon()
	}
	if err == nil && f.current.Load().set == c.set {
		err = w.commit()
	}
	if err != nil {
		f.diskFailed(err)
	} else if failed {
		f.log.Info("revocations are written to disk again")
	}
}
