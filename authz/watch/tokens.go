package watch

import (
	"math"
	"time"
)

// tokens are the tokens seen within the window, and their uses.
type tokens struct {
	table[token, *token]
	subjects *bySubject
	uses     uses
	window   time.Duration
	names    *names
	short    memoryLoss
}

// memoryLoss is the last time that something was forgotten too early.
type memoryLoss struct {
	at  stamp
	was bool
}

// token is the memory of one token: 48 bytes. Its last use stands in it, other
// uses are linked.
type token struct {
	id      uint64
	use     useKey
	subject brief
	session brief
	issued  uint32 // iat in seconds; 0: it has none
	first   stamp
	last    stamp  // of use
	count   uint32 // of use
	link    uint32 // the first of its other uses, and its origin
}

// useKey is a network (49 bits) and a route (15 bits).
type useKey uint64

func useOf(n network, route uint16) useKey { return useKey(n)<<routeBits | useKey(route) }

func (k useKey) network() network { return network(k >> routeBits) }
func (k useKey) route() uint16    { return uint16(k & (1<<routeBits - 1)) }

func (t *token) key() uint64 { return t.id }
func (t *token) used() stamp { return t.last }

func (t *token) origin() uint16      { return uint16(t.link & (1<<originBits - 1)) }
func (t *token) others() uint32      { return t.link >> originBits }
func (t *token) setOthers(at uint32) { t.link = at<<originBits | t.link&(1<<originBits-1) }

// use counts the requests of a token in one network, under one policy and with
// one outcome.
type use struct {
	key   useKey
	count uint32
	last  stamp
	next  uint32 // 0: none
}

// uses stores the uses that do not stand in a token, numbered from 1.
type uses struct {
	limit int
	pages [][]use
	n     int
	free  uint32 // the first of a list
}

const (
	usesPerToken = 8  // tokens for each place in the store
	maxUses      = 64 // of one token
)

func (s *uses) at(i uint32) *use { return &s.pages[(i-1)/pageSize][(i-1)%pageSize] }

// take returns the number of a free place, or 0 if there is none.
func (s *uses) take() uint32 {
	if i := s.free; i != 0 {
		s.free = s.at(i).next
		return i
	}
	if s.n >= s.limit {
		return 0
	}
	if s.n/pageSize == len(s.pages) {
		s.pages = append(s.pages, make([]use, pageSize))
	}
	s.n++
	return uint32(s.n)
}

func (s *uses) give(i uint32) {
	*s.at(i) = use{next: s.free}
	s.free = i
}

func newTokens(limit int, window time.Duration, n *names) *tokens {
	t := &tokens{window: window, names: n}
	t.limit = limit
	t.subjects = newBySubject(limit, t.at)
	t.moved = t.subjects.move
	t.uses.limit = min(limit/usesPerToken, 1<<(32-originBits)-1)
	return t
}

// dead reports whether a use at that time lies before the window.
func (t *tokens) dead(last, now stamp) bool { return now.since(last) > t.window }

// put returns the token with this identity, and whether it is new. A new token has
// no other field set; the caller fills it in.
func (t *tokens) put(id uint64, now stamp) (_ *token, fresh bool) {
	if found := t.get(id); found != nil {
		if !t.dead(found.last, now) {
			return found, false
		}
		t.forget(found)
		*found = token{id: id}
		return found, true
	}
	added := t.add(id, func(old *token) {
		if !t.dead(old.last, now) {
			t.short = memoryLoss{now, true}
		}
		t.forget(old)
	})
	*added = token{id: id}
	return added, true
}

// forget frees the uses, the origin and the index entry of a token.
func (t *tokens) forget(gone *token) {
	for i := gone.others(); i != 0; {
		next := t.uses.at(i).next
		t.uses.give(i)
		i = next
	}
	t.names.leave(gone.origin())
	if gone.subject != (brief{}) {
		t.subjects.remove(gone, t.number(gone.id))
	}
}

// begin fills in a new token, and indexes it by its subject.
func (t *tokens) begin(k *token, e *event, i *issuer, now stamp) {
	k.subject, k.session = briefOf(i.of(ofSubject, e.subject)), briefOf(i.of(ofSession, e.session))
	k.link = uint32(t.names.join(source{i, e.clients, e.keyID}))
	if e.issuedAt > 0 {
		k.issued = uint32(min(max(int64(e.issuedAt)/1e6, 1), math.MaxUint32))
	}
	k.first, k.last = now, now
	if k.subject != (brief{}) {
		t.subjects.add(k, t.number(k.id))
	}
}

// record counts uses of a token, the first and the last of them at these times.
func (t *tokens) record(k *token, key useKey, first, now stamp, times uint32) {
	const longest = 20 * 24 * time.Hour // two stamps further apart cannot be compared
	if k.first.after(first) {
		k.first = first // events come nearly in order
	} else if now.since(k.first) > longest {
		k.first = now - stampOf(longest)
	}
	if k.use != key && k.count > 0 {
		t.turn(k, key, first)
	}
	k.use = key
	k.count += min(times, math.MaxUint32-k.count)
	if now.after(k.last) {
		k.last = now
	}
}

// turn makes another use the one that stands in the token, and links the one that
// stood there. It frees dead uses on the way.
func (t *tokens) turn(k *token, key useKey, now stamp) {
	previous := use{key: k.use, count: k.count, last: k.last}
	k.use, k.count = key, 0
	from, oldest, n := uint32(0), uint32(0), 0
	for i := k.others(); i != 0; {
		u := t.uses.at(i)
		next := u.next
		switch {
		case t.dead(u.last, now):
			if from == 0 {
				k.setOthers(next)
			} else {
				t.uses.at(from).next = next
			}
			t.uses.give(i)
			i = next
			continue
		case u.key == key:
			k.count = u.count
			u.key, u.count, u.last = previous.key, previous.count, previous.last
			return
		case oldest == 0 || t.uses.at(oldest).last.after(u.last):
			oldest = i
		}
		n++
		from, i = i, next
	}
	at := uint32(0)
	if n < maxUses {
		at = t.uses.take()
	}
	switch {
	case at != 0:
		previous.next = k.others()
		*t.uses.at(at) = previous
		k.setOthers(at)
	case oldest != 0:
		u := t.uses.at(oldest)
		u.key, u.count, u.last = previous.key, previous.count, previous.last
		fallthrough
	default: // there is no place for it
		t.short = memoryLoss{now, true}
	}
}

// each yields the uses of a token that are not dead.
func (t *tokens) each(k *token, now stamp, yield func(key useKey, count uint32, last stamp)) {
	if k.count > 0 && !t.dead(k.last, now) {
		yield(k.use, k.count, k.last)
	}
	for i := k.others(); i != 0; {
		u := t.uses.at(i)
		if !t.dead(u.last, now) {
			yield(u.key, u.count, u.last)
		}
		i = u.next
	}
}

// partial reports whether something within the window was forgotten.
func (t *tokens) partial(now stamp) bool { return t.short.was && !t.dead(t.short.at, now) }
