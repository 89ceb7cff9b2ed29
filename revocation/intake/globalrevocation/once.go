package globalrevocation

import (
	"sync"
	"time"

	"rescind/revocation/intake"
)

// most is the number of credentials that a node remembers in a generation.
const most = 100_000

// once remembers the credentials that were used, for as long as they are valid.
// Two generations are enough, because a credential lives for less than one.
type once struct {
	mu                sync.Mutex // guards the fields below
	current, previous map[string]*use
	since             time.Time // when current began
}

// use is the one use of a credential.
type use struct {
	user user
	done bool
	out  intake.Outcome // once it is done
}

// state says what a credential may be used for.
type state int

const (
	fresh    state = iota // the request may be carried out; end must follow
	repeated              // it was carried out
	reused                // the credential belongs to another request
	busy                  // the request is being carried out, or no more are remembered
)

// begin takes the credential for a request about a user.
func (o *once) begin(c credential, who user, now time.Time) (intake.Outcome, state) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.since) > longest+2*leeway {
		o.previous, o.current, o.since = o.current, map[string]*use{}, now
	}
	u := o.current[c.id]
	if u == nil {
		u = o.previous[c.id]
	}
	switch {
	case u == nil && len(o.current) >= most:
		return intake.Outcome{}, busy
	case u == nil:
		o.current[c.id] = &use{user: who}
		return intake.Outcome{}, fresh
	case u.user != who:
		return intake.Outcome{}, reused
	case !u.done:
		return intake.Outcome{}, busy
	}
	return u.out, repeated
}

// end keeps the outcome of a request. A request that is not durable is forgotten,
// so that its sender can send it again.
func (o *once) end(c credential, out intake.Outcome, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, generation := range []map[string]*use{o.current, o.previous} {
		u := generation[c.id]
		switch {
		case u == nil:
		case err != nil:
			delete(generation, c.id)
		default:
			u.done, u.out = true, out
		}
	}
}
