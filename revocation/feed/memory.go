package feed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/google/renameio/v2"
)

// memory is a file with the replicas that count. A control endpoint that
// starts again reads it, so that those it had are lost ones and not unknown:
// "in force everywhere" waits for them to come back.
type memory struct {
	path  string
	stale chan struct{} // holds one token when the file has to be written
}

type memoryRecord struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
}

func newMemory(path string) *memory {
	return &memory{path: path, stale: make(chan struct{}, 1)}
}

// touch has the file written soon.
func (m *memory) touch() {
	select {
	case m.stale <- struct{}{}:
	default:
	}
}

// run writes the file when it has to be, and at the end.
func (m *memory) run(ctx context.Context, r *replicas) {
	for ctx.Err() == nil {
		select {
		case <-m.stale:
		case <-ctx.Done():
		}
		if err := m.write(r.identities()); err != nil {
			r.logger.Error("the replicas cannot be remembered; after a restart nobody waits for them", "error", err)
		}
	}
}

func (m *memory) write(ids []identity) error {
	records := make([]memoryRecord, len(ids))
	for i, id := range ids {
		records[i] = memoryRecord{id.name, hex.EncodeToString(id.instance[:])}
	}
	b, err := json.Marshal(records)
	if err != nil {
		return err
	}
	return renameio.WriteFile(m.path, b, 0o600)
}

// read is what was written last.
func (m *memory) read() ([]identity, error) {
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []memoryRecord
	if err := json.Unmarshal(b, &records, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(m.path), err)
	}
	var ids []identity
	for _, rec := range records {
		instance, err := hex.DecodeString(rec.Instance)
		if err != nil || len(instance) != 16 || !goodName(rec.Name) || len(ids) == maxReplicas {
			return nil, fmt.Errorf("%s: %q is no replica", filepath.Base(m.path), rec.Name)
		}
		ids = append(ids, identity{rec.Name, [16]byte(instance)})
	}
	return ids, nil
}
