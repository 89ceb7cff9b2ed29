package keycloak

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"rescind/revocation/intake"
)

// settings are the members of the realm's representation that the poller needs.
type settings struct {
	Enabled     *bool `json:"enabled"`
	NotBefore   int64 `json:"notBefore"` // in seconds
	AdminEvents bool  `json:"adminEventsEnabled"`
	Details     bool  `json:"adminEventsDetailsEnabled"`
	Events      bool  `json:"eventsEnabled"`
	EventsLife  int64 `json:"eventsExpiration"` // in seconds
	Attributes  struct {
		AdminEventsLife string `json:"adminEventsExpiration"` // in seconds
	} `json:"attributes"`
}

const roleRealm = "view-realm"

// life returns how long Keycloak keeps the events of a source. 0 is for ever.
func (s *settings) life(of *source) time.Duration {
	seconds := s.EventsLife
	if of.name == "admin" {
		seconds, _ = strconv.ParseInt(s.Attributes.AdminEventsLife, 10, 64)
	}
	return time.Duration(min(max(seconds, 0), 1<<31)) * time.Second
}

// realm reads the settings of the realm.
func (p *Poller) realm(ctx context.Context) (*settings, error) {
	s := &settings{}
	return s, p.ask(ctx, "", nil, roleRealm, p.limit, s)
}

// look reads the state of the realm. An event tells of each change of it. So look
// finds the changes whose events are lost.
func (p *Poller) look(ctx context.Context) error {
	s, err := p.realm(ctx)
	if err != nil {
		return err
	}
	p.settings = *s
	now := p.now()
	p.expired(p.adminEvents(), now)
	if p.UserEvents {
		p.expired(p.userEvents(), now)
	}
	if err := p.probe(ctx); err != nil {
		return err
	}
	if err := p.lookNotBefore(ctx, s.NotBefore); err != nil {
		return err
	}
	return p.compareKeys(ctx)
}

// probe fails if the client lacks a role that an event may need. Otherwise the
// role would be missed with the first event that needs it.
func (p *Poller) probe(ctx context.Context) error {
	const nobody = "00000000-0000-0000-0000-000000000000"
	if _, err := p.find(ctx, "/clients/", nobody, roleClients); err != nil {
		return err
	}
	if p.settings.Details {
		return nil
	}
	_, err := p.find(ctx, "/users/", nobody, roleUsers)
	return err
}

// firstNotBefore is the time that later times of the realm are compared with.
func (p *Poller) firstNotBefore(ctx context.Context) error {
	s, err := p.realm(ctx)
	if err != nil {
		return err
	}
	p.at.NotBefore, p.at.changed = map[string]int64{"": s.NotBefore}, true
	return nil
}

// lookNotBefore carries out a not-before time of the realm that came without an
// event.
func (p *Poller) lookNotBefore(ctx context.Context, seconds int64) error {
	means := &intake.Event{ID: fmt.Sprint(seconds), Type: "not-before", At: time.Unix(seconds, 0)}
	p.notBefore(means, "", &seconds, intake.All)
	if len(means.Acts) == 0 {
		return nil
	}
	if _, err := p.door.Take(ctx, means); err != nil {
		return err
	}
	return p.save(ctx)
}
