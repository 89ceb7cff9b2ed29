package statuslist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rescind/jwks/fetch"
	"rescind/revocation/printable"
)

const (
	// fetchTimeout bounds one fetch.
	fetchTimeout = 10 * time.Second
	// yieldAfter is how long no token must have named a list for another one to
	// take its place once MaxLists are held.
	yieldAfter = 10 * time.Minute
	// forgetAfter is how long no token must have named a list for it to be
	// followed no longer.
	forgetAfter = 24 * time.Hour
)

// followed is one list that is kept up to date.
type followed struct {
	uri     string
	pinned  bool // configured exactly, so it is never given up
	current atomic.Pointer[list]
	used    atomic.Int64 // when a token last named it, within a second, in Unix nanoseconds
	tried   atomic.Bool  // the first fetch has ended
	failing atomic.Bool  // the last fetch failed
	cancel  context.CancelFunc

	// owned by the goroutine of the list
	fault string    // of the last fetch, for the log
	saved time.Time // when the list on disk was fetched
}

// use notes that a token named the list. It seldom writes, because all requests
// share the field.
func (f *followed) use(now time.Time) {
	if t := now.UnixNano(); t-f.used.Load() > int64(time.Second) {
		f.used.Store(t)
	}
}

func (f *followed) idle(now time.Time) time.Duration { return now.Sub(time.Unix(0, f.used.Load())) }

// run follows the lists that tokens name, and gives up lists that none names any
// more, until ctx ends.
func (l *Lists) run(ctx context.Context) {
	forget := time.NewTicker(time.Hour)
	defer forget.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case uri := <-l.asked:
			l.follow(ctx, uri)
		case now := <-forget.C:
			for _, f := range *l.lists.Load() {
				if !f.pinned && f.idle(now) > forgetAfter {
					l.giveUp(f)
				}
			}
		}
	}
}

// follow begins to follow the list at uri, if there is a place for it.
func (l *Lists) follow(ctx context.Context, uri string) {
	lists := *l.lists.Load()
	now := time.Now()
	if lists[uri] != nil {
		return
	}
	if len(lists) >= l.o.MaxLists && !l.makePlace(now) {
		if l.refused.Add(1) == 1 {
			l.log.Warn("a further status list is not followed, its tokens have no status; raise max_lists", slog.Int("max_lists", l.o.MaxLists), slog.String("uri", uri))
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &followed{uri: uri, pinned: slices.Contains(l.o.URIs, uri) && !isFolder(uri), cancel: cancel}
	f.used.Store(now.UnixNano())
	next := maps.Clone(*l.lists.Load())
	next[uri] = f
	l.lists.Store(&next)
	l.all.Go(func() { l.keep(ctx, f) })
}

// makePlace gives up the list that tokens have named longest ago, unless that is
// too short a time. It reports whether it did.
func (l *Lists) makePlace(now time.Time) bool {
	var idlest *followed
	for _, f := range *l.lists.Load() {
		if !f.pinned && (idlest == nil || f.used.Load() < idlest.used.Load()) {
			idlest = f
		}
	}
	if idlest == nil || idlest.idle(now) < yieldAfter {
		return false
	}
	l.giveUp(idlest)
	return true
}

func (l *Lists) giveUp(f *followed) {
	f.cancel()
	if l.o.Dir != "" {
		_ = os.Remove(l.o.savedPath(f.uri))
	}
	next := maps.Clone(*l.lists.Load())
	delete(next, f.uri)
	l.lists.Store(&next)
}

// keep takes one list from disk, and then fetches it again and again until ctx ends.
func (l *Lists) keep(ctx context.Context, f *followed) {
	retry := &backoff.ExponentialBackOff{InitialInterval: min(time.Second, l.o.MinRefresh), MaxInterval: l.o.MaxRefresh, Multiplier: 2, RandomizationFactor: 0.1}
	retry.Reset()
	l.restore(ctx, f)
	for {
		pause := l.refresh(ctx, f, retry)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// refresh fetches f once and returns the pause before its next fetch.
func (l *Lists) refresh(ctx context.Context, f *followed, retry *backoff.ExponentialBackOff) time.Duration {
	select {
	case <-ctx.Done():
		return 0
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	}
	token, next, err := l.get(ctx, f)
	if ctx.Err() != nil {
		return 0 // the fetch was ended, so it says nothing about the list
	}
	defer f.tried.Store(true)
	f.failing.Store(err != nil)
	if err != nil {
		l.failed.Add(1)
		return l.afterFailure(f, retry, err)
	}
	before := f.current.Swap(next)
	l.refreshed.Add(1)
	if before == nil || f.fault != "" {
		l.log.Info("status list in use", slog.String("uri", f.uri), slog.Int("entries", next.entries()), slog.Uint64("bits", next.bits))
	}
	f.fault = ""
	l.save(f, before, next, token)
	retry.Reset()
	return l.o.pause(next, time.Now())
}

// get fetches f and reads the answer. It refuses a list that is older than the one
// in use. It returns the answer too.
func (l *Lists) get(ctx context.Context, f *followed) ([]byte, *list, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	c, err := l.o.Requests.Client()
	if err != nil {
		return nil, nil, err
	}
	defer c.CloseIdleConnections()
	began := time.Now()
	text, err := fetch.Get(ctx, c, f.uri, "application/statuslist+jwt", int64(l.o.MaxResponse), nil)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s: %w", fetchTimeout, err)
	}
	if err != nil {
		return nil, nil, err
	}
	next, err := l.o.read(ctx, string(text), f.uri, began)
	if err != nil {
		return nil, nil, err
	}
	if held := f.current.Load(); held != nil && time.Now().Before(held.until) && next.issuedAt.Before(held.issuedAt) {
		return nil, nil, errors.New("the list that was sent is older than the one in use, by its iat")
	}
	return text, next, nil
}

// afterFailure logs a failure that is new, and returns the pause before the next
// fetch. While there is a usable list, the pause grows from MinRefresh to
// MaxRefresh, and ends with the list. Without one it grows from a second to MinRefresh, because every token
// of the list lacks its status.
func (l *Lists) afterFailure(f *followed, retry *backoff.ExponentialBackOff, err error) time.Duration {
	state, pause := "status list could not be refreshed, keeping the last good one", retry.NextBackOff()
	if held := f.current.Load(); held != nil && time.Now().Before(held.until) {
		pause = min(max(pause, l.o.MinRefresh), time.Until(held.until))
	} else {
		state, pause = "status list could not be fetched, and none is usable: its tokens have no status", min(pause, l.o.MinRefresh)
	}
	pause = max(pause, fetch.AskedPause(err, l.o.MaxRefresh))
	if fault := state + printable.Clean(err.Error(), 500); fault != f.fault {
		f.fault = fault
		l.log.Warn(state, slog.String("uri", f.uri), slog.String("error", printable.Clean(err.Error(), 500)), slog.String("retry_in", pause.Round(time.Millisecond).String()))
	}
	return pause
}

// pause returns the time until the next fetch of a good list: its ttl within the
// bounds, and a little before its exp if that comes first. Replicas that fetched
// at the same time spread out.
func (o *Options) pause(next *list, now time.Time) time.Duration {
	p := o.MaxRefresh
	if next.ttl > 0 {
		p = min(p, next.ttl)
	}
	if !next.expires.IsZero() {
		p = min(p, next.expires.Sub(now)*9/10)
	}
	p = max(p, o.MinRefresh)
	return p - time.Duration(rand.Int64N(int64(p/10)+1)) //nolint:gosec // nobody gains by foreseeing it
}
