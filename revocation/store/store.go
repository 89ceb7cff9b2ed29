// Package store is the durable log of the control endpoint, on NATS JetStream:
// embedded and alone, embedded in each of three or five nodes, or in a NATS
// that somebody else runs. It knows nothing of revocations; it keeps batches
// of bytes in order and says when each may go.
//
// # What it promises
//
// A batch is one message, so it is there whole or not at all. Append returns
// after fsync (embedded: SyncAlways; several nodes: on a majority). The
// revision is the message's sequence in the stream. An append names the
// revision it follows, and fails if there is a later one: who appends has read
// everything before it, on whichever node.
//
// # Nothing is lost unnoticed
//
// Batches expire. Each carries the hour after which all in it is gone as its
// subject, and a whole hour is purged at once. So a revision that is missing
// may be expired or lost, and the log must know which. Each message says up to
// which hour had been given up when it was written, and how many messages were
// left before it; giving up hours is itself a message, written before the
// purge. A reader counts, and at the last message, whose hours given up are by
// construction all there are, its count must agree. The last message itself is
// never purged before another follows it. That it is the last is held against
// the audit, which names the last revision that was acknowledged. The checksum
// of a message covers the log's identity and the message's own revision, so
// that a block file of another log, or from elsewhere in this one, is found
// out. What disagrees is reported as [ErrDamaged], and the log stays shut.
//
// # Failure
//
// JetStream stops a stream for good at its first failed write. The embedded
// log then shuts its server down and opens it again, until that succeeds;
// meanwhile appends fail at once, and reading pauses. A ballast file keeps a
// little room for that on a full disk, and for giving up what has expired,
// which must be written down to free anything. Appends are taken again when
// the ballast has its place back.
//
// # Several nodes
//
// Each node has a copy of the log and reads that one; a majority decides what
// is in it. When the node that leads is lost the others elect another, which
// takes NATS up to nine seconds: an append is sent again until then, which is
// safe since it names the revision it follows. Without a majority appends fail,
// at once after the first, and everything that was read stays.
//
// A node that is cut off cannot know what the others append. So each asks once
// a second who leads, where the log ends and when the leader last heard of a
// majority: at that instant nobody else could lead, and nothing was beyond that
// end ([Log.Agreed]). What a node says of its age rests on that alone.
//
// # Ownership
//
// A directory belongs to one process (a lock) and one log (a marker file with
// its identity). A directory that has a marker and lacks the log, or that has
// files and no marker, is refused: an empty log in place of a lost one would
// allow every revoked token.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say where the log is.
type Options struct {
	Dir     string   // embedded: its directory; unused with NATS
	Cluster *Cluster // embedded, one of several nodes; nil = alone
	NATS    *NATS    // not embedded at all

	// Accept is a log that this one takes the place of, by the word of an
	// operator: its name, as its followers know it. It is remembered in Dir.
	Accept string

	Logger *slog.Logger // default: discards

	auditBytes int64 // 0: auditBytes; a test sets less
}

// Cluster is this node among the others.
type Cluster struct {
	Name   string   // of this node, distinct among the nodes
	Listen string   // host:port for the other nodes
	Peers  []string // host:port of the others
	Secret string   // the same on all nodes
	// TLS serves both ends of a route: as a server the node demands a
	// certificate, as a client it shows its own. nil: plaintext.
	TLS *tls.Config
}

// NATS is a server that the user operates.
type NATS struct {
	URL             string
	CredentialsFile string // optional
	Name            string // of this writer, distinct among those that share the log
	Replicas        int    // of the streams when they are created; default 1
}

var (
	// ErrDamaged says that the log is not what it was: start no further.
	ErrDamaged = errors.New("the durable log is damaged")
	// ErrUnavailable says that nothing can be appended now.
	ErrUnavailable = errors.New("the durable log does not take writes now")
	// ErrTooLarge says that a batch is beyond what one message may hold.
	ErrTooLarge = errors.New("the batch is too large for the durable log")
)

// margin is how long after its hour a batch may still be wanted: it covers the
// difference between the clocks of the control nodes.
const margin = 10 * time.Minute

// Log is an open log. Its methods are safe for concurrent use.
type Log struct {
	id     string
	writer string
	opt    Options
	log    *slog.Logger
	dir    *directory // nil with NATS

	stop context.Context // ends at Close
	end  context.CancelFunc
	done sync.WaitGroup

	appending sync.Mutex // one append at a time, so that position is what the next one follows

	mu     sync.Mutex
	link   *link         // nil while the log is down
	up     chan struct{} // closed when link is set
	cause  error         // why there is no link, or no appending
	short  bool          // of room: the ballast is spent, so no appends
	silent time.Time     // since when the other nodes do not answer, while cause says so
	tally  tally
	agreed agreement                      // where other nodes write too
	heard  func(node string, body []byte) // what other nodes tell; nil: nobody listens
}

// Open opens the log, or makes it where there is none. It returns once
// JetStream has recovered; what was read is verified by [Log.Read]. Open waits
// for a majority of the nodes of a cluster, as long as ctx allows.
func Open(ctx context.Context, o Options) (_ *Log, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.auditBytes == 0 {
		o.auditBytes = auditBytes
	}
	l := &Log{opt: o, log: o.Logger, writer: o.writer(), up: make(chan struct{})}
	l.tally.hours = map[uint32]uint64{}
	l.stop, l.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	if o.NATS == nil {
		if l.dir, err = openDirectory(o.Dir); err != nil {
			return nil, err
		}
		l.id = l.dir.marker.Log
	}
	k, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	l.attach(k)
	if err := l.accept(); err != nil {
		return nil, err
	}
	if l.dir != nil {
		l.short = true
		l.refill()
	}
	l.done.Go(l.tend)
	return l, nil
}

// accept takes the operator's word.
func (l *Log) accept() error {
	switch name := l.opt.Accept; {
	case name == "":
		return nil
	case l.dir != nil:
		return l.dir.accept(name)
	case name == l.id:
		return fmt.Errorf("log %s is this one; in a NATS of your own a log that was restored from a backup cannot take its own place", name)
	}
	return nil
}

func (o *Options) writer() string {
	switch {
	case o.NATS != nil && o.NATS.Name != "":
		return o.NATS.Name
	case o.Cluster != nil:
		return o.Cluster.Name
	}
	return "control"
}

// Close ends every Read and the embedded server, and waits for them.
func (l *Log) Close() error {
	l.mu.Lock() // against detach, which begins work only before the end
	l.end()
	l.mu.Unlock()
	l.done.Wait()
	l.mu.Lock()
	k := l.link
	l.link, l.cause = nil, ErrUnavailable
	l.mu.Unlock()
	if k != nil {
		k.close()
	}
	if l.dir != nil {
		return l.dir.close()
	}
	return nil
}

// ID is the identity of the log, made when the log was. One that was restored
// from a backup, and accepted as that, has another than before.
func (l *Log) ID() string {
	if l.dir == nil {
		return l.id
	}
	return l.dir.marker.name()
}

// Replaces are the logs that this one takes the place of.
func (l *Log) Replaces() []string {
	if l.dir != nil {
		return l.dir.marker.Replaces
	}
	if l.opt.Accept == "" {
		return nil
	}
	return []string{l.opt.Accept}
}

// Writer names this node among all that write the log.
func (l *Log) Writer() string { return l.writer }

// Err says why the log takes no writes, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// Leads says whether this node is the one that the others wait for when they
// append or make a note. Alone it is; with a NATS elsewhere no node is.
func (l *Log) Leads() bool {
	k, err := l.current()
	switch {
	case err != nil || k.server == nil:
		return false
	case l.opt.Cluster == nil:
		return true
	}
	return k.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, batchStream) &&
		k.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, auditStream)
}

// current is the live link, or why there is none.
func (l *Log) current() (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, l.cause)
	}
	return l.link, nil
}

// await waits for a link.
func (l *Log) await(ctx context.Context) (*link, error) {
	for {
		l.mu.Lock()
		k, up, cause := l.link, l.up, l.cause
		l.mu.Unlock()
		if k != nil {
			return k, nil
		}
		if errors.Is(cause, ErrDamaged) {
			return nil, cause
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.stop.Done():
			return nil, ErrUnavailable
		}
	}
}

func (l *Log) attach(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.link = k
	if err := l.listen(k); err != nil {
		l.log.Warn("what other nodes tell is not heard", "error", err)
	}
	close(l.up)
}

// detach puts the log down for err. Damage is for good; an embedded server is
// opened again. A connection to a NATS elsewhere mends itself.
func (l *Log) detach(k *link, err error) {
	damaged := errors.Is(err, ErrDamaged)
	if !damaged && k.server == nil {
		return
	}
	l.mu.Lock()
	if l.link != k || l.stop.Err() != nil {
		l.mu.Unlock()
		return
	}
	l.link, l.cause, l.up = nil, err, make(chan struct{})
	l.short = l.dir != nil
	l.done.Go(func() {
		k.close()
		if !damaged {
			l.dir.spend()
			l.reopen()
		}
	})
	l.mu.Unlock()
	l.log.Error("the durable log takes no writes", "error", err)
}

// reopen tries until the log is up again, damaged or closed.
func (l *Log) reopen() {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		select {
		case <-l.stop.Done():
			return
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(l.stop, time.Minute)
		k, err := l.connect(ctx)
		if err == nil {
			if err = l.unchanged(ctx, k); err == nil {
				cancel()
				l.attach(k)
				return
			}
			k.close()
		}
		cancel()
		l.mu.Lock()
		l.cause = err
		l.mu.Unlock()
		l.log.Error("the durable log cannot be opened again yet", "error", err)
		if errors.Is(err, ErrDamaged) {
			return
		}
	}
}

// unchanged holds a log that was opened again against what was acknowledged
// before.
func (l *Log) unchanged(ctx context.Context, k *link) error {
	s, err := led(ctx, k.batches)
	if err != nil {
		return err
	}
	l.mu.Lock()
	known := l.tally.revision
	l.mu.Unlock()
	if s.head < known {
		return fmt.Errorf("%w: it ends at revision %d, but revision %d was acknowledged", ErrDamaged, s.head, known)
	}
	return nil
}

// Names within JetStream. They are part of the format.
const (
	batchStream   = "rescind_log"
	batchSubjects = "rescind.log."
	auditStream   = "rescind_audit"
	auditSubjects = "rescind.audit."
	logKey        = "rescind_log"    // stream metadata: the log's identity
	formatKey     = "rescind_format" // stream metadata
)

// Bounds of the audit. At a bound the oldest notes go first.
const (
	auditNotes = 5_000_000
	auditBytes = 2 << 30 // in each copy
	auditAge   = 2 * 365 * 24 * time.Hour
)

func (l *Log) streamConfig(name, id string, replicas int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:       name,
		Subjects:   []string{batchSubjects + "*"},
		Retention:  jetstream.LimitsPolicy,
		Storage:    jetstream.FileStorage,
		Discard:    jetstream.DiscardNew,
		Replicas:   replicas,
		Duplicates: time.Minute,
		DenyDelete: true,
		Metadata:   map[string]string{logKey: id, formatKey: fmt.Sprint(format)},
	}
	if name == auditStream {
		c.Subjects = []string{auditSubjects + "*"}
		c.Discard, c.MaxMsgs, c.MaxBytes, c.MaxAge = jetstream.DiscardOld, auditNotes, l.opt.auditBytes, auditAge
	}
	return c
}
