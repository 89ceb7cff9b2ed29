package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

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

var errNoMajority = errors.New("there is no majority of the control nodes")

// answerTimeout is the time after which a question to JetStream is asked again.
// Where a stream has no leader, no answer comes at all.
const answerTimeout = time.Second

// findStreams opens the streams. It makes them where there is no log, unless
// there has been one before. In a cluster it waits for a majority as long as ctx
// allows.
func (l *Log) findStreams(ctx context.Context, conn *connection) error {
	had := l.id != "" && (l.dir == nil || l.dir.marker.Made)
	if l.opt.Cluster == nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return l.findOnce(ctx, conn, had)
	}
	for {
		err := errNoMajority
		if conn.server.JetStreamIsCurrent() {
			asking, cancel := context.WithTimeout(ctx, answerTimeout)
			err = l.findOnce(asking, conn, had)
			cancel()
		}
		if err == nil || errors.Is(err, ErrDamaged) {
			return err
		}
		l.log.Debug("waiting for a majority of the control nodes", "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errNoMajority, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// findOnce opens both streams and checks that they are this log's. had says that
// the log has existed before, so nothing may be made in its place.
func (l *Log) findOnce(ctx context.Context, conn *connection, had bool) error {
	id, empty, err := l.findBatches(ctx, conn, had)
	if err != nil {
		return err
	}
	if err := l.findAudit(ctx, conn, id, had || !empty); err != nil {
		return err
	}
	if !had && empty {
		if err := l.writeFirst(ctx, conn, id); err != nil {
			return err
		}
	}
	l.id = id
	if l.dir != nil {
		return l.dir.made(id)
	}
	return nil
}

func (l *Log) findBatches(ctx context.Context, conn *connection, had bool) (id string, empty bool, err error) {
	conn.batches, err = conn.js.Stream(ctx, batchStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if had {
			return "", false, l.lost("it has no " + batchStream)
		}
		conn.batches, err = l.create(ctx, conn, batchStream, l.newID())
	}
	if err != nil {
		return "", false, err
	}
	info := conn.batches.CachedInfo()
	id = info.Config.Metadata[logKey]
	switch written := info.Config.Metadata[formatKey]; {
	case id == "":
		return "", false, fmt.Errorf("%w: the stream %s is there but is not ours", ErrDamaged, batchStream)
	case had && id != l.id:
		return "", false, l.lost(fmt.Sprintf("it has log %s instead of %s", id, l.id))
	case written != fmt.Sprint(format):
		return "", false, fmt.Errorf("the log has format %q, this program knows format %d: use the version of rescind that wrote it", written, format)
	}
	return id, info.State.LastSeq == 0, nil
}

func (l *Log) findAudit(ctx context.Context, conn *connection, id string, had bool) (err error) {
	conn.audit, err = conn.js.Stream(ctx, auditStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if had {
			return l.lost("it has no " + auditStream)
		}
		conn.audit, err = l.create(ctx, conn, auditStream, id)
	}
	if err != nil {
		return err
	}
	if got := conn.audit.CachedInfo().Config.Metadata[logKey]; got != id {
		return l.lost(fmt.Sprintf("its audit belongs to log %q", got))
	}
	l.boundAudit(ctx, conn)
	return nil
}

func (l *Log) newID() string {
	if l.id != "" {
		return l.id
	}
	return newID()
}

// lost returns the error for a place that does not hold the log that it held.
func (l *Log) lost(found string) error {
	where := "the NATS server"
	if l.dir != nil {
		where = "store directory " + l.dir.path
	}
	return fmt.Errorf("%w: %s holds log %s, but %s; restore it from a backup, or move it away to begin an empty log, which allows every token that was revoked",
		ErrDamaged, where, l.id, found)
}

// create makes a stream, or returns the one that another node made first.
func (l *Log) create(ctx context.Context, conn *connection, name, id string) (jetstream.Stream, error) {
	config := l.streamConfig(name, id, l.replicas())
	config.AllowDirect = name == batchStream && !l.standalone()
	s, err := conn.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return conn.js.Stream(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s cannot be made: %w", name, err)
	}
	return s, nil
}

// replicas returns how many copies a stream has.
func (l *Log) replicas() int {
	switch {
	case l.opt.Cluster != nil:
		return 1 + len(l.opt.Cluster.Peers)
	case l.opt.NATS != nil:
		return max(1, l.opt.NATS.Replicas)
	}
	return 1
}

// writeFirst writes the first message, so that a log is never empty.
func (l *Log) writeFirst(ctx context.Context, conn *connection, id string) error {
	givenUp := hourOf(time.Now().Add(-margin)) - 1
	f := frame{givenUp: givenUp}
	m := nats.NewMsg(hourSubject(givenUp + 1))
	m.Data = f.encode(id, 1)
	_, err := conn.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequence(0))
	if isConflict(err) {
		return nil // another node was first
	}
	return err
}

// isConflict reports whether err says that a message did not follow the last one
// of its stream.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
