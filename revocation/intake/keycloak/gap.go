package keycloak

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// gap is a time of which events may be missing. Times are in milliseconds.
type gap struct {
	Since int64  `json:"since"`
	Until int64  `json:"until"`
	Why   string `json:"why"`
}

// shownFor is how long a gap is the error of the intake.
const shownFor = time.Hour

// lost notes that events of a time may be missing.
func (p *Poller) lost(since time.Time, why string) {
	g := &gap{since.UnixMilli(), p.now().UnixMilli(), why}
	p.door.Logger.Error("events of keycloak may be lost; check the accounts, clients and keys that were changed in this time, and revoke by hand",
		"realm", p.Realm, "since", since.UTC().Format(time.RFC3339), "until", time.UnixMilli(g.Until).UTC().Format(time.RFC3339), "why", why)
	if old := p.at.Gap; old != nil && p.now().Sub(time.UnixMilli(old.Until)) < shownFor {
		g.Since = min(g.Since, old.Since)
	}
	p.at.Gap, p.at.changed = g, true
}

// removed detects known events that Keycloak no longer has. With them, events may
// have gone that the poller does not know. An event that has expired is no sign.
// An event that is still there is carried out again, which does no harm.
func (p *Poller) removed(ctx context.Context, s *source, missing map[string]int64) error {
	count, lived := 0, p.settings.life(s)
	for id, at := range missing {
		delete(s.at.Seen, id)
		if lived == 0 || p.now().Sub(time.UnixMilli(at)) < lived-time.Minute {
			count++
		}
	}
	if len(missing) > 0 {
		p.at.changed = true
	}
	if count > 0 {
		clear(s.at.Seen) // the older ones are gone too, and need no report of their own
		p.lost(p.at.read(), fmt.Sprintf("%s events were deleted at keycloak", s.name))
	}
	return p.finish(ctx)
}

// expired detects that the poller was away for longer than Keycloak keeps events.
func (p *Poller) expired(s *source, now time.Time) {
	if lived := p.settings.life(s); lived > 0 && p.at.ReadAt > 0 && now.Sub(p.at.read()) > lived {
		p.lost(p.at.read(), fmt.Sprintf("the poller was away for longer than keycloak keeps %s events, which is %s", s.name, lived))
	}
}

// fault returns the reason why events are missing, or may be missing.
func (p *Poller) fault(now time.Time) error {
	if g := p.at.Gap; g != nil && now.Sub(time.UnixMilli(g.Until)) < shownFor {
		return fmt.Errorf("events from %s to %s may be lost: %s",
			time.UnixMilli(g.Since).UTC().Format(time.RFC3339), time.UnixMilli(g.Until).UTC().Format(time.RFC3339), g.Why)
	}
	switch s := &p.settings; {
	case !s.AdminEvents:
		return errors.New("the realm saves no admin events; switch on the saving of admin events in its settings")
	case !s.Details:
		return errors.New("the realm saves admin events without details; switch on the representation of admin events in its settings")
	case p.UserEvents && !s.Events:
		return errors.New("the realm saves no user events; switch on the saving of user events in its settings, or set user_events: false for the intake")
	}
	return nil
}
