package ledger

import (
	"rescind/revocation"
)

// shapes are the shapes of the rows, by number, and how many sets of claim
// names each issuer has in force. Every set costs each look-up of a replica, so
// their number is bounded. A set that is in force is free for everybody: only a
// new one counts. A set belongs to the credential that brought it into force.
type shapes struct {
	all     []shape
	free    []uint32 // numbers without rows
	numbers map[revocation.Shape]uint32
	issuers map[string]*setsInForce
}

type shape struct {
	revocation.Shape
	rows     int // not expired
	standing int // in force
	owner    string
}

// setsInForce are the bounded sets of one issuer.
type setsInForce struct {
	total int
	by    map[string]int // by credential
}

func newShapes() *shapes {
	return &shapes{numbers: map[revocation.Shape]uint32{}, issuers: map[string]*setsInForce{}}
}

// alwaysFree are the claims that, each alone, are no bounded set.
var alwaysFree = map[string]bool{"jti": true, "sub": true, "sid": true, "client_id": true}

// bounded reports whether a shape counts as a set of claim names.
func bounded(s revocation.Shape) bool {
	name, sole := s.SoleName()
	return s.Kind == revocation.KindClaims && (!sole || !alwaysFree[name])
}

// use returns the number of a shape for a new row in force, which a credential
// asked for.
func (s *shapes) use(of revocation.Shape, by string) uint32 {
	n, ok := s.numbers[of]
	if !ok {
		if last := len(s.free) - 1; last >= 0 {
			n, s.free = s.free[last], s.free[:last]
		} else {
			n = uint32(len(s.all))
			s.all = append(s.all, shape{})
		}
		s.all[n] = shape{Shape: of}
		s.numbers[of] = n
	}
	h := &s.all[n]
	h.rows++
	if h.standing++; h.standing == 1 && bounded(of) {
		h.owner = by
		in := s.issuers[of.Issuer]
		if in == nil {
			in = &setsInForce{by: map[string]int{}}
			s.issuers[of.Issuer] = in
		}
		in.total++
		in.by[by]++
	}
	return n
}

// end counts a row that is not in force any more.
func (s *shapes) end(n uint32) {
	h := &s.all[n]
	if h.standing--; h.standing > 0 || !bounded(h.Shape) {
		return
	}
	in := s.issuers[h.Issuer]
	in.total--
	if in.by[h.owner]--; in.by[h.owner] == 0 {
		delete(in.by, h.owner)
	}
	if in.total == 0 {
		delete(s.issuers, h.Issuer)
	}
}

// drop frees the number of a shape with its last row.
func (s *shapes) drop(n uint32) {
	h := &s.all[n]
	if h.rows--; h.rows == 0 {
		delete(s.numbers, h.Shape)
		s.all[n] = shape{}
		s.free = append(s.free, n)
	}
}

// inForce reports whether a revocation of this shape is in force.
func (s *shapes) inForce(of revocation.Shape) bool {
	n, ok := s.numbers[of]
	return ok && s.all[n].standing > 0
}

// sets returns how many bounded sets an issuer has in force, and how many of
// them belong to a credential.
func (s *shapes) sets(issuer, by string) (total, own int) {
	in := s.issuers[issuer]
	if in == nil {
		return 0, 0
	}
	return in.total, in.by[by]
}
