package replica

import (
	"sync/atomic"
	"time"

	"rescind/revocation"
)

// Again is a token that is looked up many times. It keeps the token's digests from
// one look-up to the next. An Again never keeps a verdict: each look-up asks the
// set. It is safe for concurrent use, and for every follower.
type Again struct {
	token   *revocation.Token
	digests atomic.Pointer[digests] // under the shapes in use of the last look-up
}

// NewAgain returns t as a token that is looked up many times. Nobody may change t
// any more.
func NewAgain(t *revocation.Token) *Again { return &Again{token: t} }

const (
	// mostKept is how many digests an Again keeps. A token with more, which has
	// long arrays, is looked up as if it came for the first time.
	mostKept = 32
	// MaxAgainSize bounds the memory of an Again in bytes, its token apart.
	MaxAgainSize = 64 + mostKept*24
)

// digests are those of one token under the shapes of one generation. They never
// change.
type digests struct {
	generation uint64
	of         []kindDigest
	kept       bool // false: there are more than mostKept, or too many to look up at all
}

type kindDigest struct {
	digest revocation.Digest
	kind   revocation.Kind
}

// LookupAgain reports the same as [Follower.Lookup] for the token of a.
func (f *Follower) LookupAgain(a *Again, now time.Time) (Verdict, error) {
	return f.verdict(now, func(s *set, ended revocation.Micros) (match, bool, error) {
		return s.lookupAgain(a, ended, &f.counts)
	})
}

// lookupAgain returns the same as lookup for the token of a.
func (s *set) lookupAgain(a *Again, ended revocation.Micros, counts *positives) (by match, ok bool, err error) {
	v := s.view.Load()
	shapes := v.shapes[a.token.Issuer]
	if shapes == nil {
		return match{}, false, nil
	}
	d := a.under(shapes)
	if !d.kept {
		return s.lookupIn(v, a.token, ended, counts)
	}
	for i := range d.of {
		by.id, ok, err = s.denies(v.filter, &d.of[i].digest, a.token, ended, counts)
		if err != nil {
			return match{}, false, err
		}
		if ok {
			by.kind = d.of[i].kind
			return by, true, nil
		}
	}
	return match{}, false, nil
}

// Digests returns the digests under which the token of a can be revoked now. A change
// with another digest denies the token only if its [Changed] has All. ok is false if
// the token has more digests than an Again keeps.
func (f *Follower) Digests(a *Again) (of []revocation.Digest, ok bool) {
	s := f.current.Load().set
	if s == nil {
		return nil, false
	}
	shapes := s.view.Load().shapes[a.token.Issuer]
	if shapes == nil {
		return nil, true
	}
	d := a.under(shapes)
	for i := range d.of {
		of = append(of, d.of[i].digest)
	}
	return of, d.kept
}

// under returns the digests of a under shapes.
func (a *Again) under(shapes *issuerShapes) *digests {
	d := a.digests.Load()
	if d == nil || d.generation != shapes.generation {
		d = digestsOf(a.token, shapes)
		a.digests.Store(d)
	}
	return d
}

// digestsOf returns the digests under which t can be revoked, in the order of a
// look-up.
func digestsOf(t *revocation.Token, shapes *issuerShapes) *digests {
	d := &digests{generation: shapes.generation, kept: true}
	budget := revocation.LookupBudget
	shapes.under(t.Claims, func(shape *revocation.Shape) bool {
		err := t.Digests(shape, &budget, func(digest revocation.Digest) bool {
			d.kept = len(d.of) < mostKept
			if d.kept {
				d.of = append(d.of, kindDigest{digest, shape.Kind})
			}
			return d.kept
		})
		d.kept = d.kept && err == nil
		return d.kept
	})
	if !d.kept {
		d.of = nil
	}
	return d
}
