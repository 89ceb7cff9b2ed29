package jwks

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// set is what one good document says. It never changes.
type set struct {
	answers   map[question][]Key // to every question that has one
	ambiguous map[string]bool    // algs for which a token needs a kid: several keys fit
	kids      map[string]bool    // that a key has
	size      int
	at        time.Time // when the issuer last said so
	fromDisk  bool
	text      string // what it has, for the log
}

type question struct{ kid, alg string }

// newSet asks keyfunc, once, what a request may ask later. keyfunc holds one
// key to a kid, and issuers may publish two: so each key has a name of its own
// there, which is its place.
func newSet(keys []Key, algorithms []string, at time.Time) (*set, error) {
	s := &set{
		answers:   map[question][]Key{},
		ambiguous: map[string]bool{},
		kids:      map[string]bool{},
		size:      len(keys),
		at:        at,
		text:      summary(keys),
	}
	keyfunc, err := newKeyfunc(keys)
	if err != nil {
		return nil, err
	}
	for _, alg := range names(algorithms) {
		var fitting []Key
		for place, key := range keys {
			s.kids[key.ID] = true
			key.Public, err = keyfunc(&jwt.Token{Header: map[string]any{"kid": strconv.Itoa(place), "alg": canonical(alg)}})
			if err != nil || !key.fits(alg) {
				continue
			}
			fitting = append(fitting, key)
			if key.ID != "" {
				q := question{key.ID, alg}
				s.answers[q] = append(s.answers[q], key)
			}
		}
		if len(fitting) == 1 {
			s.answers[question{"", alg}] = fitting
		}
		s.ambiguous[alg] = len(fitting) > 1
	}
	return s, nil
}

// find is what every request asks.
func (s *set) find(kid, alg string) []Key { return s.answers[question{kid, alg}] }

// settled says that a kid has no key for alg, but that no fetch is expected to
// change that: its key is for another alg, or several fit where there is no
// kid.
func (s *set) settled(kid, alg string) bool {
	if kid == "" {
		return s.ambiguous[alg]
	}
	return s.kids[kid]
}

// summary names the keys, for the log. It is bounded whatever they are called.
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

// newKeyfunc is a keyfunc over a storage that has these keys and nothing else,
// and that nobody writes to again.
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

// names are all names by which a token may call these algorithms.
func names(list []string) []string {
	var all []string
	for alg := range algorithms {
		if listed(list, alg) {
			all = append(all, alg)
		}
	}
	return all
}
