package feed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/renameio/v2"
)

// Memory keeps small documents over restarts of the control endpoint.
type Memory interface {
	// LoadDocument returns the document that was saved last under the name, or
	// nil if there is no such document.
	LoadDocument(name string) ([]byte, error)
	// SaveDocument replaces the document under the name, whole or not at all.
	SaveDocument(name string, document []byte) error
}

// Folder is a memory of files in the folder of this path.
type Folder string

// LoadDocument reads a file. A file that does not exist is no document.
func (f Folder) LoadDocument(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(string(f), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// SaveDocument replaces a file.
func (f Folder) SaveDocument(name string, document []byte) error {
	return renameio.WriteFile(filepath.Join(string(f), name), document, 0o600)
}

// The documents of the memory.
const (
	// replicasDocument has the replicas that count. A control endpoint that
	// starts again reads the document and counts these replicas as lost, so that
	// "in force everywhere" waits for the replicas to come back.
	replicasDocument = "replicas.json"
	// issuersDocument has the issuers that replicas accept.
	issuersDocument = "issuers.json"
)

// savePause is the least time between two saves of one document.
const savePause = 50 * time.Millisecond

// document is saved anew after each change of its content.
type document struct {
	name    string
	memory  Memory
	content func() any
	stale   chan struct{} // holds one token when the document has to be saved
}

func newDocument(name string, m Memory, content func() any) *document {
	return &document{name: name, memory: m, content: content, stale: make(chan struct{}, 1)}
}

// touch orders a save of the document, and does not wait.
func (d *document) touch() {
	select {
	case d.stale <- struct{}{}:
	default:
	}
}

// run saves the document after each touch, and once more when ctx ends.
func (d *document) run(ctx context.Context, logger *slog.Logger) {
	for ctx.Err() == nil {
		select {
		case <-d.stale:
		case <-ctx.Done():
		}
		b, err := json.Marshal(d.content())
		if err == nil {
			err = d.memory.SaveDocument(d.name, b)
		}
		if err != nil {
			logger.Error("document not saved, the control endpoint lacks its content after a restart", "document", d.name, "error", err)
		}
		rest(ctx, savePause)
	}
}

// load reads a document of records. A document that does not exist has no records.
func load[R any](m Memory, name string) (records []R, err error) {
	b, err := m.LoadDocument(name)
	if err != nil || b == nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &records, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return records, nil
}

// replicaRecord is one replica in replicasDocument.
type replicaRecord struct {
	Credential string `json:"credential,omitzero"` // empty in a document of the first edition
	Name       string `json:"name"`
	Instance   string `json:"instance"`
}

// recordsOf returns the content of replicasDocument.
func recordsOf(ids []identity) any {
	records := make([]replicaRecord, len(ids))
	for i, id := range ids {
		records[i] = replicaRecord{id.credential, id.name, hex.EncodeToString(id.instance[:])}
	}
	return records
}

// loadReplicas reads replicasDocument.
func loadReplicas(m Memory) ([]identity, error) {
	records, err := load[replicaRecord](m, replicasDocument)
	if err != nil {
		return nil, err
	}
	ids := make([]identity, 0, len(records))
	for _, r := range records {
		instance, err := hex.DecodeString(r.Instance)
		if err != nil || len(instance) != 16 || !goodName(r.Name) {
			return nil, fmt.Errorf("%s: %q is no replica", replicasDocument, r.Name)
		}
		ids = append(ids, identity{r.Credential, r.Name, [16]byte(instance)})
	}
	return ids, nil
}

// remember reads the documents of m and keeps both documents up to date. A
// document that cannot be read is replaced, because the replicas report the same
// content when the replicas connect.
func (s *Server) remember(m Memory) {
	ids, err := loadReplicas(m)
	if err != nil {
		s.logger.Warn("the replicas that followed before are not known", "error", err)
	}
	records, err := load[knownRecord](m, issuersDocument)
	if err != nil {
		s.logger.Warn("the issuers that replicas accepted before are not known", "error", err)
	}
	s.replicas.recall(ids)
	s.knowledge.learn(records)
	following := newDocument(replicasDocument, m, func() any { return recordsOf(s.replicas.identities()) })
	issuers := newDocument(issuersDocument, m, func() any { return s.knowledge.all() })
	s.replicas.onChange, s.knowledge.changed = following.touch, issuers.touch
	s.running.Go(func() { following.run(s.ctx, s.logger) })
	s.running.Go(func() { issuers.run(s.ctx, s.logger) })
}
