// Package statuslist holds the Token Status Lists of issuers
// (draft-ietf-oauth-status-list). An issuer publishes one list for many of its
// tokens, and a token names its place in a list. A status other than 0 ends the
// token before its exp.
//
// # Trust
//
// The configuration is trusted. It says which URIs may hold lists of an issuer,
// and whose keys sign them. A token chooses a list only after its signature, its
// times and its claims have been accepted, and only among these URIs. A list is
// believed if a key that is bound to this issuer signed it as a statuslist+jwt
// whose sub is the URI, byte for byte. The place that a list was fetched from
// proves nothing, so a list may stand on the server of a third party.
//
// Lists are always signed with asymmetric keys here. The draft also allows a MAC,
// whose secret every reader would share.
//
// # Invariants
//
//   - The request path reads one atomic pointer to a map that never changes, and
//     one to a list that never changes. It makes no network call, takes no lock,
//     and waits for nothing.
//   - A list is not relied upon after its exp, nor after MaxAge since its fetch
//     began. A fetch that fails changes nothing, so the last good list stays in
//     use until then.
//   - While a list is in use, no list with an older iat replaces it. So a cache on
//     the way that serves an old copy cannot bring a revoked token back.
//   - A further list is refused once MaxLists are held and all of them are in use.
//     The answers that issuers send are bounded before and after they are inflated.
//
// # Ownership
//
// [Open] starts one goroutine that decides which lists are followed. Only it
// replaces the map. It starts one goroutine for each list, and only that one
// replaces the list. [Lists.Close] ends them all and waits. At most four fetches
// of an issuer are under way at once.
//
// # Failure
//
// A list that has not been fetched yet, or that may not be relied upon any more,
// gives ErrUnavailable. The caller decides whether that denies. With Dir the last
// good lists are kept on disk, so that a restart has them before the first token.
// Each is verified again when it is read, and lives no longer than it would have
// without the restart.
//
// # A limit
//
// An issuer can tell no replica that a list has changed. A revocation takes effect
// with the next refresh, after the list's ttl or at most MaxRefresh.
package statuslist

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrUnavailable reports that there is no list to rely upon, or not yet.
	ErrUnavailable = errors.New("no usable status list is there")
	// ErrNotAllowed reports that the token names a URI at which its issuer has no
	// lists by the configuration.
	ErrNotAllowed = errors.New("the token names a status list at a URI that status_lists does not allow")
	// ErrOutOfRange reports that the list has no place with the token's index.
	ErrOutOfRange = errors.New("the token's index is beyond the end of its status list")
)

// Status is the status of a token. Every status but Valid ends the token, also one
// that only its issuer can explain.
type Status uint8

// The statuses that the draft defines.
const (
	Valid     Status = 0
	Invalid   Status = 1
	Suspended Status = 2
)

// Lists follows the status lists of one issuer. It is safe for concurrent use.
type Lists struct {
	o      Options
	log    *slog.Logger
	lists  atomic.Pointer[map[string]*followed] // by URI; replaced as a whole
	asked  chan string                          // URIs that tokens named and that are not followed
	slots  chan struct{}                        // one for each fetch under way
	cancel context.CancelFunc
	all    sync.WaitGroup

	refreshed, failed, unavailable, refused atomic.Uint64 // for the figures
}

const (
	// maxFetches is how many fetches of one issuer may be under way at once.
	maxFetches = 4
	// maxAsked is how many URIs may wait to be followed. A token whose URI does
	// not get a place asks again with its next request.
	maxAsked = 64
)

// Open starts to follow the lists of an issuer. It does not wait for any of them.
// The lists at URIs that are configured exactly, those in also that are allowed, and
// those on disk are fetched now. The others follow when a token names them. The error
// names every fault of the options.
func Open(o Options, also ...string) (*Lists, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	l := &Lists{
		o: o, log: o.Logger.With(slog.String("issuer", o.Issuer)),
		asked: make(chan string, maxAsked), slots: make(chan struct{}, maxFetches),
	}
	l.lists.Store(&map[string]*followed{})
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for _, uri := range slices.Concat(o.exact(), also, o.savedURIs()) {
		if o.allows(uri) {
			l.follow(ctx, uri)
		}
	}
	o.Figures.add(l)
	l.all.Go(func() { l.run(ctx) })
	return l, nil
}

// Status returns the status of a token that has been accepted otherwise. It fails
// with ErrNotAllowed, ErrUnavailable or ErrOutOfRange. The first token that names
// a list causes its fetch.
func (l *Lists) Status(ref Reference, now time.Time) (Status, error) {
	f := (*l.lists.Load())[ref.URI]
	if f == nil {
		if !l.o.allows(ref.URI) {
			return Invalid, ErrNotAllowed
		}
		select {
		case l.asked <- ref.URI:
		default:
		}
		l.unavailable.Add(1)
		return Invalid, ErrUnavailable
	}
	f.use(now)
	held := f.current.Load()
	if held == nil || !now.Before(held.until) {
		l.unavailable.Add(1)
		return Invalid, ErrUnavailable
	}
	return held.at(ref.Index)
}

// URIs returns the URIs of the lists that are followed.
func (l *Lists) URIs() []string {
	var all []string
	for uri := range *l.lists.Load() {
		all = append(all, uri)
	}
	return all
}

// Settled reports whether the first fetch of every list has ended, well or not.
func (l *Lists) Settled() bool {
	for _, f := range *l.lists.Load() {
		if !f.tried.Load() {
			return false
		}
	}
	return true
}

// Failing returns how many lists could not be refreshed at the last attempt.
func (l *Lists) Failing() int { return l.summary(time.Now()).failing }

// Close ends every fetch and waits until it has ended. Requests that still hold l
// may go on to read the lists.
func (l *Lists) Close() {
	l.cancel()
	l.all.Wait()
	l.o.Figures.remove(l)
}
