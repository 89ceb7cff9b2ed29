// Package replica is a replica's copy of the revocations: the exact set in
// memory that look-ups read, and its snapshot and journal on disk.
//
// # Exactness
//
// A filter answers most look-ups. A hit of the filter is confirmed by an exact
// look-up of all 128 bits of the digest, so a false positive never denies. An
// entry stays until it has ended or was restored, so a revoked token is never
// allowed.
//
// # Ownership
//
// One [Follower] owns everything. The goroutine of the feed changes it, and any
// number of goroutines look tokens up at the same time. A look-up takes no lock
// that a change, a load or the disk can hold.
//
// # Position
//
// A follower holds one log at one revision, and never goes back: neither to an
// earlier revision nor, by itself, to another log. Everything up to
// the position is on disk, so a replica that is killed comes back with everything
// that it had acknowledged. If the disk fails, the set in memory stays in force,
// and [Status] reports the failure.
//
// # Time
//
// An entry has ended when the replica's clock and the control endpoint's both
// say so. Until the control endpoint's time is known, no entry has ended. So a
// clock that is wrong keeps an entry too long, and never too short.
package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rescind/revocation"
)

var (
	// ErrNotReady reports that there is no complete set to look tokens up in, or
	// that the set cannot be relied on.
	ErrNotReady = errors.New("the revocations are not complete")
	// ErrForeignLog reports a control endpoint that has another log than the
	// follower.
	ErrForeignLog = errors.New("the control endpoint has another log")
	// ErrOlderRevision reports a control endpoint whose log ends before the
	// follower's revision.
	ErrOlderRevision = errors.New("the control endpoint is at an older revision of the log")
	// ErrOtherHistory reports a control endpoint whose log has another record of the
	// follower's revision: the log was restored from an older copy, and went on.
	ErrOtherHistory = errors.New("the control endpoint has other revisions of the log")
)

// Options configure a [Follower].
type Options struct {
	// Dir is the directory of the snapshot and the journal. If it is empty,
	// nothing is written to disk.
	Dir string
	// MaxStaleness is how old the set may be, counted from the last contact with
	// the control endpoint. If it is 0 there is no limit, and the set counts as
	// stale after 30 s.
	MaxStaleness time.Duration
	// Lifetimes are, by issuer, how long a token may be accepted. A follower is
	// not ready while revocations may end sooner.
	Lifetimes map[string]time.Duration
	// Changed, if not nil, is called after a change is in force and before it can be
	// acknowledged. It must not call the follower.
	Changed func(Changed)
	Logger  *slog.Logger // default: discards
}

// Changed is a change of the set, for callers that keep the results of look-ups.
type Changed struct {
	Added    []revocation.Entry // in force now
	Revision uint64             // of the set
	// All says that the results of all earlier look-ups may be wrong: there is another
	// set, or tokens are looked up under other shapes.
	All bool
}

// Follower is a replica's copy of the revocations, in memory and on disk.
//
// One goroutine, the feed's, calls the methods that change it: [Follower.Greet]
// to [Follower.Disconnected], and those of a [Loading].
type Follower struct {
	log     *slog.Logger
	counts  positives
	changed func(Changed)

	maxStaleness atomic.Int64

	current   atomic.Pointer[current] // all that look-ups read; never nil
	contact   atomic.Pointer[contact] // nil: none yet
	connected atomic.Bool

	refused           condition // why the control endpoint is not followed
	retentionTooShort condition // why its retention does not suffice
	otherRules        condition // why the set on disk is not used
	corruption        condition // a fault of the set that a look-up found
	diskError         condition // why the disk lacks entries that memory has

	mu        sync.Mutex // held for every change of the fields below, and of current
	lifetimes map[string]time.Duration
	known     position // the furthest position ever
	// furthest is the last revision of the known log that has entries in force
	// ahead of its turn. The control endpoint has been told that it is in force, so
	// no older set may replace the current one.
	furthest  uint64
	greeted   position
	retention time.Duration // 0: unknown
	dir       *directory    // nil: nothing is written to disk

	stop chan struct{}
	done sync.WaitGroup
}

type position struct {
	logID    string
	revision uint64
	mark     uint64 // of the revision, see [revocation.Change]; 0: not known
}

// current is a set and its position. A current is replaced, never changed; its
// set does change.
type current struct {
	position
	set      *set // nil: none
	fromDisk bool // and there was no contact since
	ahead    int  // entries of the set that belong to the next revision, of which more is to come
}

// entries returns the number of entries at the position.
func (c *current) entries() int { return c.set.len() - c.ahead }

// Open returns a follower with the set that is on disk, if there is a directory
// and it has one. Damaged files are set aside and logged; the feed replaces
// them. Open fails if the directory cannot be used.
func Open(o Options) (*Follower, error) {
	f, err := newFollower(o)
	if err != nil {
		return nil, err
	}
	f.done.Go(f.maintain)
	return f, nil
}

// newFollower returns a follower without maintenance.
func newFollower(o Options) (*Follower, error) {
	f := &Follower{log: o.Logger, changed: o.Changed, lifetimes: o.Lifetimes, stop: make(chan struct{})}
	if f.changed == nil {
		f.changed = func(Changed) {}
	}
	f.maxStaleness.Store(int64(o.MaxStaleness))
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.current.Store(&current{})
	if o.Dir != "" {
		if err := f.recover(o.Dir); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// recover opens the directory and takes up the set in it.
func (f *Follower) recover(path string) (err error) {
	if f.dir, err = openDirectory(path, f.log); err != nil {
		return err
	}
	began := time.Now()
	r, err := f.dir.recover(revocation.MicrosOf(began))
	if err != nil {
		_ = f.dir.close()
		return err
	}
	if r == nil {
		return nil
	}
	f.known, f.furthest, f.retention = r.position, r.furthest, r.retention
	f.checkRetention()
	if r.set == nil {
		text := fmt.Sprintf("the revocations on disk follow another version of the matching rules than this replica (version %d): all of them are loaded again from the control endpoint", revocation.Rules)
		f.otherRules.set(text)
		f.log.Warn(text, "log", r.logID, "revision", r.revision)
		return nil
	}
	f.hold(&current{position: r.position, set: r.set, fromDisk: true, ahead: r.ahead})
	f.contact.Store(&contact{sure: r.contact, at: r.contact})
	f.log.Info("revocations read from disk", "log", r.logID, "revision", r.revision, "entries", r.set.len(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// Close stops the maintenance and releases the directory.
func (f *Follower) Close() error {
	close(f.stop)
	f.done.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == nil {
		return nil
	}
	return f.dir.close()
}

// Verdict is the result of a look-up.
type Verdict struct {
	Revoked  bool
	By       revocation.ID   // the revocation that denies the token
	Kind     revocation.Kind // of its target
	Revision uint64          // of the set
	Stale    bool            // the set is older than it should be
	Overdue  bool            // the set is older than MaxStaleness
}

// Lookup reports whether t is revoked at now. On an error the token must be
// denied: [ErrNotReady] says that look-ups fail for a while, and
// [revocation.ErrTooManyCombinations] that this token cannot be looked up.
func (f *Follower) Lookup(t *revocation.Token, now time.Time) (Verdict, error) {
	return f.verdict(now, func(s *set, ended revocation.Micros) (match, bool, error) {
		return s.lookup(t, ended, &f.counts)
	})
}

// verdict returns the result of lookup in the current set, with the set's revision
// and age.
func (f *Follower) verdict(now time.Time, lookup func(s *set, ended revocation.Micros) (match, bool, error)) (Verdict, error) {
	c := f.current.Load()
	v := Verdict{Revision: c.revision}
	v.Stale, v.Overdue = f.stale(now)
	if c.set == nil || f.retentionTooShort.holds() {
		return v, ErrNotReady
	}
	by, revoked, err := lookup(c.set, f.ended(now))
	if err != nil {
		if !errors.Is(err, revocation.ErrTooManyCombinations) {
			f.corruption.set(err.Error())
		}
		return v, err
	}
	v.Revoked, v.By, v.Kind = revoked, by.id, by.kind
	return v, nil
}

// Position returns the log and its last revision that is in force; an empty log
// if there is none.
func (f *Follower) Position() (logID string, revision uint64) {
	c := f.current.Load()
	return c.logID, c.revision
}

// Mark returns the furthest revision that the follower has ever held, also if its set
// is gone, and the mark of that revision; 0 if the mark is not known.
func (f *Follower) Mark() (revision, mark uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known.revision, f.known.mark
}

// checkRetention compares the lifetimes of tokens with the retention. The caller
// holds mu.
func (f *Follower) checkRetention() {
	err := f.outlived(f.lifetimes)
	if err == nil {
		f.retentionTooShort.clear()
		return
	}
	if f.retentionTooShort.set(err.Error()) {
		f.log.Error("replica not ready: " + err.Error())
	}
}

// outlived returns an error if one of the lifetimes is longer than the
// retention, as far as that is known. The caller holds mu.
func (f *Follower) outlived(lifetimes map[string]time.Duration) error {
	for _, issuer := range slices.Sorted(maps.Keys(lifetimes)) {
		if life := lifetimes[issuer]; f.retention > 0 && life > f.retention {
			return fmt.Errorf("issuer %s accepts tokens for %v (max_lifetime + leeway before and after), but the control endpoint keeps revocations for %v (store.retention), so a revocation could end before its token; lower max_lifetime, or raise retention", issuer, life, f.retention)
		}
	}
	return nil
}

// Fits returns an error if a replica with these lifetimes would not be ready. It
// returns nil if the replica is not ready for that reason already: then new
// lifetimes cannot make it worse.
func (f *Follower) Fits(lifetimes map[string]time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retentionTooShort.holds() {
		return nil
	}
	return f.outlived(lifetimes)
}

// SetLimits replaces MaxStaleness and Lifetimes of the options.
func (f *Follower) SetLimits(maxStaleness time.Duration, lifetimes map[string]time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maxStaleness.Store(int64(maxStaleness))
	f.lifetimes = lifetimes
	f.checkRetention()
}

// hold makes c current. The caller holds mu.
func (f *Follower) hold(c *current) {
	c.set.inUse.Store(true)
	f.current.Store(c)
	f.known = c.position
}

// discard gives up the set. Until the next connection brings another one,
// nothing is allowed. The caller holds mu.
func (f *Follower) discard(why string) {
	f.log.Error("the revocations in memory cannot be relied on; every token is denied until they are loaded again", "error", why)
	f.current.Store(&current{})
	f.corruption.clear()
	f.changed(Changed{All: true})
}

// Locked calls work while no change can be in progress. A follower that cannot take
// a change in does not call it.
func (f *Follower) Locked(work func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	work()
}

// toDisk writes to the directory, if there is one and it has all that came
// before. The caller holds mu.
func (f *Follower) toDisk(write func(*directory) error) {
	if f.dir == nil || f.diskError.holds() {
		return
	}
	if err := write(f.dir); err != nil {
		f.diskFailed(err)
	}
}

func (f *Follower) diskFailed(err error) {
	f.diskError.set(err.Error())
	f.log.Error("revocations are in force but cannot be written to disk; a restart without the control endpoint would begin with an older set", "error", err)
}
