// Package jwks holds the keys that tokens are verified with. Each issuer has its
// own set, which is kept up to date in the background and is never used for
// another issuer.
//
// # Trust
//
// The configuration is trusted, and for its own keys the issuer's source: a JWK
// Set at a URL, a JWK Set that a discovery document names, or a local file. A
// key that is private, too small, off its curve or made for another purpose is
// skipped, counted and logged, and the other keys are used. Callers that send tokens are
// not trusted. A kid is a guess, and a hundred thousand guesses cause no more
// than one fetch in MinRefreshInterval, after a burst of three.
//
// # Invariants
//
//   - A set of keys never changes once it is made. A refresh that brings a
//     usable key replaces the whole set, so a key that the issuer removed stops
//     working with that refresh. A refresh without a usable key changes nothing.
//   - A request whose key is known reads one atomic pointer and one map. It
//     takes no lock and no part in any fetch.
//   - A request whose key is not known waits for at most 500 ms, only for a
//     fetch that can bring the key, and only for the first 500 ms of that fetch.
//     So an issuer that is down delays requests for 500 ms in each
//     MinRefreshInterval, and not for 500 ms each.
//   - A kid that no key has is never refused for good. A fetch for unknown kids
//     that must wait for its interval is made at the end of the interval. The
//     memory of unknown kids only spares the issuer repeated fetches for the
//     same kid.
//
// # Ownership
//
// [Open] starts one goroutine that makes every fetch of its issuer. Only this
// goroutine replaces the set and the file in Dir. [Keys.Close] ends it and
// waits. Requests and the goroutine share only the demand.
//
// keyfunc says which key belongs to a kid and an alg, over a jwkset storage that
// only this package fills. The set asks keyfunc once for each question, because
// keyfunc keeps one key for each kid, where issuers may publish two, and offers
// every key, unchecked, for a token without a kid. Such a token is tried against
// at most four keys, and the caller learns the kid of the key that verified it.
// So a key that is revoked by its kid stays revoked for tokens without a kid.
//
// # A limit
//
// An issuer that changes a key and keeps its kid gets bad_signature for tokens
// of the new key until the next refresh in the background. A fetch for each bad
// signature would let every caller cause fetches with a kid that is public.
package jwks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// ErrUnavailable reports that there are no keys of the issuer.
	ErrUnavailable = errors.New("no keys of the issuer are available")
)

// Keys follows the keys of one issuer. It is safe for concurrent use.
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

	lastError atomic.Pointer[string] // of the last refresh, "" if it was good; nil before its end
}

// Open starts to follow the keys of an issuer. It does not wait for them. At
// first the keys are those of the last good refresh, if Dir has them. The keys
// of the source replace them as soon as the source answers. The error names
// every fault of the options.
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
	o.Figures.takeOver(k)
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

// Seeking reports whether a fetch is under way or due that may bring a key which
// is not known. Until then an unknown key says nothing about its token.
func (k *Keys) Seeking() bool { return k.demand.seeking() }

// look asks the current set. It reports missing where a fetch may bring the key.
// A fetch is not expected to change the alg of a key, or to leave fewer keys for
// a token without a kid.
func (k *Keys) look(kid, alg string) (found []Key, missing bool, err error) {
	s := k.current.Load()
	if s == nil || k.expired(s) {
		return nil, true, k.unavailable(s)
	}
	found, err = s.find(kid, alg)
	missing = errors.Is(err, ErrUnknownKey) && !s.has(kid)
	if missing && k.failure() != "" {
		err = fmt.Errorf("%w; the last refresh of the keys failed, so the key may be newer", err)
	}
	return found, missing, err
}

// Generation returns a number that stands for the keys in use. Every token has
// the same answer from [Keys.Find], and from [Verify], for as long as the number
// stays the same. It is 0 if there are no keys, or only keys older than MaxStale. No
// two sets of different keys have the same number, whatever their issuers. A
// refresh that brings the same keys again keeps the number.
func (k *Keys) Generation() uint64 {
	s := k.current.Load()
	if s == nil || k.expired(s) {
		return 0
	}
	return s.number
}

// unavailable says why there are no keys to use. s are keys that are too old, or
// nil.
func (k *Keys) unavailable(s *set) error {
	switch fault := k.failure(); {
	case s != nil:
		return fmt.Errorf("%w: the keys are older than max_stale; the last refresh failed: %s", ErrUnavailable, fault)
	case fault != "":
		return fmt.Errorf("%w: %s", ErrUnavailable, fault)
	default:
		return fmt.Errorf("%w: the first fetch has not ended yet", ErrUnavailable)
	}
}

// failure returns the error of the last refresh, or "".
func (k *Keys) failure() string {
	if fault := k.lastError.Load(); fault != nil {
		return *fault
	}
	return ""
}

func (k *Keys) expired(s *set) bool {
	return k.o.MaxStale > 0 && time.Since(s.at) > k.o.MaxStale
}

// Status describes the keys of an issuer for an operator.
type Status struct {
	Keys        int       // in the current set
	LastSuccess time.Time // when the issuer last published the set; zero: never
	LastError   string    // of the last refresh; empty if it succeeded
	FromDisk    bool      // the set was kept in Dir, and the issuer has not confirmed it yet
	Expired     bool      // the keys are older than MaxStale and not used
}

// Usable reports whether there are keys to verify tokens with.
func (s Status) Usable() bool { return s.Keys > 0 && !s.Expired }

// Status returns the present status.
func (k *Keys) Status() Status {
	st := Status{LastError: k.failure()}
	if s := k.current.Load(); s != nil {
		st.Keys, st.LastSuccess, st.FromDisk, st.Expired = len(s.keys), s.at, s.fromDisk, k.expired(s)
	}
	return st
}

// Close ends the refreshing, also a fetch under way, and waits until it has
// ended. Requests that still hold k may go on to use the keys.
func (k *Keys) Close() {
	k.cancel()
	<-k.done
	k.o.Figures.release(k)
}
