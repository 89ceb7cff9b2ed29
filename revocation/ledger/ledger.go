// Package ledger holds what the control endpoint has accepted: the state that
// the durable log amounts to, the committer that appends to the log, and the
// audit.
//
// # How it holds together
//
// A [Log] keeps batches of bytes in order. The [Ledger] is the state of these
// batches, and their only writer. A request is decided against the state at
// some revision, and appended as the next revision. If another node appended
// first, the append does nothing and the request is decided again. So every
// answer is right at the revision that it names, on every node.
//
// Everything here is rebuilt from the log when the process starts. The ledger
// is also the source of the feed to the replicas.
//
// # What is kept
//
// A restored revocation stays visible until it would have expired. An expired
// revocation is gone. The ledger knows nothing of HTTP.
package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rescind/revocation"
)

// Log is the durable log that a ledger stands on. The package store has it on
// JetStream; its documentation is this interface's.
type Log interface {
	ID() string
	// Replaces are the logs that this one takes the place of.
	Replaces() []string
	Writer() string
	// Err says why the log takes no writes, or nil.
	Err() error
	// MaxBody is the size of the largest body that Append and Note take.
	MaxBody() int
	// Head is the last revision, whether it was read here or not. Somebody
	// knows of the wanted one.
	Head(ctx context.Context, wanted uint64) (uint64, error)
	// Agreed is an instant, and a revision: nothing was beyond it then, on any
	// node.
	Agreed() (at time.Time, head uint64)
	// Append adds body after the given revision; it returns 0 and no error if
	// that is not the last one any more.
	Append(ctx context.Context, after uint64, lasts time.Time, body []byte) (revision uint64, err error)
	// Read delivers every batch after the given revision, for as long as ctx
	// allows, and calls caughtUp when it has delivered what there was.
	Read(ctx context.Context, after uint64, deliver func(revision uint64, body []byte) error, caughtUp func()) error
	// Note adds to the audit; covers is the last revision of this writer that
	// the note is about.
	Note(ctx context.Context, covers uint64, body []byte) (number uint64, err error)
	// Notes yields the audit before the given number, newest first.
	Notes(ctx context.Context, before uint64, yield func(number uint64, body []byte) bool) error
	// Noted is the last revision of this writer that a note covers.
	Noted(ctx context.Context) (uint64, error)
}

const defaultShapesPerIssuer = 64

// Options are what a ledger needs to know.
type Options struct {
	Retention       time.Duration    // the longest that a revocation may last
	ShapesPerIssuer int              // distinct sets of claim names in force for one issuer; default: 64
	Now             func() time.Time // default: time.Now
	Logger          *slog.Logger     // default: discards
}

// Ledger is the state that the log amounts to: every revocation that has not
// expired. It changes only by applying the log's batches in their order,
// whether this process appended them or another. Reads see a revision whole.
type Ledger struct {
	log             Log
	retention       time.Duration
	shapesPerIssuer int
	maxStanding     int // revocations in force of one digest
	maxScan         int // rows that a page looks at
	now             func() time.Time
	logger          *slog.Logger

	queue chan *attempt // to the committer
	notes chan note     // to the auditor

	// order is held while a batch is appended and applied, so that the reader
	// does not apply it first: only the committer knows who waits for it.
	order sync.Mutex

	mu       sync.RWMutex
	revision uint64
	changed  chan struct{} // closed when revision grows
	rows     *rows
	sure     time.Time         // when nothing was beyond revision
	swept    revocation.Micros // no instant before this is believed any more
	moves    moves
	caughtUp bool
	allRead  chan struct{} // closed when caughtUp is set
	ended    error
	appends  uint64
	accepted acceptances

	metrics *metrics
}

// New makes a ledger over log. It is empty until [Ledger.Run] runs.
func New(log Log, o Options) *Ledger {
	l := &Ledger{
		log: log, retention: o.Retention, now: o.Now, logger: o.Logger,
		queue: make(chan *attempt, 256), notes: make(chan note, 256),
		changed: make(chan struct{}), allRead: make(chan struct{}), rows: newRows(), metrics: newMetrics(), shapesPerIssuer: o.ShapesPerIssuer, maxStanding: maxStanding, maxScan: maxScan,
	}
	if l.shapesPerIssuer <= 0 {
		l.shapesPerIssuer = defaultShapesPerIssuer
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	return l
}

// Run reads the log and serves until ctx ends or the log cannot be trusted;
// then it says why. It runs once.
func (l *Ledger) Run(ctx context.Context) error {
	noted, err := l.log.Noted(ctx)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	read := make(chan readItem, 1)
	group.Go(func() error {
		defer close(read)
		return l.read(ctx, read)
	})
	group.Go(func() error {
		for item := range read {
			l.take(ctx, item, noted)
		}
		return nil
	})
	group.Go(func() error { return l.commit(ctx) })
	group.Go(func() error { return l.audit(ctx) })
	group.Go(func() error { return l.sweep(ctx) })
	err = group.Wait()
	l.mu.Lock()
	l.ended = ErrNotReady
	l.mu.Unlock()
	l.drain()
	return err
}

// Whole is closed once all that the log had when Run began has been read.
func (l *Ledger) Whole() <-chan struct{} { return l.allRead }

func (l *Ledger) whole() {
	l.mu.Lock()
	l.caughtUp = true
	close(l.allRead)
	count, revision := l.rows.live, l.revision
	l.mu.Unlock()
	l.logger.Info("log read", "log", l.log.ID(), "revision", revision, "revocations", count)
}

// Ready says why the ledger cannot serve, or nil. A log that takes no writes
// for the moment does not unready it: what it holds stays right.
func (l *Ledger) Ready() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.ended != nil:
		return l.ended
	case !l.caughtUp:
		return fmt.Errorf("%w: the log is being read", ErrNotReady)
	}
	return nil
}

// readItem is one revision as it was read, or the news that all that was there
// has been.
type readItem struct {
	revision uint64
	writer   string
	ops      []operation
	whole    bool
}

// read turns what the log delivers into items. It is ahead of take by one: with
// millions of revocations both have their work.
func (l *Ledger) read(ctx context.Context, out chan<- readItem) error {
	in := newInterner()
	pass := func(item readItem) error {
		select {
		case out <- item:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return l.log.Read(ctx, 0, func(revision uint64, body []byte) (err error) {
		item := readItem{revision: revision}
		if body != nil {
			if item.writer, item.ops, err = readBatch(body, revision, in); err != nil {
				return err
			}
		}
		return pass(item)
	}, func() { _ = pass(readItem{whole: true}) })
}

// take applies what was read. Revisions that the committer applied are passed
// over. A batch of this writer that it did not apply is one whose fate was
// unknown when its append failed, or that a crash left without a note.
func (l *Ledger) take(ctx context.Context, item readItem, noted uint64) {
	if item.whole {
		l.whole()
		return
	}
	l.order.Lock()
	defer l.order.Unlock()
	if item.revision <= l.Revision() {
		return
	}
	l.apply(item.revision, item.ops)
	if len(item.ops) > 0 && item.writer == l.log.Writer() && item.revision > noted {
		l.owe(ctx, item.revision, item.ops)
	}
}

// apply makes one revision of the log part of the state. The caller holds
// order.
func (l *Ledger) apply(revision uint64, ops []operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range ops {
		op := &ops[i]
		if op.packed == nil {
			u := undone{revision: revision, at: op.restore.At.UnixMicro(), by: op.restore.By}
			if w, shown := l.rows.restore(op.restore.ID, u); w != nil {
				l.moves.add(revision, true, shown...)
				l.moves.add(revision, false, op.restore.ID)
			}
			continue
		}
		if op.entry.ExpiresAt > l.swept {
			l.moves.add(revision, false, l.rows.add(op)...)
		}
	}
	l.revision = revision
	close(l.changed)
	l.changed = make(chan struct{})
}

// clock is now, or the instant of the last sweep if the clock was set back
// since: what has expired does not come back. The caller holds mu.
func (l *Ledger) clock() revocation.Micros {
	return max(revocation.MicrosOf(l.now()), l.swept)
}

const sweepInterval = 5 * time.Second

// sweep forgets what has expired, from time to time.
func (l *Ledger) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			l.forget()
		}
	}
}

func (l *Ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swept = l.clock()
	l.rows.sweep(l.swept)
}

// CatchUp waits for a revision that another node has given and this one has
// not read yet. It fails if nobody knows whether there is one.
func (l *Ledger) CatchUp(ctx context.Context, revision uint64) error {
	if revision <= l.Revision() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	head, err := l.log.Head(ctx, revision)
	if err == nil && revision <= head {
		err = l.Wait(ctx, revision-1)
	}
	if err != nil {
		return fmt.Errorf("%w: another node may be ahead of this one, and it cannot be reached: %w", ErrNotReady, err)
	}
	return nil
}

// Item is a revocation and what has become of it.
type Item struct {
	revocation.Revocation
	Restored *Restored // nil while it is in force
}

// Restored says who undid a revocation.
type Restored struct {
	Revision uint64
	At       time.Time
	By       string
}

// Find is one revocation, restored ones too, until it expires.
func (l *Ledger) Find(id revocation.ID) (Item, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c, w := l.rows.find(id)
	if w == nil || w.expires <= l.clock() {
		return Item{}, ErrUnknown
	}
	return l.item(c, w, newInterner()), nil
}

// item is a row for the outside. The caller holds mu.
func (l *Ledger) item(c *chunk, w *row, in *interner) Item {
	it := Item{Revocation: *unpack(c.packed(w), in)}
	it.ID = w.id()
	if w.state == restored {
		u := l.rows.undone[it.ID]
		it.Restored = &Restored{Revision: u.revision, At: time.UnixMicro(u.at).UTC(), By: u.by}
	}
	return it
}
