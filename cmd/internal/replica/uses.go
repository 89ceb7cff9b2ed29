package replica

import (
	"context"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/tokencache"
	"rescind/envoy/known"
)

// uses are the requests of a portion that Envoy answered, in groups alike. Its memory
// is used again for the next portion, because nobody keeps it.
type uses struct {
	groups []group
	newest map[known.Key]int // the newest group of a token
	next   []int             // of each request: the next one of its group; 0: none

	alike    []gate.Use // of one group
	decision authz.Decision
	request  authz.Request
}

// group is the first and the last request of a group.
type group struct{ first, last int }

// sort makes the groups of a portion: successive requests with one token, from one
// address. A token that comes from another address and back has a group for each stay,
// because the watcher looks for such tokens.
func (s *uses) sort(portion []known.Use) {
	if s.newest == nil {
		s.newest = map[known.Key]int{}
	}
	clear(s.newest)
	s.groups, s.next = s.groups[:0], s.next[:0]
	for n := range portion {
		u := &portion[n]
		s.next = append(s.next, 0)
		if i, there := s.newest[u.Key]; there {
			g := &s.groups[i]
			if last := &portion[g.last]; last.Source == u.Source && last.Policy == u.Policy {
				s.next[g.last] = n
				g.last = n
				continue
			}
		}
		s.newest[u.Key] = len(s.groups)
		s.groups = append(s.groups, group{n, n})
	}
}

// of returns the requests of a group.
func (s *uses) of(g group, portion []known.Use) []gate.Use {
	s.alike = s.alike[:0]
	for n := g.first; ; n = s.next[n] {
		s.alike = append(s.alike, gate.Use{At: portion[n].At, ID: portion[n].ID})
		if n == g.last {
			return s.alike
		}
	}
}

// observeKnown shows requests that Envoy answered to everything that observes
// decisions. A token whose holder is not remembered any more would be used unseen, so
// the token leaves the table. The server of known tokens makes one call at a time.
func (p *process) observeKnown(ctx context.Context, portion []known.Use) {
	s := &p.known.seen
	s.sort(portion)
	authorizer := p.gate.Authorizer()
	_, revision := p.follower.Position()
	for _, g := range s.groups {
		first := &portion[g.first]
		s.decision = authorizer.Recall(first.Policy, tokencache.KeyOf(first.Key))
		if s.decision.Facts == nil && first.Key != (known.Key{}) {
			p.known.table.Load().Forget(first.Key)
		}
		s.decision.ByGateway, s.decision.Revision = true, revision
		s.request.Source = first.Source
		p.gate.ObserveUses(ctx, gate.Observation{Request: &s.request, Decision: &s.decision}, s.of(g, portion))
	}
	s.decision, s.request = authz.Decision{}, authz.Request{} // the token may be forgotten
}
