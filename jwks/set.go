package jwks

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// maxCandidates is how many keys a token without a kid is tried against. Each
// try costs a verification.
const maxCandidates = 4

// set holds the keys of one good document. It never changes.
type set struct {
	answers   map[question][]Key // to every question that has one
	ambiguous map[string]bool    // algs that more than maxCandidates keys fit
	kids      map[string]bool    // of the keys
	keys      []Key              // all of them, in the order of the document
	number    uint64             // of the keys; sets with the same keys share it
	at        time.Time          // when the issuer last published it
	fromDisk  bool
	text      string // its keys, for the log
	skipped   skipped
}

// question is a kid, "" for none, and an alg.
type question struct{ kid, alg string }

// newSet asks keyfunc once everything that requests may ask later. keyfunc
// holds one key for each kid, and issuers may publish two. So the kid of a key
// in keyfunc is its place in keys.
func newSet(keys []Key, algorithms []string, at time.Time) (*set, error) {
	s := &set{
		answers:   map[question][]Key{},
		ambiguous: map[string]bool{},
		kids:      map[string]bool{},
		keys:      keys,
		at:        at,
		text:      summary(keys),
	}
	keyfunc, err := newKeyfunc(keys)
	if err != nil {
		return nil, err
	}
	ready := make([]*prepared, len(keys))
	for place, key := range keys {
		s.kids[key.ID], ready[place] = true, prepare(key.Public)
	}
	for _, alg := range spellings(algorithms) {
		var fitting []Key
		for place, key := range keys {
			key.Public, err = keyfunc(&jwt.Token{Header: map[string]any{"kid": strconv.Itoa(place), "alg": canonical(alg)}})
			if err != nil || !key.fits(alg) {
				continue
			}
			key.prepared = ready[place]
			fitting = append(fitting, key)
			if key.ID != "" {
				q := question{key.ID, alg}
				s.answers[q] = append(s.answers[q], key)
			}
		}
		if len(fitting) <= maxCandidates {
			s.answers[question{"", alg}] = fitting
		}
		s.ambiguous[alg] = len(fitting) > maxCandidates
	}
	return s, nil
}

// sameKeys reports whether s and other hold the same keys in the same order, so
// that every question has the same answer.
func (s *set) sameKeys(other *set) bool { return slices.EqualFunc(s.keys, other.keys, Key.equal) }

// find returns the keys that may have signed a token with this kid and alg, or
// ErrUnknownKey or ErrAmbiguousKey.
func (s *set) find(kid, alg string) ([]Key, error) {
	switch keys := s.answers[question{kid, alg}]; {
	case len(keys) > 0:
		return keys, nil
	case kid == "" && s.ambiguous[alg]:
		return nil, ErrAmbiguousKey
	case kid == "":
		return nil, errNoneFits
	case s.kids[kid]:
		return nil, errOtherAlgorithm
	}
	if why := s.skipped.of(kid); why != "" {
		return nil, fmt.Errorf("%w: the issuer publishes a key with this kid, which is not used: %s", ErrUnknownKey, why)
	}
	return nil, errNotPublished
}

// Each says why no key was found.
var (
	errNoneFits       = fmt.Errorf("%w: the token names no kid, and no key fits its alg", ErrUnknownKey)
	errOtherAlgorithm = fmt.Errorf("%w: the key with this kid is for another alg", ErrUnknownKey)
	errNotPublished   = fmt.Errorf("%w: no key that was fetched has this kid", ErrUnknownKey)
)

// has reports whether a key of any alg has this kid.
func (s *set) has(kid string) bool { return kid != "" && s.kids[kid] }

// summary returns the kids for the log. Its length is bounded, because the
// issuer chooses the kids.
func summary(keys []Key) string {
	const most, longest = 10, 80
	var kids []string
	for _, k := range keys {
		kids = append(kids, k.ID[:min(len(k.ID), longest)])
	}
	slices.Sort(kids)
	if len(kids) > most {
		kids = append(kids[:most], "…")
	}
	return strings.Join(kids, ", ")
}

// newKeyfunc returns a keyfunc over a storage of exactly these keys. Nothing
// writes to the storage again.
func newKeyfunc(keys []Key) (jwt.Keyfunc, error) {
	storage := jwkset.NewMemoryStorage()
	for place, key := range keys {
		jwk, err := jwkset.NewJWKFromKey(key.Public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			KID: strconv.Itoa(place),
			ALG: jwkset.ALG(canonical(key.Algorithm)),
			USE: jwkset.UseSig,
		}})
		if err != nil {
			return nil, err
		}
		if err := storage.KeyWrite(context.Background(), jwk); err != nil {
			return nil, err
		}
	}
	k, err := keyfunc.New(keyfunc.Options{Storage: storage, UseWhitelist: []jwkset.USE{jwkset.UseSig}})
	if err != nil {
		return nil, err
	}
	return k.Keyfunc, nil
}

// spellings returns every name by which a token may call these algorithms.
func spellings(list []string) []string {
	var all []string
	for alg := range algorithms {
		if listed(list, alg) {
			all = append(all, alg)
		}
	}
	return all
}
