// Package keycloak polls a realm of Keycloak for its events, and hands them to
// the door of an intake. Keycloak pushes no message when a user, a client or a
// key is disabled. Its admin events tell all of it.
//
// # Reading
//
// The poller reads the admin events each second, oldest first, and page by page.
// If they are switched on, it reads the user events in the same way. Each read
// begins before the newest event that is known, because Keycloak saves an event
// with its transaction: an event can appear later than an event of a later time.
// Most reads begin ten seconds before the newest event. Each 30 seconds one
// begins five minutes before it, which is as long as a transaction of Keycloak can
// last. The IDs of the events in these five minutes are known, so that an event is
// carried out once. An event that is carried out twice does no harm: the door
// answers that its revocation is in force.
//
// # Position
//
// The position is a document on the shelf. It is saved after the effects of a page
// are durable. So a poller that ends at any point begins with the events that it
// did not finish. Without a position the poller begins with the next event, and
// carries out no event of the past.
//
// # Gaps
//
// Events can be lost at Keycloak before the poller has read them: an
// administrator deletes them or switches them off, or they expire while the
// poller is away. The poller detects each of these. It logs an error, shows it as
// the error of the intake for an hour, and goes on with the events that are there.
//
// # Keys
//
// The event of a deleted key does not name its kid. So the poller keeps the list
// of the realm's keys with its position, and compares the lists.
package keycloak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/oauth2"

	"rescind/jwks/fetch"
	"rescind/revocation/intake"
)

// Options describe the realm that an intake polls.
type Options struct {
	Issuer       string // the iss of the realm's tokens
	Server       string // the URL below which realms/ and admin/ lie
	Realm        string
	ClientID     string                 // of a client of the realm with a service account
	ClientSecret func() (string, error) // asked for with each new token
	Every        time.Duration          // between two polls; 0: a second
	UserEvents   bool                   // reads the user events too
	Fetch        fetch.Options
}

// Times of a poller.
const (
	everyDefault = time.Second
	nearly       = 10 * time.Second // how far before the newest event a read begins
	transaction  = 5 * time.Minute  // how far a thorough read begins before it
	thorough     = 30 * time.Second // between two thorough reads
	maxPause     = 15 * time.Second // after an error
	askTimeout   = 10 * time.Second // for one answer of Keycloak
)

// Poller polls one realm. Its methods are not safe for concurrent use.
type Poller struct {
	Options
	door *intake.Door
	http *http.Client // nil: to be made, with the certificates of now

	limit int64 // of an answer, in bytes

	token *oauth2.Token
	at    position
	shelf uint64 // the version of the position on the shelf; 0: there is none

	settings settings
	looked   time.Time // when the settings, the keys and the last five minutes were read
	saved    time.Time // when the position was saved
	stale    bool      // an event says that the keys have changed
}

// New returns a poller for the door. Its Run must be called.
func New(o Options, door *intake.Door) *Poller {
	if o.Every == 0 {
		o.Every = everyDefault
	}
	return &Poller{Options: o, door: door, limit: maxAnswer}
}

// Run polls until ctx is done. It returns earlier with an error if another node
// has saved the position, because one node alone polls a realm.
func (p *Poller) Run(ctx context.Context) error {
	p.forget() // another node may have polled since
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = p.Every, maxPause
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
		}
		wait := p.Every
		err := p.Poll(ctx)
		switch {
		case errors.Is(err, intake.ErrChanged):
			return fmt.Errorf("another node polls the realm: %w", err)
		case err != nil && ctx.Err() == nil:
			wait = max(pause.NextBackOff(), fetch.AskedPause(err, time.Minute))
		default:
			pause.Reset()
		}
		next.Reset(wait)
	}
}

// Poll reads the events that are new, and carries them out. It returns an error if
// it could not read or carry out all of them. The rest then comes with the next
// call.
func (p *Poller) Poll(ctx context.Context) error {
	err := p.poll(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.forget()
		p.door.Polled(p.lag(), err)
		p.door.Logger.Warn("keycloak not polled", "realm", p.Realm, "error", err)
	default:
		p.door.Polled(0, p.fault(p.now()))
	}
	return err
}

func (p *Poller) poll(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	began := p.now()
	deep := began.Sub(p.looked) >= thorough
	if deep {
		if err := p.look(ctx); err != nil {
			return err
		}
	}
	if err := p.follow(ctx, p.adminEvents(), deep); err != nil {
		return err
	}
	if p.UserEvents {
		if err := p.follow(ctx, p.userEvents(), deep); err != nil {
			return err
		}
	}
	if deep {
		p.looked = began
	}
	p.at.ReadAt = began.UnixMilli()
	if began.Sub(p.saved) < time.Minute {
		return nil
	}
	return p.save(ctx)
}

// now is the time of the ledger, by which the door judges events.
func (p *Poller) now() time.Time { return p.door.Authority.Now() }

// lag returns how far behind Keycloak the poller is after a poll that failed.
func (p *Poller) lag() time.Duration {
	if p.at.ReadAt == 0 {
		return 0
	}
	return p.now().Sub(p.at.read())
}

// forget makes the next poll begin with the shelf, a new connection and a new
// thorough read.
func (p *Poller) forget() {
	p.shelf, p.looked = 0, time.Time{}
	if p.http != nil {
		p.http.CloseIdleConnections()
		p.http = nil
	}
}
