package intake

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"rescind/revocation"
)

// Bounds of an intake's memory of events that undo others.
const (
	undoneTime = 24 * time.Hour
	maxUndone  = 4096
)

// undone remembers which targets an event has undone, and when. A sender may
// repeat a block after its counterpart has arrived, so the block must not come
// into force then. The memory is a document on the shelf.
type undone struct {
	shelf Shelf
	name  string
}

func (u *undone) load(ctx context.Context) (times map[string]time.Time, version uint64, err error) {
	document, version, err := u.shelf.Load(ctx, u.name)
	times = map[string]time.Time{}
	if err == nil && len(document) > 0 {
		err = json.Unmarshal(document, &times)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("undone events cannot be read: %w", err)
	}
	return times, version, nil
}

func targetKey(r *revocation.Revocation) string {
	d := r.Entry().Digest
	return hex.EncodeToString(d[:])
}

// since reports whether an event later than at has undone the target. Of two events
// of one instant the block wins.
func (u *undone) since(ctx context.Context, target *revocation.Revocation, at time.Time) (bool, error) {
	times, _, err := u.load(ctx)
	return at.Before(times[targetKey(target)]), err
}

// note remembers that an event of the instant at has undone the target.
func (u *undone) note(ctx context.Context, target *revocation.Revocation, at, now time.Time) error {
	key := targetKey(target)
	return change(ctx, u.shelf, u.name, u.load, func(times map[string]time.Time) (map[string]time.Time, bool, error) {
		if !at.After(times[key]) {
			return nil, false, nil
		}
		times[key] = at
		forget(times, now)
		return times, true, nil
	})
}

// forget drops the times that are old, and the oldest ones beyond the bound.
func forget(times map[string]time.Time, now time.Time) {
	maps.DeleteFunc(times, func(_ string, at time.Time) bool { return now.Sub(at) > undoneTime })
	for len(times) > maxUndone {
		oldest := ""
		for key, at := range times {
			if oldest == "" || at.Before(times[oldest]) {
				oldest = key
			}
		}
		delete(times, oldest)
	}
}
