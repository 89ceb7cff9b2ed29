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

// The files of [ServerOptions.Dir].
const (
	// replicasFile has the replicas that count. A control endpoint that starts
	// again reads it, so those replicas are lost ones and not unknown: "in
	// force everywhere" waits for them to come back.
	replicasFile = "replicas.json"
	// issuersFile has the issuers that replicas accept.
	issuersFile = "issuers.json"
)

// writePause is the least time between two writes of one file.
const writePause = 50 * time.Millisecond

// keptFile is a file that is written anew after each change of its content.
type keptFile struct {
	path    string
	content func() any
	stale   chan struct{} // holds one token when the file has to be written
}

func newKeptFile(path string, content func() any) *keptFile {
	return &keptFile{path: path, content: content, stale: make(chan struct{}, 1)}
}

// touch has the file written soon. It does not wait.
func (f *keptFile) touch() {
	select {
	case f.stale <- struct{}{}:
	default:
	}
}

// run writes the file when it has to be written, and at the end.
func (f *keptFile) run(ctx context.Context, logger *slog.Logger) {
	for ctx.Err() == nil {
		select {
		case <-f.stale:
		case <-ctx.Done():
		}
		if err := f.write(); err != nil {
			logger.Error("a file cannot be written; the control endpoint lacks what it holds after a restart", "file", f.path, "error", err)
		}
		rest(ctx, writePause)
	}
}

func (f *keptFile) write() error {
	b, err := json.Marshal(f.content())
	if err != nil {
		return err
	}
	return renameio.WriteFile(f.path, b, 0o600)
}

// readKept reads a file of records. A file that does not exist has none.
func readKept[R any](path string) (records []R, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &records, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return records, nil
}

// replicaRecord is one replica in replicasFile.
type replicaRecord struct {
	Credential string `json:"credential,omitzero"` // empty in a file of the first edition
	Name       string `json:"name"`
	Instance   string `json:"instance"`
}

func recordsOf(ids []identity) any {
	records := make([]replicaRecord, len(ids))
	for i, id := range ids {
		records[i] = replicaRecord{id.credential, id.name, hex.EncodeToString(id.instance[:])}
	}
	return records
}

// readReplicas reads replicasFile.
func readReplicas(path string) ([]identity, error) {
	records, err := readKept[replicaRecord](path)
	if err != nil {
		return nil, err
	}
	ids := make([]identity, 0, len(records))
	for _, r := range records {
		instance, err := hex.DecodeString(r.Instance)
		if err != nil || len(instance) != 16 || !goodName(r.Name) {
			return nil, fmt.Errorf("%s: %q is no replica", filepath.Base(path), r.Name)
		}
		ids = append(ids, identity{r.Credential, r.Name, [16]byte(instance)})
	}
	return ids, nil
}

// remember reads the files of dir and keeps them. A file that cannot be read is
// replaced: it speeds up what the replicas say again when they connect.
func (s *Server) remember(dir string) {
	replicasPath, issuersPath := filepath.Join(dir, replicasFile), filepath.Join(dir, issuersFile)
	ids, err := readReplicas(replicasPath)
	if err != nil {
		s.logger.Warn("the replicas that followed before are not known", "error", err)
	}
	records, err := readKept[knownRecord](issuersPath)
	if err != nil {
		s.logger.Warn("the issuers that replicas accepted before are not known", "error", err)
	}
	s.replicas.recall(ids)
	s.knowledge.learn(records)
	following := newKeptFile(replicasPath, func() any { return recordsOf(s.replicas.identities()) })
	issuers := newKeptFile(issuersPath, func() any { return s.knowledge.all() })
	s.replicas.onChange, s.knowledge.changed = following.touch, issuers.touch
	s.running.Go(func() { following.run(s.ctx, s.logger) })
	s.running.Go(func() { issuers.run(s.ctx, s.logger) })
}
