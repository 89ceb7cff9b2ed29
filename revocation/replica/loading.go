package replica

import (
	"fmt"

	"rescind/revocation"
)

// Loading is a whole set that will replace the current one. It belongs to one
// goroutine, which must call Commit or Abandon.
type Loading struct {
	follower *Follower
	position position
	set      *set
	load     *bulkLoad
	file     *snapshotWriter // nil: nothing is written
}

// maxRoom bounds the room that is made for entries before they come.
const maxRoom = 1 << 24

// Load begins a set of the log that was greeted. The set will be at this
// revision with about expect entries. The current set stays in force until
// [Loading.Commit]. Load fails if the set would lead back.
func (f *Follower) Load(logID string, revision, expect uint64) (*Loading, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case logID != f.greeted.logID:
		return nil, fmt.Errorf("log %q is not the one that was greeted", logID)
	case f.older(position{logID: logID, revision: revision}):
		return nil, ErrOlderRevision
	}
	room := int(min(expect, maxRoom))
	l := &Loading{follower: f, position: position{logID: logID, revision: revision}, set: newSet(room)}
	l.load = startLoad(l.set, f.clock())
	if f.dir != nil {
		var err error
		if l.file, err = f.dir.snapshot(header{Log: logID, Revision: revision, Retention: f.retention, Entries: room}); err != nil {
			f.diskFailed(err)
		}
	}
	return l, nil
}

// SetMark sets the mark of the revision that the set will be at; 0: not known.
func (l *Loading) SetMark(mark uint64) { l.position.mark = mark }

// Add takes in a part of the set, which the caller must not use any more. A
// fault is reported by [Loading.Commit].
func (l *Loading) Add(entries []revocation.Entry) {
	l.load.add(entries)
	if l.file != nil {
		if err := l.file.add(entries); err != nil {
			l.dropFile(err)
		}
	}
}

func (l *Loading) dropFile(err error) {
	l.file.abandon()
	l.file = nil
	l.follower.diskFailed(err)
}

// Commit puts the set in force, and returns when it is on disk. If the disk
// fails the set is in force all the same. On an error the current set stays.
func (l *Loading) Commit() error {
	f := l.follower
	if err := l.load.end(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.older(l.position) {
		return ErrOlderRevision
	}
	if err := l.set.check(); err != nil {
		return err
	}
	if f.contact.Load() != nil && f.current.Load().logID != l.position.logID {
		f.contact.Store(&contact{}) // it was about another log
	}
	if l.position.logID != f.known.logID {
		f.furthest = 0
	}
	f.hold(&current{position: l.position, set: l.set})
	f.changed(Changed{Revision: l.position.revision, All: true})
	f.otherRules.clear()
	if l.file == nil {
		return nil
	}
	err := l.file.commit()
	if err == nil {
		err = f.dir.noteMark(l.position)
	}
	if err == nil {
		err = f.dir.restart(header{Log: l.position.logID, Revision: l.position.revision, Retention: f.retention})
	}
	if err != nil {
		l.dropFile(err)
		return nil
	}
	f.diskError.clear()
	return nil
}

// Abandon gives the set up. The current set stays.
func (l *Loading) Abandon() {
	_ = l.load.end()
	if l.file != nil {
		l.file.abandon()
		l.file = nil
	}
}
