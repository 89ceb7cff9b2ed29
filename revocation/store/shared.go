package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Shared documents lie beside the log, and all nodes write them. A document is the
// last message of its subject, and its version is the sequence of that message.
// The leader of the stream answers every load, so a load sees every save that was
// acknowledged before.

const (
	sharedStream   = "rescind_shared"
	sharedSubjects = "rescind.shared."
)

// ErrChanged says that a shared document has another version than its writer
// knows.
var ErrChanged = errors.New("the shared document has another version")

// LoadShared returns the shared document of the name and its version. The version
// is 0 if there is no document.
func (l *Log) LoadShared(ctx context.Context, name string) (document []byte, version uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	conn, err := l.connected()
	if err != nil {
		return nil, 0, err
	}
	s, err := l.shared(ctx, conn)
	if err != nil {
		return nil, 0, err
	}
	m, err := s.GetLastMsgForSubject(ctx, sharedSubject(name))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("%w: the shared document %s cannot be read: %w", ErrUnavailable, name, err)
	}
	return m.Data, m.Sequence, nil
}

// SaveShared replaces the shared document of the name if it still has the version.
// It returns the new version once the document is durable, and [ErrChanged] if the
// document has another version. After another error the document may be saved all
// the same.
func (l *Log) SaveShared(ctx context.Context, name string, document []byte, version uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	conn, err := l.connected()
	if err != nil {
		return 0, err
	}
	if _, err := l.shared(ctx, conn); err != nil {
		return 0, err
	}
	m := nats.NewMsg(sharedSubject(name))
	m.Data = document
	// A stream that is new, or that elects its leader, is not heard of at every node
	// yet. NATS reports then that no stream responds, and has stored nothing.
	ack, err := conn.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(version),
		jetstream.WithRetryAttempts(int(appendTimeout/tryPause)), jetstream.WithRetryWait(tryPause))
	switch {
	case isConflict(err):
		return 0, ErrChanged
	case err != nil:
		return 0, fmt.Errorf("%w: the shared document %s cannot be saved: %w", ErrUnavailable, name, err)
	}
	return ack.Sequence, nil
}

// sharedSubject writes a name in hexadecimal, because a subject cannot have every
// character.
func sharedSubject(name string) string { return sharedSubjects + hex.EncodeToString([]byte(name)) }

// shared returns the stream of the shared documents, and makes it where there is
// none.
func (l *Log) shared(ctx context.Context, conn *connection) (jetstream.Stream, error) {
	if s := conn.shared.Load(); s != nil {
		return *s, nil
	}
	s, err := conn.js.Stream(ctx, sharedStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = conn.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: sharedStream, Subjects: []string{sharedSubjects + "*"}, Storage: jetstream.FileStorage,
			MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld, Replicas: l.replicas(),
		})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			s, err = conn.js.Stream(ctx, sharedStream)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the shared documents cannot be opened: %w", ErrUnavailable, err)
	}
	conn.shared.Store(&s)
	return s, nil
}
