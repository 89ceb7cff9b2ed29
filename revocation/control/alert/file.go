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

// fileVersion is of the form of the file.
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
	lateAfter    = time.Second // for what can wait
	longestDelay = 5 * time.Second
	share        = 9 // times what a writing took is the pause after it
)

// touch has the file written soon.
func (in *Inbox) touch() {
	select {
	case in.stale <- struct{}{}:
	default:
	}
}

// write writes the file when it has to be, and at the end.
func (in *Inbox) write(ctx context.Context) {
	tick := time.NewTicker(lateAfter)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-in.stale:
		case <-tick.C:
			in.mu.Lock()
			late := in.late
			in.mu.Unlock()
			if !late {
				continue
			}
		case <-ctx.Done():
		}
		began := time.Now()
		in.save()
		rest := time.NewTimer(min(share*time.Since(began), longestDelay))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
	in.save()
}

// save writes the file, and tells who waits for it. If it cannot be written
// they are told that, and what they brought is in the next.
func (in *Inbox) save() {
	in.mu.Lock()
	d := document{Version: fileVersion, Last: in.last, Alerts: make([]stored, len(in.records))}
	for i, r := range in.records {
		d.Alerts[i] = stored{r.number, r.alert, r.pending}
	}
	waiting := in.waiting
	in.waiting, in.late = nil, false
	in.mu.Unlock()
	b, err := json.Marshal(d)
	if err == nil {
		err = renameio.WriteFile(in.file, b, 0o600)
	}
	if err != nil {
		in.logger.Error("alerts cannot be kept; the replicas keep them meanwhile", "error", err)
		in.mu.Lock()
		in.late = true
		in.mu.Unlock()
	}
	for _, w := range waiting {
		w <- err
	}
}

// load reads the file. One that cannot be read is put aside: to be without a
// control endpoint would be worse than to be without old alerts.
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
		err = fmt.Errorf("it is of version %d", d.Version)
	}
	if err != nil {
		aside := in.file + ".unreadable"
		in.logger.Error("the alerts of before cannot be read; the file is put aside", "file", filepath.Base(aside), "error", err)
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
