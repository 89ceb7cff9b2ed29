package replica

import (
	"errors"
	"sync/atomic"

	"rescind/revocation"
)

// positives count the look-ups that a filter did not answer.
type positives struct{ held, none atomic.Uint64 }

// lookup finds an entry in force that denies t. clock is the instant until
// which nothing has expired yet.
func (s *set) lookup(t *revocation.Token, clock revocation.Micros, counts *positives) (by revocation.ID, kind revocation.Kind, denied bool, err error) {
	v, budget := s.view.Load(), revocation.LookupBudget
	for _, shape := range v.shapes[t.Issuer] {
		var failed error
		err := t.Digests(shape, &budget, func(d revocation.Digest) bool {
			by, denied, failed = s.denies(v, &d, t, clock, counts)
			return !denied && failed == nil
		})
		if err = errors.Join(failed, err); denied || err != nil {
			return by, shape.Kind, denied, err
		}
	}
	return revocation.ID{}, 0, false, nil
}

// denies asks about one digest.
func (s *set) denies(v *view, d *revocation.Digest, t *revocation.Token, clock revocation.Micros, counts *positives) (by revocation.ID, denied bool, err error) {
	k := slotOf(d)
	if !v.filter.has(uint64(k)) {
		return revocation.ID{}, false, nil
	}
	held, key := false, k.String()
	for _, b := range *s.shelves[k.shelf()].buckets.Load() {
		err = b.find(k, key, func(r *record) bool {
			if r.rest != [8]byte(d[8:]) {
				return true
			}
			held = true
			if denied = r.expires > clock && r.reaches(t); denied {
				by = r.id
			}
			return !denied
		})
		if denied || err != nil {
			break
		}
	}
	if held {
		counts.held.Add(1)
	} else {
		counts.none.Add(1)
	}
	return by, denied, err
}

// reaches says whether a token that matches is denied: by its iat, or because
// it has none.
func (r *record) reaches(t *revocation.Token) bool {
	return r.before == 0 || !t.HasIssuedAt || t.IssuedAt < r.before
}
