package jwks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"rescind/jwks/fetch"
	"rescind/revocation/printable"
)

// run makes every fetch, one at a time, until ctx ends.
func (k *Keys) run(ctx context.Context) {
	defer close(k.done)
	defer k.demand.close()
	regular := time.Now()
	for {
		if wait := time.Until(k.demand.next(regular)); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-k.demand.wakeup:
			case <-time.After(wait):
			}
			continue
		}
		pause := k.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		regular = time.Now().Add(pause)
	}
}

// refresh fetches once and returns the pause before the next fetch. Requests
// that wait are released before the keys are written to disk.
func (k *Keys) refresh(ctx context.Context) time.Duration {
	k.demand.begin(time.Now())
	text, next, err := k.fetch(ctx)
	if ctx.Err() != nil {
		return 0 // Close ended the fetch, so it says nothing about the issuer
	}
	if err == nil {
		k.adopt(next)
	}
	fault := shortened(err)
	k.lastError.Store(&fault)
	asked := fetch.AskedPause(err, k.o.RefreshInterval)
	k.demand.end(err == nil, time.Now().Add(asked))
	k.o.Figures.refreshed(k, err == nil)
	if err != nil {
		pause, state := k.afterFailure()
		pause = max(pause, asked)
		k.log.Warn(state, slog.String("error", fault), slog.String("retry_in", pause.Round(time.Millisecond).String()))
		return pause
	}
	if err := k.saved.write(text, next.at); err != nil {
		k.log.Error("issuer's keys could not be written to disk, a restart while the issuer is down will have none", slog.String("error", err.Error()))
	}
	k.retry.Reset()
	return k.regular.NextBackOff()
}

// afterFailure returns the pause before the next fetch, and the meaning of the
// failure for the log. Without keys every token of the issuer is denied, and a
// replica without keys is not ready, so no request can ask for a fetch. The
// pause then stays short. With keys it grows.
func (k *Keys) afterFailure() (time.Duration, string) {
	switch s := k.current.Load(); {
	case s == nil:
		return k.o.MinRefreshInterval, "issuer's keys could not be fetched, and there are none yet: its tokens are denied"
	case k.expired(s):
		return k.o.MinRefreshInterval, "issuer's keys could not be refreshed and are older than max_stale: its tokens are denied"
	default:
		return max(k.retry.NextBackOff(), k.o.MinRefreshInterval), "issuer's keys could not be refreshed, keeping the last good ones"
	}
}

// shortened returns the text of err, cut, because it may quote names that the
// issuer chose. It returns "" for nil.
func shortened(err error) string {
	if err == nil {
		return ""
	}
	return printable.Clean(err.Error(), 500)
}

// fetch reads and parses the document that the source has now.
func (k *Keys) fetch(ctx context.Context) ([]byte, *set, error) {
	text, err := k.source.read(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s: %w", fetchTimeout, err)
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := k.parse(text, time.Now())
	return text, s, err
}

func (k *Keys) parse(text []byte, at time.Time) (*set, error) {
	keys, skip, err := parseDocument(text, k.o.Algorithms, k.o.KeyUses)
	k.o.Figures.skipped(k, skip)
	if err != nil {
		return nil, err
	}
	s, err := newSet(keys, k.o.Algorithms, at)
	if err == nil {
		s.skipped = skip
	}
	return s, err
}

// generations is the number of the newest keys of any issuer.
var generations atomic.Uint64

// adopt replaces the set by s. Only the goroutine calls it, and Open before the
// goroutine starts.
func (k *Keys) adopt(s *set) {
	before := k.current.Load()
	if before != nil && before.sameKeys(s) {
		s.number = before.number
	} else {
		s.number = generations.Add(1)
	}
	k.current.Store(s)
	k.o.Figures.adopted(k, s)
	if before == nil || before.text != s.text || before.skipped.String() != s.skipped.String() || before.fromDisk != s.fromDisk {
		k.log.Info("issuer's keys in use", slog.Int("count", len(s.keys)), slog.String("kids", s.text), slog.String("skipped", s.skipped.String()), slog.Bool("from_disk", s.fromDisk))
	}
}

// restore adopts the keys of the last good refresh from disk.
func (k *Keys) restore() {
	text, at, err := k.saved.read()
	if text == nil && err == nil {
		return
	}
	var s *set
	if err == nil {
		s, err = k.parse(text, at)
	}
	if err != nil {
		k.log.Warn("keys on disk not used, waiting for the issuer", slog.String("file", k.saved.path), slog.String("error", err.Error()))
		return
	}
	s.fromDisk = true
	k.adopt(s)
}
