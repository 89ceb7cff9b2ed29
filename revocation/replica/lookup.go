package replica

import (
	"sync/atomic"

	"rescind/revocation"
)

// positives counts the hits of the filter: the hits that an entry confirmed,
// and the hits without an entry.
type positives struct{ confirmed, none atomic.Uint64 }

// match is the entry that denies a token.
type match struct {
	id   revocation.ID
	kind revocation.Kind
}

// lookup returns an entry that denies t. Entries that end by ended deny nothing.
// ok is false if there is no such entry.
func (s *set) lookup(t *revocation.Token, ended revocation.Micros, counts *positives) (by match, ok bool, err error) {
	return s.lookupIn(s.view.Load(), t, ended, counts)
}

// lookupIn is lookup in a view of s.
func (s *set) lookupIn(v *view, t *revocation.Token, ended revocation.Micros, counts *positives) (by match, ok bool, err error) {
	shapes := v.shapes[t.Issuer]
	if shapes == nil {
		return match{}, false, nil
	}
	budget := revocation.LookupBudget
	shapes.under(t.Claims, func(shape *revocation.Shape) bool {
		failed := t.Digests(shape, &budget, func(d revocation.Digest) bool {
			by.id, ok, err = s.denies(v.filter, &d, t, ended, counts)
			return !ok && err == nil
		})
		if failed != nil {
			err = failed
		}
		by.kind = shape.Kind
		return !ok && err == nil
	})
	if !ok || err != nil {
		return match{}, false, err
	}
	return by, true, nil
}

// denies returns the ID of an entry with this digest that denies t.
func (s *set) denies(f *filter, d *revocation.Digest, t *revocation.Token, ended revocation.Micros, counts *positives) (by revocation.ID, ok bool, err error) {
	q := queryOf(d, t, ended)
	if !f.has(uint64(q.key)) {
		return revocation.ID{}, false, nil
	}
	q.text = q.key.String()
	present := false
	for _, b := range *s.stripes[q.key.stripe()].buckets.Load() {
		a, err := b.find(&q)
		if err != nil {
			return revocation.ID{}, false, err
		}
		present = present || a.present
		if a.denied {
			by, ok = a.by, true
			break
		}
	}
	if present {
		counts.confirmed.Add(1)
	} else {
		counts.none.Add(1)
	}
	return by, ok, nil
}
