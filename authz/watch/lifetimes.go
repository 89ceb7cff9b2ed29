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
	lives, ages, gaps, rests    *ddsketch.DDSketch
	livesLonger, older, pausing [len(insight.Lifetimes)]uint64
	busy                        [len(insight.Lifetimes)]float64
}

func newGroups() *groups { return &groups{current: map[groupKey]*group{}} }

func newGroup() *group {
	return &group{
		holders: newCounter(insight.HoldersPrecision),
		lives:   newDistribution(), ages: newDistribution(), gaps: newDistribution(), rests: newDistribution(),
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
	found = newGroup()
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

// pause returns the time since the holder's last request, or 0 if there was none.
func (m *memory) pause(id uint64, now stamp) time.Duration {
	h := m.holders.get(id)
	if h == nil {
		h = m.holders.add(id, func(*holder) {})
		*h = holder{id, now}
		return 0
	}
	gap := now.since(h.last)
	if now.after(h.last) {
		h.last = now
	}
	if gap > forgetHolder {
		return 0
	}
	return gap
}

// learn adds an allowed request to the statistics.
func (m *memory) learn(e *event, i *issuer, k *token, fresh bool, now stamp) {
	g := m.lifetimes.of(groupKey{i, e.clients.First(), e.policy})
	g.requests++
	id := holderOf(e, k)
	g.holders.InsertHash(id)
	life := e.lifetime()
	if fresh {
		g.tokens++
		if life > 0 {
			add(g.lives, life)
		}
	}
	gap := m.pause(id, now)
	if gap > 0 {
		add(g.gaps, gap)
	}
	age, rest := time.Duration(0), time.Duration(0)
	if micro := e.at.UnixMicro(); life > 0 {
		age = time.Duration(micro-int64(e.issuedAt)) * time.Microsecond
		rest = time.Duration(int64(e.expires)-micro) * time.Microsecond
		add(g.ages, age)
		add(g.rests, rest)
	}
	for n, limit := range insight.Lifetimes {
		if life > limit {
			g.livesLonger[n]++
		}
		if age > limit {
			g.older[n]++
		}
		if gap > limit {
			g.pausing[n]++
		} else {
			g.busy[n] += gap.Seconds()
		}
	}
}
