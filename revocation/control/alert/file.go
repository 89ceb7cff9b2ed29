package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"rescind/revocation/insight"
)

// fileVersion is the version of the file's format.
const fileVersion = 1

type document struct {
	Version int      `json:"version"`
	Last    uint64   `json:"last"` // number
	Alerts  []stored `json:"alerts"`
}

type stored struct {
	Number  uint64        `json:"number"`
	Alert   insight.Alert `json:"alert"`
	Pending []string      `json:"pending,omitempty"`
}

// Times of writing.
const (
	dirtyAfter   = time.Second // until a change that can wait is written
	longestDelay = 5 * time.Second
	pauseFactor  = 9 // the pause after a write, as a multiple of its time
)

// markStale makes write write the file soon.
func (in *Inbox) markStale() {
	select {
	case in.stale <- struct{}{}:
	default:
	}
}

// write writes the file whenever it has to be written, and once more at the end.
func (in *Inbox) write(ctx context.Context) {
	tick := time.NewTicker(dirtyAfter)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-in.stale:
		case <-tick.C:
			in.mu.Lock()
			dirty := in.dirty
			in.mu.Unlock()
			if !dirty {
				continue
			}
		case <-ctx.Done():
		}
		began := time.Now()
		in.save()
		rest := time.NewTimer(min(pauseFactor*time.Since(began), longestDelay))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
	in.save()
}

// save writes the file and releases the callers that wait for it, with the error
// if it cannot be written. Their alerts are then in the next file.
func (in *Inbox) save() {
	in.mu.Lock()
	d := document{Version: fileVersion, Last: in.last, Alerts: make([]stored, len(in.records))}
	for i, r := range in.records {
		d.Alerts[i] = stored{r.number, r.alert, r.pending}
	}
	waiting := in.waiting
	in.waiting, in.dirty = nil, false
	in.mu.Unlock()
	b, err := json.Marshal(d)
	if err == nil {
		err = renameio.WriteFile(in.file, b, 0o600)
	}
	if err != nil {
		in.logger.Error("alerts cannot be written to disk, the replicas keep them meanwhile", "error", err)
		in.mu.Lock()
		in.dirty = true
		in.mu.Unlock()
	}
	for _, w := range waiting {
		w <- err
	}
}

// load reads the file. It renames a file that it cannot read, because to be
// without a control endpoint is worse than to be without old alerts.
func (in *Inbox) load() error {
	if in.file == "" {
		return nil
	}
	b, err := os.ReadFile(in.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var d document
	if err = json.Unmarshal(b, &d); err == nil && d.Version != fileVersion {
		err = fmt.Errorf("the file has version %d, which this version does not read", d.Version)
	}
	if err != nil {
		aside := in.file + ".unreadable"
		in.logger.Error("alerts of the last run cannot be read, renaming their file", "file", filepath.Base(aside), "error", err)
		return os.Rename(in.file, aside)
	}
	for _, s := range d.Alerts[max(0, len(d.Alerts)-in.most):] {
		a, ok := s.Alert.Clean()
		if !ok || in.byID[a.ID] != nil || s.Number <= in.last || a.ID == "" {
			continue
		}
		r := &record{number: s.Number, alert: a}
		for _, c := range in.targets {
			if slices.Contains(s.Pending, c.target.Name) {
				c.add(r)
			}
		}
		in.add(r)
	}
	in.last = max(in.last, d.Last)
	return nil
}
