package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rescind/revocation/control/outbound"
	"rescind/revocation/ledger"
)

// IssuerEndpoint is the revocation endpoint (RFC 7009) of an issuer.
type IssuerEndpoint struct {
	Issuer   string
	URL      string
	ClientID string
	Secret   func() (string, error) // nil: a public client
	TLS      func() (*tls.Config, error)
}

// Upstream tells issuers which of their tokens are revoked here, so that they
// know too. It comes after the revocation, which does not depend on it; what
// came of it is in the audit.
//
// A raw token is in memory for as long as it takes to tell, a quarter of an
// hour at most, and nowhere else.
type Upstream struct {
	ledger    *ledger.Ledger
	logger    *slog.Logger
	endpoints map[string]*counterpart
	queue     chan telling
	end       context.CancelFunc
	running   sync.WaitGroup
}

// counterpart is an issuer that is told.
type counterpart struct {
	IssuerEndpoint
	client *outbound.Client
}

// telling is a token, and the line of the audit for what comes of it.
type telling struct {
	to    *counterpart
	token string
	entry ledger.AuditEntry
}

// Bounds of telling issuers.
const (
	maxTellings = 256 // that wait
	tellers     = 4
	tellTry     = 15 * time.Second
	tellLongest = 15 * time.Minute
)

// NewUpstream makes one for these endpoints. Close ends it.
func NewUpstream(l *ledger.Ledger, endpoints []IssuerEndpoint, logger *slog.Logger) *Upstream {
	u := &Upstream{ledger: l, logger: logger, endpoints: map[string]*counterpart{}, queue: make(chan telling, maxTellings)}
	for _, e := range endpoints {
		u.endpoints[e.Issuer] = &counterpart{e, outbound.New(e.TLS)}
	}
	ctx, end := context.WithCancel(context.Background())
	u.end = end
	for range tellers {
		u.running.Go(func() { u.run(ctx) })
	}
	return u
}

// Close ends the telling. What is not told by then is noted as failed.
func (u *Upstream) Close() error {
	u.end()
	u.running.Wait()
	for {
		select {
		case t := <-u.queue:
			u.note(t, errEnded)
		default:
			for _, e := range u.endpoints {
				e.client.Close()
			}
			return nil
		}
	}
}

var errEnded = errors.New("the control endpoint was stopped before")

// Tell has the issuer told of a token, if it wants to know. entry is that of
// the revocation.
func (u *Upstream) Tell(token string, entry ledger.AuditEntry) {
	if u == nil || token == "" || len(entry.Issuers) != 1 || u.endpoints[entry.Issuers[0]] == nil {
		return
	}
	entry.Action = ledger.ActIssuer
	t := telling{u.endpoints[entry.Issuers[0]], token, entry}
	select {
	case u.queue <- t:
	default:
		u.note(t, errors.New("too many tokens wait for being told to issuers"))
	}
}

func (u *Upstream) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-u.queue:
			pauses := &backoff.ExponentialBackOff{InitialInterval: 500 * time.Millisecond, MaxInterval: time.Minute, Multiplier: 2, RandomizationFactor: 0.3}
			_, err := backoff.Retry(ctx, func() (struct{}, error) {
				try, cancel := context.WithTimeout(ctx, tellTry)
				defer cancel()
				return struct{}{}, t.to.revoke(try, t.token)
			}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(tellLongest))
			if err != nil && ctx.Err() != nil {
				err = errEnded
			}
			u.note(t, err)
		}
	}
}

func (u *Upstream) note(t telling, err error) {
	t.entry.At = time.Now().UTC().Truncate(time.Microsecond)
	t.entry.Outcome, t.entry.Detail = ledger.Accepted, ""
	if err != nil {
		t.entry.Outcome, t.entry.Detail = ledger.Failed, "the issuer's revocation endpoint: "+err.Error()
		u.logger.Warn("an issuer could not be told of a revocation", "issuer", t.to.Issuer, "id", t.entry.ID, "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := u.ledger.Record(ctx, t.entry); err != nil {
		u.logger.Warn("what an issuer answered is not in the audit", "issuer", t.to.Issuer, "id", t.entry.ID, "error", err)
	}
}

// revoke is one call, as RFC 7009, section 2.1, has it.
func (e *counterpart) revoke(ctx context.Context, token string) error {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	secret := ""
	if e.Secret != nil {
		var err error
		if secret, err = e.Secret(); err != nil {
			return err
		}
	} else if e.ClientID != "" {
		form.Set("client_id", e.ClientID)
	}
	req, err := outbound.Request(ctx, e.URL, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	if e.Secret != nil {
		req.SetBasicAuth(url.QueryEscape(e.ClientID), url.QueryEscape(secret)) // RFC 6749, section 2.3.1
	}
	a, err := e.client.Do(req)
	if err != nil {
		return err
	}
	return verdict(a)
}

// verdict is nil if the token is revoked there. A refusal that would be no
// other the next time is not asked for again.
func verdict(a *outbound.Answer) error {
	err := a.Err()
	switch {
	case err == nil:
		return nil
	case a.Status == http.StatusTooManyRequests || a.Status == http.StatusRequestTimeout || a.Status >= 500:
		if a.After > 0 {
			return &backoff.RetryAfterError{Duration: min(a.After, time.Minute)}
		}
		return err
	}
	var body struct{ Error string }
	if json.NewDecoder(bytes.NewReader(a.Body)).Decode(&body) == nil {
		for _, known := range []string{"invalid_request", "invalid_client", "unauthorized_client", "unsupported_token_type"} {
			if body.Error == known {
				err = errors.New(err.Error() + " " + known)
			}
		}
	}
	return backoff.Permanent(err)
}
