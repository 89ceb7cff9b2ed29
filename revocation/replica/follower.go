// Package replica is a replica's copy of the revocations: the exact set in
// memory that look-ups read, and its snapshot and journal on disk.
//
// # Exactness
//
// A filter answers most look-ups. A hit of the filter is confirmed by an exact
// look-up of all 128 bits of the digest, so a false positive never denies. An
// entry stays until it has expired or was restored, so a revoked token is never
// allowed.
//
// # Ownership
//
// One [Follower] owns everything. The goroutine of the feed changes it, and any
// number of goroutines look tokens up at the same time. A look-up takes no lock
// that a change, a load or the disk can hold.
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
	// ErrNotReady says that there is no complete set to look tokens up in, or
	// that it cannot be relied on.
	ErrNotReady = errors.New("the revocations are not complete")
	// ErrForeignLog says that a control endpoint has another log than the one
	// that is held.
	ErrForeignLog = errors.New("the control endpoint has another log")
	// ErrOlderRevision says that a control endpoint has the log that is held,
	// at an earlier revision.
	ErrOlderRevision = errors.New("the control endpoint is at an older revision of the log")
)

// Options are what a follower needs to know.
type Options struct {
	// Dir is where the last good set is kept; empty: nowhere.
	Dir string
	// MaxStaleness is how old the set may be, counted from the last word of
	// the control endpoint; 0: as old as may be, and after 30 s it is said to
	// be stale.
	MaxStaleness time.Duration
	// Lifetimes are, by issuer, how long a token may be accepted: a follower
	// is not ready while revocations may end sooner.
	Lifetimes map[string]time.Duration
	Logger    *slog.Logger // default: discards
}

// Follower is a replica's copy of the revocations, in memory and on disk.
//
// One goroutine, that of the feed, tells it what changes ([Follower.Greet] to
// [Follower.Disconnected], and a [Loading]); any number look tokens up. A
// look-up takes no lock that any of that holds.
//
// It holds one log at one revision, and never goes back: neither to an earlier
// revision nor, by itself, to another log. What it says to hold it holds on
// disk too, so a replica that is killed comes back with what it had
// acknowledged. If the disk fails the set in memory stays good, and the
// failure is said.
//
// Two clocks say when an entry has ended: its own and, as far as it was heard
// lately, the control endpoint's. Both must say so: a clock that is wrong
// keeps an entry too long rather than too short.
type Follower struct {
	log    *slog.Logger
	counts positives

	maxStaleness atomic.Int64

	held      atomic.Pointer[held]    // what readers see; never nil
	contact   atomic.Pointer[contact] // nil: none yet
	connected atomic.Bool
	refused   atomic.Pointer[string] // why the control endpoint is not followed
	unfit     atomic.Pointer[string] // why its retention does not do
	suspect   atomic.Pointer[string] // what a look-up found to be wrong
	diskError atomic.Pointer[string] // why the disk lacks what memory has

	mu        sync.Mutex // all that changes what is held
	lifetimes map[string]time.Duration
	known     position // the furthest that was held, ever
	greeted   position
	retention time.Duration // 0: not known
	disk      *disk         // nil: none

	stop chan struct{}
	done sync.WaitGroup
}

type position struct {
	logID    string
	revision uint64
}

// held is a set and where in the log it is. It is replaced, never changed,
// though its set is.
type held struct {
	position
	set      *set // nil: none
	fromDisk bool // and nothing has been heard since
}

// contact is the last word of the control endpoint.
type contact struct {
	sure   time.Time // when nothing was beyond what is held, by our clock
	at     time.Time // when that word came, by our clock
	server time.Time // and by its own; zero: it came before a restart
}

// staleAfter is when a set without a limit is said to be stale.
const staleAfter = 30 * time.Second

// maintenance is how often expired entries are dropped and invariants checked.
const maintenance = time.Second

// Open takes up what lies on disk, if there is a directory and it has a
// set. What is damaged there is set aside and logged; the feed replaces it.
func Open(o Options) (*Follower, error) {
	f := &Follower{log: o.Logger, lifetimes: o.Lifetimes, stop: make(chan struct{})}
	f.maxStaleness.Store(int64(o.MaxStaleness))
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.held.Store(&held{})
	if o.Dir != "" {
		if err := f.recover(o.Dir); err != nil {
			return nil, err
		}
	}
	f.done.Go(f.maintain)
	return f, nil
}

// recover opens the directory and reads what it has.
func (f *Follower) recover(dir string) (err error) {
	if f.disk, err = openDisk(dir, f.log); err != nil {
		return err
	}
	began := time.Now()
	found, err := f.disk.read(revocation.MicrosOf(time.Now()))
	if err != nil {
		_ = f.disk.close()
		return err
	}
	if found == nil {
		return nil
	}
	f.held.Store(&held{position: found.position, set: found.set, fromDisk: true})
	f.known, f.retention = found.position, found.retention
	f.measure()
	f.contact.Store(&contact{sure: found.contact, at: found.contact})
	f.log.Info("revocations read from disk", "log", found.logID, "revision", found.revision, "entries", found.set.len(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// Close stops the maintenance and lets the directory go.
func (f *Follower) Close() error {
	close(f.stop)
	f.done.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk == nil {
		return nil
	}
	return f.disk.close()
}

// Verdict is what is known about a token.
type Verdict struct {
	Revoked  bool
	By       revocation.ID   // of a revocation that denies it
	Kind     revocation.Kind // of its target
	Revision uint64          // of the set that was asked
	Stale    bool            // the set is older than it should be
	Overdue  bool            // and older than MaxStaleness
}

// Lookup says whether t is revoked now. An error means that nobody knows; if
// it is [ErrNotReady] that is for a while.
func (f *Follower) Lookup(t *revocation.Token, now time.Time) (Verdict, error) {
	h := f.held.Load()
	v := Verdict{Revision: h.revision}
	v.Stale, v.Overdue = f.stale(now)
	if h.set == nil || f.unfit.Load() != nil {
		return v, ErrNotReady
	}
	var err error
	v.By, v.Kind, v.Revoked, err = h.set.lookup(t, f.clock(now), &f.counts)
	if err != nil && !errors.Is(err, revocation.ErrTooManyCombinations) {
		text := err.Error()
		f.suspect.Store(&text)
	}
	return v, err
}

// stale says how the age of the set compares with its limits. The age is
// reckoned without the wall clock, but for a set that came from disk; one
// from the future is as old as can be.
func (f *Follower) stale(now time.Time) (stale, overdue bool) {
	limit := time.Duration(f.maxStaleness.Load())
	c := f.contact.Load()
	late := func(limit time.Duration) bool {
		if c == nil {
			return true
		}
		age := now.Sub(c.sure)
		return age > limit || age < -time.Minute
	}
	if limit <= 0 {
		return late(staleAfter), false
	}
	overdue = late(limit)
	return overdue, overdue
}

// clock is the instant until which entries have ended.
func (f *Follower) clock(now time.Time) revocation.Micros {
	if c := f.contact.Load(); c != nil && !c.server.IsZero() {
		if theirs := c.server.Add(now.Sub(c.at)); theirs.Before(now) {
			now = theirs
		}
	}
	return revocation.MicrosOf(now)
}

// Position is the log that is held and the last revision in force; an empty
// log if there is none.
func (f *Follower) Position() (logID string, revision uint64) {
	h := f.held.Load()
	return h.logID, h.revision
}

// Greet begins a connection to a control endpoint that has this log at this
// revision and keeps revocations for as long as retention. It refuses one that
// would lead back.
func (f *Follower) Greet(logID string, revision uint64, retention time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	switch {
	case f.known.logID != "" && f.known.logID != logID:
		err = fmt.Errorf("%w: it has %s, and %s is held, at revision %d; if that log is gone for good, start the control endpoint once with --accept-log %s",
			ErrForeignLog, logID, f.known.logID, f.known.revision, f.known.logID)
	case f.known.logID == logID && revision < f.known.revision:
		err = fmt.Errorf("%w: it is at revision %d, and revision %d is held; if it was restored from a backup, start the control endpoint once with --accept-log %s",
			ErrOlderRevision, revision, f.known.revision, logID)
	}
	if err != nil {
		text := err.Error()
		f.refused.Store(&text)
		return err
	}
	f.refused.Store(nil)
	f.greeted, f.retention = position{logID, revision}, retention
	f.measure()
	f.connected.Store(true)
	return nil
}

// Accept lets another log take the place of the one that is held: an operator
// of the control endpoint has said that it replaces these. Where that is so
// nothing is lost by it: what is held stays in force until the new one is
// loaded.
func (f *Follower) Accept(replaced []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known.logID == "" || !slices.Contains(replaced, f.known.logID) {
		return
	}
	f.log.Warn("an operator has replaced the log that is held", "log", f.known.logID, "revision", f.known.revision)
	f.known = position{}
}

// measure holds the lifetimes of tokens against the retention. The caller
// holds mu.
func (f *Follower) measure() {
	err := f.outlived(f.lifetimes)
	if err == nil {
		f.unfit.Store(nil)
		return
	}
	text := err.Error()
	if old := f.unfit.Swap(&text); old == nil || *old != text {
		f.log.Error("not ready: " + text)
	}
}

// outlived says which of the lifetimes is longer than the retention, if that is
// known. The caller holds mu.
func (f *Follower) outlived(lifetimes map[string]time.Duration) error {
	for _, issuer := range slices.Sorted(maps.Keys(lifetimes)) {
		if life := lifetimes[issuer]; f.retention > 0 && life > f.retention {
			return fmt.Errorf("issuer %s accepts tokens for %v (max_lifetime + leeway before and after), but the control endpoint keeps revocations for %v (store.retention): one could end before its token; lower max_lifetime, or raise retention", issuer, life, f.retention)
		}
	}
	return nil
}

// Fits says why the limits cannot be replaced by ones with these lifetimes
// without losing readiness, or nil. A follower that is not ready for their sake
// already has nothing to lose.
func (f *Follower) Fits(lifetimes map[string]time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unfit.Load() != nil {
		return nil
	}
	return f.outlived(lifetimes)
}

// SetLimits replaces the limits of the options.
func (f *Follower) SetLimits(maxStaleness time.Duration, lifetimes map[string]time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maxStaleness.Store(int64(maxStaleness))
	f.lifetimes = lifetimes
	f.measure()
}

// Apply puts changes in force, that follow what is held without a gap, and
// returns when they are on disk too. Those that are held already are passed
// over.
func (f *Follower) Apply(changes []revocation.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.held.Load()
	if h.set == nil {
		return ErrNotReady
	}
	now := time.Now()
	clock := f.clock(now)
	for len(changes) > 0 && changes[0].Revision <= h.revision {
		changes = changes[1:]
	}
	for i, c := range changes { // before any of it is in force and not in the journal
		if want := h.revision + 1 + uint64(i); c.Revision != want {
			return fmt.Errorf("revision %d came where %d was to follow", c.Revision, want)
		}
	}
	for i := range changes {
		c := &changes[i]
		if err := h.set.apply(c.Added, c.Removed, clock); err != nil {
			f.distrust(err.Error())
			return err
		}
		h = &held{position: position{h.logID, c.Revision}, set: h.set}
		f.hold(h)
	}
	f.toDisk(func(d *disk) error { return d.append(changes) })
	return nil
}

// hold makes h what is held. The caller holds mu.
func (f *Follower) hold(h *held) {
	f.held.Store(h)
	f.known = h.position
}

// Contact takes the control endpoint's word that an age ago there was nothing
// beyond this revision, if that is what is held; server is what its clock says
// now. Only that makes a set be as of a later time, not that it is loaded or
// changed: who sends it may itself be cut off.
func (f *Follower) Contact(revision uint64, server time.Time, age time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.held.Load()
	if h.set == nil || revision != h.revision {
		return
	}
	if h.fromDisk {
		f.hold(&held{position: h.position, set: h.set})
	}
	now := time.Now()
	c := &contact{sure: now.Add(-age), at: now, server: server}
	if old := f.contact.Load(); old != nil && old.sure.After(c.sure) && !old.sure.After(now) {
		c.sure = old.sure
	}
	f.contact.Store(c)
	f.toDisk(func(d *disk) error { return d.heard(c.sure, f.retention) })
}

// Disconnected says that the connection is gone. What is held stays in force.
func (f *Follower) Disconnected() { f.connected.Store(false) }

// toDisk does something with the disk, if there is one and it has all that
// came before. The caller holds mu.
func (f *Follower) toDisk(do func(*disk) error) {
	if f.disk == nil || f.diskError.Load() != nil {
		return
	}
	if err := do(f.disk); err != nil {
		f.diskFailed(err)
	}
}

func (f *Follower) diskFailed(err error) {
	text := err.Error()
	f.diskError.Store(&text)
	f.log.Error("revocations are in force but cannot be written to disk; a restart without the control endpoint would begin from an older set", "error", err)
}

// distrust gives up the set that is held: the next connection brings another.
// Until then nothing is allowed. The caller holds mu.
func (f *Follower) distrust(why string) {
	f.log.Error("the revocations in memory cannot be relied on; nothing is allowed until they have been fetched again", "error", why)
	f.held.Store(&held{})
	f.suspect.Store(nil)
}

// maintain drops what has expired, renews filters, watches the invariants and
// keeps the journal short.
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
		h := f.held.Load()
		if h.set == nil {
			continue
		}
		h.set.sweep(f.clock(time.Now()))
		err := h.set.renew()
		if err == nil {
			err = h.set.check()
		}
		f.mu.Lock()
		if why := f.suspect.Load(); err == nil && why != nil {
			err = errors.New(*why)
		}
		if err != nil && f.held.Load().set == h.set {
			f.distrust(err.Error())
		}
		f.mu.Unlock()
		if now := time.Now(); f.disk != nil && (f.diskError.Load() == nil || now.After(retry)) {
			retry = now.Add(10 * time.Second)
			f.compact()
		}
	}
}

// compact writes the whole set anew when the journal has become long, or when
// writing has failed. It takes what it writes from the set while that goes on
// changing; what changes meanwhile is in the journal that it begins first.
func (f *Follower) compact() {
	f.mu.Lock()
	h := f.held.Load()
	failed := f.diskError.Load() != nil
	if h.set == nil || !failed && !f.disk.long() {
		f.mu.Unlock()
		return
	}
	head := header{Log: h.logID, Revision: h.revision, Retention: f.retention, Entries: h.set.len(), Ordered: true}
	err := f.disk.begin(head)
	if err == nil {
		f.diskError.Store(nil)
	}
	f.mu.Unlock()
	var w *snapshotWriter
	if err == nil {
		w, err = f.disk.snapshot(head)
	}
	if err == nil {
		err = h.set.each(w.add)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if w != nil {
		defer w.abandon()
	}
	if err == nil && f.held.Load().set == h.set {
		err = w.commit()
	}
	if err != nil {
		f.diskFailed(err)
	} else if failed {
		f.log.Info("revocations can be written to disk again")
	}
}

// Loading is a whole set on its way to replace the one that is held. It
// belongs to one goroutine.
type Loading struct {
	follower *Follower
	position position
	set      *set
	filling  *filling
	file     *snapshotWriter // nil: not written
}

// maxRoom bounds the room that is made for entries before they come.
const maxRoom = 1 << 24

// Load begins a set of the log that was greeted, which will be at this
// revision with about so many entries. What is held stays in force until
// [Loading.Commit].
func (f *Follower) Load(logID string, revision, expect uint64) (*Loading, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case logID != f.greeted.logID:
		return nil, fmt.Errorf("log %q is not the one that was greeted", logID)
	case logID == f.known.logID && revision < f.known.revision:
		return nil, ErrOlderRevision
	}
	clock := f.clock(time.Now())
	l := &Loading{follower: f, position: position{logID, revision}, set: newSet(int(min(expect, maxRoom)), clock)}
	l.filling = fill(l.set, clock)
	if f.disk != nil {
		var err error
		l.file, err = f.disk.snapshot(header{Log: logID, Revision: revision, Retention: f.retention, Entries: int(min(expect, maxRoom))})
		if err != nil {
			f.diskFailed(err)
		}
	}
	return l, nil
}

// Add takes in a part, which is the Loading's from then on. What it finds wrong
// it may tell at [Loading.Commit] only.
func (l *Loading) Add(entries []revocation.Entry) error {
	l.filling.add(entries)
	if l.file != nil {
		if err := l.file.add(entries); err != nil {
			l.drop(err)
		}
	}
	return nil
}

func (l *Loading) drop(err error) {
	l.file.abandon()
	l.file = nil
	l.follower.diskFailed(err)
}

// Commit puts the set in force, and returns when it is on disk.
func (l *Loading) Commit() error {
	f := l.follower
	if err := l.filling.end(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.position.logID == f.known.logID && l.position.revision < f.known.revision {
		return ErrOlderRevision
	}
	if err := l.set.check(); err != nil {
		return err
	}
	if f.contact.Load() != nil && f.held.Load().logID != l.position.logID {
		f.contact.Store(&contact{}) // it was about another log
	}
	f.hold(&held{position: l.position, set: l.set})
	if l.file == nil {
		return nil
	}
	err := l.file.commit()
	if err == nil {
		err = f.disk.restart(header{Log: l.position.logID, Revision: l.position.revision, Retention: f.retention})
	}
	if err != nil {
		l.drop(err)
		return nil
	}
	f.diskError.Store(nil)
	return nil
}

// Abandon gives the set up. What is held stays as it is.
func (l *Loading) Abandon() {
	_ = l.filling.end()
	if l.file != nil {
		l.file.abandon()
		l.file = nil
	}
}
