package watch

import (
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/axiomhq/hyperloglog"

	"rescind/revocation/insight"
)

// groups are the statistics for advice, by issuer, client and policy, over the
// last window or two.
type groups struct {
	current, previous map[groupKey]*group
	turned            time.Time // start of current
	began             time.Time // start of previous; zero: previous is empty
	short             bool      // current had no room for a group
	wasShort          bool      // previous had none
	recent            recent
}

type groupKey struct {
	issuer         *issuer
	client, policy string
}

const (
	maxGroups = 128
	// otherClients stands for the clients without a group of their own.
	otherClients = "(others)"
)

// group has the statistics of one issuer, client and policy.
type group struct {
	tokens, requests            uint64
	holders                     *hyperloglog.Sketch
	number                      int // of the group within its window, from 1
	lives, ages, gaps, rests    *ddsketch.DDSketch
	livesLonger, older, pausing [len(insight.Lifetimes)]uint64
	busy                        [len(insight.Lifetimes)]float64
}

func newGroups() *groups { return &groups{current: map[groupKey]*group{}} }

func newGroup(number int) *group {
	return &group{
		number: number, holders: newCounter(insight.HoldersPrecision),
		lives: newDistribution(), ages: newDistribution(), gaps: newDistribution(), rests: newDistribution(),
	}
}

// of returns the group of k, or that of the other clients if there is no room.
func (g *groups) of(k groupKey) *group {
	found := g.current[k]
	if found != nil {
		return found
	}
	if len(g.current) >= maxGroups {
		// Each configured issuer has one such group, so their number is bounded.
		g.short = true
		k.client, k.policy = otherClients, ""
		if found = g.current[k]; found != nil {
			return found
		}
	}
	found = newGroup(len(g.current) + 1)
	g.current[k] = found
	return found
}

// tick starts a new window when the current one is over.
func (g *groups) tick(now time.Time, window time.Duration) {
	if g.turned.IsZero() {
		g.turned = now
	}
	if now.Sub(g.turned) >= window {
		g.previous, g.began, g.wasShort = g.current, g.turned, g.short
		clear(g.recent[:])
		g.current, g.turned, g.short = map[groupKey]*group{}, now, false
	}
}

// holder is the user of tokens: a session, or else a subject with a client.
type holder struct {
	id   uint64
	last stamp
}

func (h *holder) key() uint64 { return h.id }
func (h *holder) used() stamp { return h.last }

// forgetHolder is the pause after which a holder's next request counts as a new
// visit with a new login.
const forgetHolder = 24 * time.Hour

// holderOf returns the hash of an event's holder, the same in every replica.
func holderOf(e *event, k *token) uint64 {
	if e.session != "" {
		return max(k.session.hash(), 1)
	}
	client, name := uint64(14695981039346656037), e.clients.First() // FNV-1a is enough here: a collision merges two holders in a statistic
	for i := range len(name) {
		client = (client ^ uint64(name[i])) * 1099511628211
	}
	return max(spread(k.subject.hash()^client), 1)
}

// pause returns the time from the holder's last request to the first of an event, or 0
// if there was none. It also returns the time of the event that the holder's last
// request does not cover, because a holder may use several tokens at once.
func (m *memory) pause(id uint64, first, now stamp) (before, within time.Duration) {
	h := m.holders.get(id)
	if h == nil {
		h = m.holders.add(id, func(*holder) {})
		*h = holder{id, now}
		return 0, now.since(first)
	}
	before, within = first.since(h.last), min(now.since(first), now.since(h.last))
	if now.after(h.last) {
		h.last = now
	}
	return before, within
}

// recent are holders that are in the sketch of a group of the current window. To put a
// holder into a sketch changes nothing the second time, and costs as much as the rest
// of an event. All groups share the 64 KiB.
type recent [1 << 12]struct {
	of *group
	id uint64
}

// hold counts a holder of a group.
func (r *recent) hold(of *group, id uint64) {
	at := &r[(id^spread(uint64(of.number)))%uint64(len(r))] // a holder of several groups has several places
	if at.of != of || at.id != id {
		at.of, at.id = of, id
		of.holders.InsertHash(id)
	}
}

// pause adds n pauses between requests, which last so long together. A pause of less
// than a millisecond is none.
func (g *group) pause(together time.Duration, n uint32) {
	n = uint32(min(time.Duration(n), together/time.Millisecond))
	if n == 0 {
		return
	}
	gap := together / time.Duration(n)
	if gap > forgetHolder {
		return
	}
	add(g.gaps, gap, n)
	for i, limit := range insight.Lifetimes {
		if gap > limit {
			g.pausing[i] += uint64(n)
		} else {
			g.busy[i] += together.Seconds()
		}
	}
}

// learn adds allowed requests to the statistics.
func (m *memory) learn(e *event, i *issuer, k *token, fresh bool, first, now stamp) {
	g := m.lifetimes.of(groupKey{i, e.clients.First(), e.policy})
	g.requests += uint64(e.times)
	id := holderOf(e, k)
	m.lifetimes.recent.hold(g, id)
	life := e.lifetime()
	if fresh {
		g.tokens++
		if life > 0 {
			add(g.lives, life, 1)
		}
	}
	before, within := m.pause(id, first, now)
	g.pause(before, 1)
	g.pause(within, e.times-1)
	if life == 0 {
		return
	}
	micro := e.at.UnixMicro()
	age := time.Duration(micro-int64(e.issuedAt)) * time.Microsecond
	add(g.ages, age, e.times)
	add(g.rests, time.Duration(int64(e.expires)-micro)*time.Microsecond, e.times)
	for n, limit := range insight.Lifetimes {
		if life > limit {
			g.livesLonger[n] += uint64(e.times)
		}
		if age > limit {
			g.older[n] += uint64(e.times)
		}
	}
}
