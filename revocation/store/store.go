// Package store is the durable log of the control endpoint, on NATS JetStream.
// The server is embedded in the one control node, or in each of three or five
// nodes, or it is a NATS that the operator runs. The package knows nothing of
// revocations: it keeps batches of bytes in order, and knows when each may go.
//
// # Promises
//
// A batch is one message, so it is there whole or not at all. Append returns
// after fsync: embedded by SyncAlways, with several nodes on a majority of them.
// The revision of a batch is the sequence of its message in the stream. An
// append names the revision that it follows, and fails if there is a later one.
// So its caller has read everything before it, on whichever node.
//
// # Nothing is lost unnoticed
//
// Batches expire. The subject of a message is the hour after which all in it is
// over, and a whole hour is purged at once. So a missing revision may have
// expired or may be lost, and the log must know which.
//
// Each message says up to which hour the log had been given up when it was
// written, and how many messages were left before it. Giving up hours is itself
// a message, written before the purge. A reader counts. At the last message its
// count must agree, because the hours given up there are all that there are.
// The last message is never purged before another follows it. That it is the
// last is checked against the audit, which names the last revision that was
// acknowledged. The checksum of a message covers the log's identity and the
// message's own revision, so that a block file of another log, or from another
// place of this log, is found out. A log that disagrees with itself is
// [ErrDamaged] and stays shut.
//
// # The audit
//
// A second stream keeps the notes of the audit. It is bounded: 5 million notes,
// 2 GiB in each copy, two years. At a bound the oldest notes go first.
//
// # Failure
//
// JetStream stops a stream for good at its first failed write. The embedded log
// then shuts its server down and opens it again, until that succeeds. Meanwhile
// appends fail at once, and reading pauses. A ballast file keeps a little room
// on a full disk for that, and for giving up expired hours, which must be
// written down before it frees anything. Appends are taken again once the
// ballast is back in its place.
//
// # Several nodes
//
// Each node has a copy of the log and reads that one. A majority decides on its
// content. When the leading node is lost the others elect another, which takes
// NATS up to nine seconds. An append is sent again until then, which is safe
// because it names the revision it follows. Without a majority appends fail, at
// once after the first, and everything that was read stays.
//
// A node that is cut off cannot know the appends of the others. So each node
// asks once a second for the leader, the end of the log, and the time at which
// the leader last heard from a majority. At that time nobody else could lead,
// and nothing was beyond that end ([Log.Agreed]). The age that a node reports
// rests on that alone.
//
// # Ownership
//
// A directory belongs to one process, by a lock, and to one log, by a marker
// file with the log's identity. A directory that has a marker and lacks the log,
// or that has files and no marker, is refused: an empty log in place of a lost
// one would allow every revoked token.
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
)

// Options say where the log is.
type Options struct {
	Dir     string   // embedded: its directory; unused with NATS
	Cluster *Cluster // embedded, one of several nodes; nil: the only node
	NATS    *NATS    // not embedded

	// Accept is the name of a log that this one takes the place of, by the word
	// of an operator. Followers log that name. It is remembered in Dir.
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

// NATS is a server that the operator runs.
type NATS struct {
	URL             string
	CredentialsFile string // optional
	Name            string // of this writer, distinct among those that share the log
	Replicas        int    // of the streams when they are created; default 1
}

var (
	// ErrDamaged says that the log has lost or changed something that it
	// acknowledged. It stays shut.
	ErrDamaged = errors.New("the durable log is damaged")
	// ErrUnavailable says that nothing can be appended now.
	ErrUnavailable = errors.New("the durable log does not take writes now")
	// ErrTooLarge says that a batch is larger than one message may be.
	ErrTooLarge = errors.New("the batch is too large for the durable log")
)

// margin is how long after its hour a batch may still be wanted. It covers the
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

	// appending is held over one append, so that the accounting is still the
	// revision that the next one follows.
	appending sync.Mutex

	mu              sync.Mutex
	conn            *connection   // nil while the log is down
	up              chan struct{} // closed when conn is set
	failure         error         // why the log is down or takes no appends
	outOfRoom       bool          // the ballast is released, so no appends
	noMajoritySince time.Time     // while failure says that the other nodes do not answer
	accounting      accounting
	agreed          agreement // where other nodes write too
	receive         func(node string, body []byte)
}

// Open opens the log, and makes it where there is none. It returns once
// JetStream has recovered. [Log.Read] verifies the content. Open waits for a
// majority of the nodes of a cluster, as long as ctx allows.
func Open(ctx context.Context, o Options) (_ *Log, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.auditBytes == 0 {
		o.auditBytes = auditBytes
	}
	l := &Log{opt: o, log: o.Logger, writer: o.writer(), up: make(chan struct{})}
	l.accounting.hours = map[uint32]uint64{}
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
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	l.attach(conn)
	if err := l.accept(); err != nil {
		return nil, err
	}
	if l.dir != nil {
		l.outOfRoom = true
		l.restoreBallast()
	}
	l.done.Go(l.maintain)
	return l, nil
}

// accept remembers the log that this one takes the place of.
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

// standalone reports whether the server is embedded and the only one.
func (l *Log) standalone() bool { return l.opt.NATS == nil && l.opt.Cluster == nil }

// Close ends every Read and the embedded server, and waits for them.
func (l *Log) Close() error {
	l.mu.Lock() // detach begins work only before the end, under mu
	l.end()
	l.mu.Unlock()
	l.done.Wait()
	l.mu.Lock()
	conn := l.conn
	l.conn, l.failure = nil, ErrUnavailable
	l.mu.Unlock()
	if conn != nil {
		conn.close()
	}
	if l.dir != nil {
		return l.dir.close()
	}
	return nil
}

// ID returns the name of the log, made when the log was. A log that was restored
// from a backup and accepted as that has another name than before.
func (l *Log) ID() string {
	if l.dir == nil {
		return l.id
	}
	return l.dir.marker.name()
}

// Replaces returns the names of the logs that this one takes the place of.
func (l *Log) Replaces() []string {
	if l.dir != nil {
		return l.dir.marker.Replaces
	}
	if l.opt.Accept == "" {
		return nil
	}
	return []string{l.opt.Accept}
}

// Writer returns the name of this node among all that write the log.
func (l *Log) Writer() string { return l.writer }

// Err returns the reason why the log takes no writes, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// Leads reports whether the appends and notes of all nodes go through this one.
// The only node leads. With a NATS elsewhere no node does.
func (l *Log) Leads() bool {
	conn, err := l.connected()
	switch {
	case err != nil || conn.server == nil:
		return false
	case l.opt.Cluster == nil:
		return true
	}
	return conn.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, batchStream) &&
		conn.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, auditStream)
}
