package keycloak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"

	"rescind/jwks/fetch"
	"rescind/revocation/intake"
)

// source is a stream of events at Keycloak.
type source struct {
	name  string
	path  string
	query url.Values // chooses the events that can have an effect
	at    *stream
	read  func(context.Context, json.RawMessage) (*intake.Event, error)
}

const roleEvents = "view-events"

func (p *Poller) adminEvents() *source {
	return &source{"admin", "/admin-events", url.Values{
		"operationTypes": {"UPDATE", "DELETE", "ACTION", "CREATE"},
		"resourceTypes":  {"USER", "USER_SESSION", "CLIENT", "COMPONENT", "REALM"},
	}, p.at.Admin, p.adminEvent}
}

func (p *Poller) userEvents() *source {
	return &source{"user", "/events", url.Values{
		"type": {"LOGOUT", "REVOKE_GRANT", "DELETE_ACCOUNT", "USER_DISABLED_BY_PERMANENT_LOCKOUT"},
	}, p.at.User, p.userEvent}
}

// event is an event as Keycloak sends it. The poller needs its ID and its time to
// find it again.
type event struct {
	id   string
	time int64
	raw  json.RawMessage
}

const (
	maxPage = 100
	maxID   = 64
)

// page returns events of a source in the order of their times. full reports
// whether there may be more. If the events of a page are too large together, the
// page has fewer events.
func (p *Poller) page(ctx context.Context, s *source, from int64, first int, direction string) (events []event, full bool, err error) {
	query := url.Values{"direction": {direction}, "first": {strconv.Itoa(first)}}
	if from > 0 {
		query.Set("dateFrom", strconv.FormatInt(from, 10))
	}
	for name, values := range s.query {
		query[name] = values
	}
	var texts []json.RawMessage
	for _, size := range []struct {
		events int
		bytes  int64
	}{{maxPage, p.limit}, {maxPage / 10, p.limit}, {1, maxAlone}} {
		query.Set("max", strconv.Itoa(size.events))
		if err = p.ask(ctx, s.path, query, roleEvents, size.bytes, &texts); err == nil {
			full = len(texts) >= size.events
			break
		}
		if !errors.Is(err, fetch.ErrLarge) {
			return nil, false, err
		}
	}
	for _, text := range texts {
		events = append(events, header(text))
	}
	return events, full, err
}

// header reads the ID and the time of an event. An event without a usable ID is
// known by its hash.
func header(text json.RawMessage) event {
	var e struct {
		ID   string `json:"id"`
		Time int64  `json:"time"`
	}
	if json.Unmarshal(text, &e) != nil || e.ID == "" || len(e.ID) > maxID {
		sum := sha256.Sum256(text)
		e.ID = hex.EncodeToString(sum[:16])
	}
	return event{e.ID, max(0, e.Time), text}
}

// start sets a position behind the newest event. An event that Keycloak has not
// saved yet is new.
func (p *Poller) start(ctx context.Context, s *source) (*stream, error) {
	at, now := &stream{Seen: map[string]int64{}}, p.now()
	for first := 0; ; {
		events, full, err := p.page(ctx, s, 0, first, "desc")
		if err != nil {
			return nil, err
		}
		for i := range events {
			at.note(events[i].id, events[i].time, now)
		}
		first += len(events)
		if !full || events[len(events)-1].time < at.Newest-transaction.Milliseconds() || first >= maxSeen {
			at.prune()
			p.at.changed = true
			return at, nil
		}
	}
}

// follow carries out the events of a source that are new. The position is saved
// after each page. A page begins with the time at which the last one has ended,
// so that events which expire meanwhile do not move the others.
func (p *Poller) follow(ctx context.Context, s *source, deep bool) error {
	before := nearly
	if deep {
		before = transaction
		s.at.prune()
	}
	from := max(0, s.at.Newest-before.Milliseconds())
	expected := s.at.since(from)
	for since, first := from, 0; ; {
		events, full, err := p.page(ctx, s, since, first, "asc")
		if err != nil {
			return err
		}
		for i := range events {
			delete(expected, events[i].id)
			if err := p.carryOut(ctx, s, &events[i]); err != nil {
				return err
			}
		}
		if err := p.finish(ctx); err != nil {
			return err
		}
		if !full {
			break
		}
		last := events[len(events)-1].time
		p.door.Polled(p.now().Sub(time.UnixMilli(last)), nil)
		if last > since {
			since, first = last, 0
		} else {
			first += len(events)
		}
	}
	return p.removed(ctx, s, expected)
}

// carryOut hands an event to the door, unless that was done before.
func (p *Poller) carryOut(ctx context.Context, s *source, e *event) error {
	if _, known := s.at.Seen[e.id]; known {
		return nil
	}
	means, err := s.read(ctx, e.raw)
	if err != nil {
		return err
	}
	means.ID, means.At = e.id, time.UnixMilli(e.time)
	if _, err := p.door.Take(ctx, means); err != nil {
		return err
	}
	s.at.note(e.id, e.time, p.now())
	p.at.changed = true
	return nil
}

// finish saves the position once all the effects of a page are durable.
func (p *Poller) finish(ctx context.Context) error {
	if p.stale {
		if err := p.compareKeys(ctx); err != nil {
			return err
		}
		p.stale = false
	}
	if !p.at.changed {
		return nil
	}
	return p.save(ctx)
}

// since returns the known events of this time and later.
func (s *stream) since(from int64) map[string]int64 {
	out := map[string]int64{}
	for id, at := range s.Seen {
		if at >= from {
			out[id] = at
		}
	}
	return out
}
