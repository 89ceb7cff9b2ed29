package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// A node whose log is in a NATS elsewhere has no folder. It keeps small documents
// beside the log, each writer its own. They are no part of the log: the loss
// of a document costs the control endpoint its memory at the next restart.

const documentBucket = "rescind_documents"

// LoadDocument returns the document of this writer that was saved last under the
// name; nil if there is none.
func (l *Log) LoadDocument(name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(l.stop, appendTimeout)
	defer cancel()
	bucket, err := l.documents(ctx)
	if err != nil {
		return nil, err
	}
	entry, err := bucket.Get(ctx, l.documentKey(name))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read the document %s from NATS: %w", name, err)
	}
	return entry.Value(), nil
}

// SaveDocument replaces the document of this writer under the name. It returns
// once NATS has stored it.
func (l *Log) SaveDocument(name string, document []byte) error {
	ctx, cancel := context.WithTimeout(l.stop, appendTimeout)
	defer cancel()
	bucket, err := l.documents(ctx)
	if err == nil {
		_, err = bucket.Put(ctx, l.documentKey(name), document)
	}
	if err != nil {
		return fmt.Errorf("cannot save the document %s in NATS: %w", name, err)
	}
	return nil
}

// documents returns the bucket of the documents, and makes it where there is
// none.
func (l *Log) documents(ctx context.Context) (jetstream.KeyValue, error) {
	c, err := l.connected()
	if err != nil {
		return nil, err
	}
	bucket, err := c.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: documentBucket, History: 1, Replicas: l.replicas()})
	if errors.Is(err, jetstream.ErrBucketExists) {
		return c.js.KeyValue(ctx, documentBucket)
	}
	return bucket, err
}

func (l *Log) documentKey(name string) string {
	return hex.EncodeToString([]byte(l.writer)) + "." + name
}
