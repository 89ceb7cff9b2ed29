package keycloak

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// position is the document on the shelf. Times are in milliseconds of Keycloak's
// clock.
type position struct {
	ReadAt    int64            `json:"read_at"` // by the poller's clock: all events until then are carried out
	Admin     *stream          `json:"admin,omitempty"`
	User      *stream          `json:"user,omitempty"`
	Keys      map[string]*key  `json:"keys,omitempty"`       // by kid
	NotBefore map[string]int64 `json:"not_before,omitempty"` // in seconds, by the ID of a client; "" is the realm
	Gap       *gap             `json:"gap,omitempty"`

	changed bool // since it was saved
}

// stream is how far the events of one kind are carried out.
type stream struct {
	Newest int64            `json:"newest"` // the time of the newest event, at most the time of its reading
	Seen   map[string]int64 `json:"seen"`   // the times of events by their IDs, as far back as a thorough read goes
}

// Bounds of what a position holds.
const (
	maxSeen      = 50_000 // events of five minutes in memory
	maxSaved     = 2_000  // of them on the shelf; the rest would be carried out again after a restart
	maxNotBefore = 1_000
	maxKeys      = 200
)

func (a *position) read() time.Time { return time.UnixMilli(a.ReadAt) }

// load reads the position from the shelf. If there is none, the poller begins now.
func (p *Poller) load(ctx context.Context) error {
	if p.shelf != 0 {
		return nil
	}
	text, version, err := p.door.Shelf.Load(ctx, p.document())
	if err != nil {
		return err
	}
	at := position{}
	if version != 0 {
		if err := json.Unmarshal(text, &at); err != nil {
			return fmt.Errorf("the position of the intake cannot be read: %w", err)
		}
	}
	p.at, p.shelf = at, version
	return p.begin(ctx)
}

// begin sets the positions that are missing to now.
func (p *Poller) begin(ctx context.Context) error {
	steps := []struct {
		done bool
		do   func(context.Context) error
	}{
		{p.at.Admin != nil, func(ctx context.Context) (err error) {
			p.at.Admin, err = p.start(ctx, p.adminEvents())
			return err
		}},
		{p.at.User != nil || !p.UserEvents, func(ctx context.Context) (err error) {
			p.at.User, err = p.start(ctx, p.userEvents())
			return err
		}},
		{p.at.Keys != nil, p.firstKeys},
		{p.at.NotBefore != nil, p.firstNotBefore},
	}
	for _, s := range steps {
		if s.done {
			continue
		}
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	if !p.at.changed {
		return nil
	}
	p.door.Logger.Info("polling of keycloak begins with the next event", "realm", p.Realm)
	return p.save(ctx)
}

// save writes the position to the shelf.
func (p *Poller) save(ctx context.Context) error {
	saved := p.at
	saved.Admin, saved.User = p.at.Admin.short(), p.at.User.short()
	text, err := json.Marshal(&saved)
	if err != nil {
		return err
	}
	version, err := p.door.Shelf.Save(ctx, p.document(), text, p.shelf)
	if err != nil {
		return err
	}
	p.shelf, p.saved, p.at.changed = version, p.now(), false
	return nil
}

func (p *Poller) document() string { return "keycloak/" + p.door.Name }

// short returns the stream as it is saved, with the newest events alone.
func (s *stream) short() *stream {
	if s == nil || len(s.Seen) <= maxSaved {
		return s
	}
	return &stream{s.Newest, newest(s.Seen, maxSaved)}
}

// note adds an event that is carried out. Events that no read returns any more
// are dropped.
func (s *stream) note(id string, at int64, now time.Time) {
	s.Seen[id] = at
	s.Newest = max(s.Newest, min(at, now.UnixMilli()))
	if len(s.Seen) <= maxSeen {
		return
	}
	s.prune()
	if len(s.Seen) > maxSeen {
		s.Seen = newest(s.Seen, maxSeen/2)
	}
}

func (s *stream) prune() {
	for id, at := range s.Seen {
		if at < s.Newest-transaction.Milliseconds() {
			delete(s.Seen, id)
		}
	}
}

// newest returns the n newest events.
func newest(seen map[string]int64, n int) map[string]int64 {
	ids := make([]string, 0, len(seen))
	for id := range seen {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(seen[b], seen[a]) })
	out := make(map[string]int64, n)
	for _, id := range ids[:min(n, len(ids))] {
		out[id] = seen[id]
	}
	return out
}
