// Package ledger holds the accepted revocations of the control endpoint: the
// state of the durable log, the committer that appends to the log, and the audit.
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
// # Retention
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

// Log is the durable log under a ledger. The package store implements it on
// JetStream.
type Log interface {
	ID() string
	// Replaces returns the logs that this one takes the place of.
	Replaces() []string
	// Writer returns the name of this node as a writer of the log.
	Writer() string
	// Err returns why the log takes no writes, or nil.
	Err() error
	// MaxBody returns the size of the largest body that Append and Note take.
	MaxBody() int
	// Head returns the last revision, whether this node has read it or not. A
	// caller knows of the wanted revision.
	Head(ctx context.Context, wanted uint64) (uint64, error)
	// Agreed returns a time and a revision. At that time no node had a later
	// revision.
	Agreed() (at time.Time, head uint64)
	// Append adds body after the given revision. It returns 0 and no error if
	// another revision was appended before.
	Append(ctx context.Context, after uint64, lasts time.Time, body []byte) (revision uint64, err error)
	// Read delivers every batch after the given revision, until ctx ends. It
	// calls caughtUp once, after the batches that were there when it began.
	Read(ctx context.Context, after uint64, deliver func(revision uint64, body []byte) error, caughtUp func()) error
	// Note adds a note to the audit. covers is the last revision of this writer
	// that the note is about.
	Note(ctx context.Context, covers uint64, body []byte) (number uint64, err error)
	// Notes yields the audit before the given number, newest first, and when the
	// log took each note.
	Notes(ctx context.Context, before uint64, yield func(number uint64, at time.Time, body []byte) bool) error
	// Noted returns the last revision of this writer that a note covers.
	Noted(ctx context.Context) (uint64, error)
}

const defaultShapesPerIssuer = 64

// Options are the settings of a ledger.
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
	maxRestored     int // rows that one restoration moves
	maxScan         int // rows that a page looks at
	now             func() time.Time
	logger          *slog.Logger
	lines           *announcer

	queue chan *attempt // to the committer
	notes chan note     // to the auditor

	// order is held while a batch is appended and applied. Otherwise the reader
	// could apply it first, and the committer could not answer its callers.
	order sync.Mutex

	mu       sync.RWMutex
	revision uint64
	changed  chan struct{} // closed when revision grows
	rows     *rows
	sure     time.Time         // the last time at which no revision was beyond this one
	swept    revocation.Micros // time of the last sweep; the clock does not go back before it
	moves    moves
	marks    marks
	caughtUp bool
	allRead  chan struct{} // closed when caughtUp is set
	ended    error
	appends  uint64
	accepted acceptances

	metrics *metrics
}

// New returns a ledger over a log. The ledger is empty until [Ledger.Run] runs.
func New(log Log, o Options) *Ledger {
	l := &Ledger{
		log: log, retention: o.Retention, now: o.Now, logger: o.Logger,
		queue: make(chan *attempt, 256), notes: make(chan note, 256),
		changed: make(chan struct{}), allRead: make(chan struct{}), rows: newRows(), metrics: newMetrics(),
		shapesPerIssuer: o.ShapesPerIssuer, maxStanding: maxStanding, maxRestored: maxRestored, maxScan: maxScan,
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
	l.lines = newAnnouncer(l.logger)
	return l
}

// CloseLines logs the number of the lines about refusals and failed logins that
// were left out in this second. It is called at the end of the process.
func (l *Ledger) CloseLines() { l.lines.close() }

// Run reads the log and serves until ctx ends or the log cannot be read. It
// returns the cause. It runs once.
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
			if err := l.take(ctx, item, noted); err != nil {
				return err
			}
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

// CaughtUp returns a channel that is closed once the ledger has read the batches
// that were in the log when [Ledger.Run] began.
func (l *Ledger) CaughtUp() <-chan struct{} { return l.allRead }

func (l *Ledger) catchUpDone() {
	l.mu.Lock()
	l.caughtUp = true
	close(l.allRead)
	count, revision := l.rows.live, l.revision
	l.mu.Unlock()
	l.logger.Info("log read", "log", l.log.ID(), "revision", revision, "revocations", count)
}

// Ready returns why the ledger cannot serve, or nil. A ledger whose log takes no
// writes for the moment is ready, because its state stays right.
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

// readItem is one revision of the log, or the sign that the ledger has caught up.
type readItem struct {
	revision uint64
	body     []byte // not decoded yet; nil: it is decoded, or the revision has none
	mark     uint64 // of a body that is decoded
	writer   string
	ops      []operation
	caughtUp bool
}

// read decodes the batches that were in the log at the start. It works one
// revision ahead of take, so that two processors share the work on a long log.
// It passes on later batches as they are, because the committer has applied most
// of them.
func (l *Ledger) read(ctx context.Context, out chan<- readItem) error {
	in, caughtUp := newInterner(), false
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
		switch {
		case caughtUp:
			item.body = body
		case body != nil:
			item.mark = markOf(body)
			if item.writer, item.ops, err = readBatch(body, revision, in); err != nil {
				return err
			}
		}
		return pass(item)
	}, func() { caughtUp = true; _ = pass(readItem{caughtUp: true}) })
}

// take applies one revision of the log, unless the committer has applied it. A
// batch of this writer that the committer did not apply belongs to an append that
// failed with its fate unknown, or to a process that ended before it wrote the
// note.
func (l *Ledger) take(ctx context.Context, item readItem, noted uint64) (err error) {
	if item.caughtUp {
		l.catchUpDone()
		return nil
	}
	l.order.Lock()
	defer l.order.Unlock()
	if item.revision <= l.Revision() {
		return nil
	}
	if item.body != nil {
		item.mark = markOf(item.body)
		if item.writer, item.ops, err = readBatch(item.body, item.revision, newInterner()); err != nil {
			return err
		}
	}
	l.apply(item.revision, item.mark, item.ops)
	if len(item.ops) > 0 && item.writer == l.log.Writer() && item.revision > noted {
		l.noteLate(ctx, item.revision, item.ops)
	}
	return nil
}

// apply makes one revision of the log, with the mark of its record, part of the
// state. The caller holds order.
func (l *Ledger) apply(revision, mark uint64, ops []operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range ops {
		op := &ops[i]
		if op.packed == nil {
			l.applyRestoration(revision, &op.restore)
			continue
		}
		if op.entry.ExpiresAt > l.swept {
			l.moves.add(revision, false, l.rows.add(op)...)
		}
	}
	l.marks.add(revision, mark)
	l.revision = revision
	close(l.changed)
	l.changed = make(chan struct{})
}

// applyRestoration takes revocations out of force. The caller holds order and mu.
func (l *Ledger) applyRestoration(revision uint64, r *restoration) {
	u := restoredRow{revision: revision, at: r.At.UnixMicro(), by: r.By}
	for w := range l.rows.restoredBy(r) {
		held := w.shown()
		if shown, ok := l.rows.restore(w, u); ok {
			l.moves.add(revision, true, shown...)
			if held {
				l.moves.add(revision, false, w.id())
			}
		}
	}
}

// clock returns the time, or that of the last sweep if the clock was set back
// since. So an expired revocation does not come back. The caller holds mu.
func (l *Ledger) clock() revocation.Micros {
	return max(revocation.MicrosOf(l.now()), l.swept)
}

const sweepInterval = 5 * time.Second

// sweep drops expired revocations from time to time.
func (l *Ledger) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			l.dropExpired()
		}
	}
}

func (l *Ledger) dropExpired() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swept = l.clock()
	l.rows.sweep(l.swept)
}

// CatchUp waits for a revision that another node has appended and this node has
// not read yet. It fails if no majority of nodes can say whether it exists.
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

// Item is a revocation and its restoration.
type Item struct {
	revocation.Revocation
	Restored *Restored // nil while it is in force
}

// Restored is the restoration of a revocation.
type Restored struct {
	Revision uint64
	At       time.Time
	By       string
}

// Find returns one revocation, also a restored one, until it expires.
func (l *Ledger) Find(id revocation.ID) (Item, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c, w := l.rows.find(id)
	if w == nil || w.expires <= l.clock() {
		return Item{}, ErrUnknown
	}
	return l.item(c, w, newInterner()), nil
}

// item returns a row as an item. The caller holds mu.
func (l *Ledger) item(c *chunk, w *row, in *interner) Item {
	it := Item{Revocation: *unpack(c.packed(w), in)}
	it.ID = w.id()
	if w.state == restored {
		u := l.rows.restorations[it.ID]
		it.Restored = &Restored{Revision: u.revision, At: time.UnixMicro(u.at).UTC(), By: u.by}
	}
	return it
}
