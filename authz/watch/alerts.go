package watch

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"rescind/revocation/insight"
)

// alerts gathers sightings of the same thing into one alert. It hands out the
// first sighting at once, and later ones together from time to time. The number
// of things at a time and the rate of new things are bounded. Sightings beyond
// that become one alert for each detector and issuer, so that a flood is neither
// silent nor hides other alerts.
type alerts struct {
	out     func(a insight.Alert, sightings uint64)
	pending map[string]*pending
	fresh   int // new things since
	since   time.Time
}

// pending has the sightings of one thing since its alert was handed out.
type pending struct {
	alert    insight.Alert
	networks map[network]bool
	handed   time.Time
}

const (
	handEvery   = 5 * time.Second
	forgetAfter = time.Minute // after the last sighting

	maxPending   = 512
	freshEvery   = 10 * time.Second
	maxFresh     = 100 // new things within freshEvery
	maxAlertNets = 16
)

func newAlerts(out func(insight.Alert, uint64)) *alerts {
	return &alerts{out: out, pending: map[string]*pending{}}
}

// sighting is one sighting of something unusual, or several at once.
type sighting struct {
	detector insight.Detector
	of       []string // names the thing, together with the detector
	times    uint64
	at       time.Time
	network  network
	describe func(*insight.Alert) // called for a new alert alone
	issuer   string
}

// raise takes in a sighting.
func (a *alerts) raise(s sighting) {
	key := insight.AlertKey(s.detector, s.of...)
	p := a.pending[key]
	if p == nil && !a.room(s.at) {
		key = insight.AlertKey(s.detector, s.issuer, "others")
		s.describe = func(all *insight.Alert) {
			all.Issuer = insight.Text(s.issuer)
			all.Summary = fmt.Sprintf("More %s at issuer %s than is reported one by one.", s.detector, strconv.Quote(all.Issuer))
		}
		p = a.pending[key]
	}
	if p == nil {
		a.fresh++
		p = &pending{networks: map[network]bool{}, alert: insight.Alert{Detector: s.detector, Key: key}}
		s.describe(&p.alert)
		a.pending[key] = p
	}
	p.see(s)
	if s.at.Sub(p.handed) >= handEvery {
		a.hand(p, s.at)
	}
}

// room reports whether a new thing gets an alert of its own.
func (a *alerts) room(at time.Time) bool {
	if at.Sub(a.since) >= freshEvery {
		a.since, a.fresh = at, 0
	}
	return a.fresh < maxFresh && len(a.pending) < maxPending
}

// see adds a sighting.
func (p *pending) see(s sighting) {
	if p.alert.Count == 0 {
		p.alert.First = s.at.UTC()
	}
	p.alert.Last = s.at.UTC()
	p.alert.Count += s.times
	if s.network != 0 && len(p.networks) < maxAlertNets {
		p.networks[s.network] = true
	}
}

// hand hands out the sightings so far.
func (a *alerts) hand(p *pending, now time.Time) {
	out := p.alert
	for _, n := range slices.Sorted(maps.Keys(p.networks)) {
		out.Networks = append(out.Networks, n.String())
	}
	slices.Sort(out.Networks)
	p.handed, p.alert.Count = now, 0
	a.out(out, out.Count)
}

// tick hands out alerts that have waited long enough, and forgets those without
// new sightings.
func (a *alerts) tick(now time.Time) {
	for key, p := range a.pending {
		switch {
		case p.alert.Count > 0 && now.Sub(p.handed) >= handEvery:
			a.hand(p, now)
		case p.alert.Count == 0 && now.Sub(p.handed) >= forgetAfter:
			delete(a.pending, key)
		}
	}
}

// flush hands out every pending alert.
func (a *alerts) flush(now time.Time) {
	for _, p := range a.pending {
		if p.alert.Count > 0 {
			a.hand(p, now)
		}
	}
}

// describe fills in the names of an event's token.
func (e *event) describe(a *insight.Alert) {
	a.Issuer, a.Policy = insight.Text(e.issuer), insight.Text(e.policy)
	a.Subject, a.Session = insight.Text(e.subject), insight.Text(e.session)
	a.Client, a.KeyID = insight.Text(e.clients.First()), insight.Text(e.keyID)
	a.TokenID = insight.Text(e.name())
	if e.revocation.Revision != 0 {
		a.RevocationID = e.revocation.String()
	}
}

// hashPrefix begins the name of a token without jti.
const hashPrefix = "sha256:"

// name returns the name of the token for people: its jti, or a part of its hash.
func (e *event) name() string {
	if e.tokenID != "" {
		return e.tokenID
	}
	return hashPrefix + fmt.Sprintf("%016x", e.hash)
}

// holder returns the owner of the token, in words.
func (e *event) holder() string {
	switch {
	case e.subject != "":
		return "subject " + strconv.Quote(insight.Text(e.subject))
	case e.clients.First() != "":
		return "client " + strconv.Quote(insight.Text(e.clients.First()))
	}
	return "a token " + strconv.Quote(insight.Text(e.name()))
}
