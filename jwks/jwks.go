// Package jwks has the keys that we trust: for each issuer its own, kept up to
// date in the background, and never those of another.
//
// # What is trusted
//
// The configuration, and what the issuer's own source says about its keys: a
// JWKS at a URL, one that a discovery document names, or a local file. That
// document is trusted for this issuer alone, and only key by key: a key that
// is private, too small, off its curve or made for something else is skipped
// and counted, and the others are used. Whoever sends tokens is not trusted: a
// kid is a guess, and a hundred thousand guesses may cost neither us nor the
// issuer more than one fetch in MinRefreshInterval.
//
// # Invariants
//
//   - A set of keys never changes once it is made. A refresh that brings a
//     usable key replaces the set whole, so a key that the issuer removed stops
//     working with that refresh; one that brings none changes nothing.
//   - A request whose key is known reads one atomic pointer and one map. It
//     takes no lock and no part in any fetch.
//   - A request whose key is not known waits for at most 500 ms, only for a
//     fetch that can bring it (see demand), and at most for the first 500 ms of
//     any fetch. So an issuer that is down costs requests that much in each
//     MinRefreshInterval, and not each request that much.
//   - A kid that no key has is never refused for good. A fetch for unknown
//     kids that must wait for its interval is made at the end of it, and what
//     is remembered of kids that were not there only spares the issuer
//     repeated questions about the same one.
//
// # Ownership
//
// [Open] starts one goroutine that makes every fetch of its issuer, and is the
// only one to replace the set and the file in Dir. [Keys.Close] ends it and
// waits. Everything that requests and this goroutine share is in demand.
//
// keyfunc, over a jwkset storage that only we fill, says which key belongs to
// a kid and an alg. It is asked once for each, when a set is made: it keeps
// one key to a kid where issuers may publish two, and without a kid it offers
// every key, unchecked. See set. A token without a kid is tried against at most
// four keys, and the caller learns the kid of the key that verified it: a key
// that is revoked by its kid stays revoked for tokens that leave the kid out.
//
// What a rotation cannot do is change a key and keep its kid: tokens of the new
// key then have a bad signature until the next refresh in the background. To
// fetch on a bad signature would let anybody cause fetches with a kid that is
// public.
package jwks

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

var (
	// ErrUnknownKey reports that the issuer has keys, but none that may have
	// signed this token.
	ErrUnknownKey = errors.New("the issuer has no such key")
	// ErrAmbiguousKey reports that a token names no kid and that too many keys
	// of the issuer fit its alg.
	ErrAmbiguousKey = errors.New("the token names no kid, and more than four keys of the issuer fit its alg")
	// ErrUnavailable says that there are no keys of the issuer to look in.
	ErrUnavailable = errors.New("no keys of the issuer are available")
)

// Keys are the current keys of one issuer. It is safe for concurrent use.
type Keys struct {
	o       Options
	log     *slog.Logger
	source  source
	saved   saved
	current atomic.Pointer[set] // nil until there is a good one
	demand  demand
	cancel  context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended

	regular, retry *backoff.ExponentialBackOff // owned by the goroutine

	mu        sync.Mutex
	lastError string // of the last refresh; empty if it was good
}

// Open starts to follow the keys of an issuer. It does not wait for them: they
// are those of the last good refresh, if Dir has it, and come from the source
// as soon as it answers. The error is every fault of the options.
func Open(o Options) (*Keys, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	k := &Keys{
		o:       o,
		log:     o.Logger.With(slog.String("issuer", o.Issuer)),
		source:  newSource(o),
		saved:   newSaved(o),
		done:    make(chan struct{}),
		regular: &backoff.ExponentialBackOff{InitialInterval: o.RefreshInterval * 9 / 10, MaxInterval: o.RefreshInterval * 9 / 10, Multiplier: 1, RandomizationFactor: 0.1},
		retry:   &backoff.ExponentialBackOff{InitialInterval: o.MinRefreshInterval, MaxInterval: max(o.MinRefreshInterval, o.RefreshInterval), Multiplier: 2, RandomizationFactor: 0.1},
	}
	k.demand.init(o.MinRefreshInterval, max(o.MinRefreshInterval, o.RefreshInterval))
	o.Figures.take(k)
	k.restore()
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.demand.begin(time.Now()) // so that the first requests can wait for it
	go k.run(ctx)
	return k, nil
}

// Find returns every key that may have signed a token with this kid and alg. A
// token without a kid, which is "", is to be tried against each of at most four
// keys that fit its alg; with more the error is ErrAmbiguousKey. A question
// without an answer may cause a fetch, so the caller asks only with an algorithm
// that it accepts.
func (k *Keys) Find(ctx context.Context, kid, alg string) ([]Key, error) {
	keys, missing, err := k.look(kid, alg)
	if !missing {
		return keys, err
	}
	now := time.Now()
	latest := now.Add(patience)
	for missing && now.Before(latest) && k.demand.await(ctx, kid, errors.Is(err, ErrUnknownKey), now, latest) {
		keys, missing, err = k.look(kid, alg)
		now = time.Now()
	}
	if missing && ctx.Err() != nil {
		err = ctx.Err()
	}
	return keys, err
}

// look asks the current set. It reports missing where a fetch may bring the key.
// A fetch is not expected to change the alg of a key, or to leave fewer keys for
// a token without a kid.
func (k *Keys) look(kid, alg string) (found []Key, missing bool, err error) {
	s := k.current.Load()
	if s == nil || k.expired(s) {
		return nil, true, ErrUnavailable
	}
	found, err = s.find(kid, alg)
	return found, errors.Is(err, ErrUnknownKey) && !s.has(kid), err
}

func (k *Keys) expired(s *set) bool {
	return k.o.MaxStale > 0 && time.Since(s.at) > k.o.MaxStale
}

// Status is what an operator wants to know of an issuer's keys.
type Status struct {
	Keys        int       // in the current set
	LastSuccess time.Time // when the issuer last said so; zero: never
	LastError   string    // of the last refresh; empty if it was good
	FromDisk    bool      // the issuer has not yet confirmed what was kept in Dir
	Expired     bool      // the keys are older than MaxStale and not used
}

// Usable says whether there are keys to verify tokens with.
func (s Status) Usable() bool { return s.Keys > 0 && !s.Expired }

// Status reports.
func (k *Keys) Status() Status {
	k.mu.Lock()
	st := Status{LastError: k.lastError}
	k.mu.Unlock()
	if s := k.current.Load(); s != nil {
		st.Keys, st.LastSuccess, st.FromDisk, st.Expired = s.size, s.at, s.fromDisk, k.expired(s)
	}
	return st
}

// Close ends the refreshing, a fetch under way too, and waits for that. The
// keys stay usable for requests that still hold k.
func (k *Keys) Close() {
	k.cancel()
	<-k.done
	k.o.Figures.release(k)
}
