package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
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

// Upstream forwards revoked tokens to their issuers, so that the issuers revoke
// them too. It runs after the revocation, which does not depend on it. The outcome
// is in the audit.
//
// A raw token stays in memory until its issuer has answered, for a quarter of an
// hour at most, and is nowhere else.
type Upstream struct {
	ledger    *ledger.Ledger
	logger    *slog.Logger
	endpoints map[string]*issuer // by name
	queue     chan forwarding
	end       context.CancelFunc
	running   sync.WaitGroup
}

// issuer is an issuer with a client for its endpoint.
type issuer struct {
	IssuerEndpoint
	client *outbound.Client
}

// forwarding is a token on its way to its issuer, and the entry of the audit for
// the outcome.
type forwarding struct {
	to    *issuer
	token string
	entry ledger.AuditEntry
}

// Bounds of forwarding.
const (
	maxForwardings = 256 // that wait
	forwarders     = 4
	forwardTimeout = 15 * time.Second // of one call
	forwardLongest = 15 * time.Minute // of all attempts
)

// NewUpstream returns an upstream for these endpoints. Close ends it.
func NewUpstream(l *ledger.Ledger, endpoints []IssuerEndpoint, logger *slog.Logger) *Upstream {
	u := &Upstream{ledger: l, logger: logger, endpoints: map[string]*issuer{}, queue: make(chan forwarding, maxForwardings)}
	for _, e := range endpoints {
		u.endpoints[e.Issuer] = &issuer{e, outbound.New(e.TLS)}
	}
	ctx, end := context.WithCancel(context.Background())
	u.end = end
	for range forwarders {
		u.running.Go(func() { u.run(ctx) })
	}
	return u
}

// Close ends the forwarding. The audit has the tokens that wait as failed.
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

var errEnded = errors.New("the control endpoint was stopped before it could call")

// Forward queues a token for its issuer, if the issuer has an endpoint. entry is
// the entry of its revocation.
func (u *Upstream) Forward(token string, entry ledger.AuditEntry) {
	if u == nil || token == "" || len(entry.Issuers) != 1 || u.endpoints[entry.Issuers[0]] == nil {
		return
	}
	entry.Action = ledger.ActIssuer
	t := forwarding{u.endpoints[entry.Issuers[0]], token, entry}
	select {
	case u.queue <- t:
	default:
		u.note(t, fmt.Errorf("%d tokens wait to be forwarded already", maxForwardings))
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
				try, cancel := context.WithTimeout(ctx, forwardTimeout)
				defer cancel()
				return struct{}{}, t.to.revoke(try, t.token)
			}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(forwardLongest))
			if err != nil && ctx.Err() != nil {
				err = errEnded
			}
			u.note(t, err)
		}
	}
}

// note writes the outcome to the audit.
func (u *Upstream) note(t forwarding, err error) {
	t.entry.At = time.Now().UTC().Truncate(time.Microsecond)
	t.entry.Outcome, t.entry.Detail = ledger.Accepted, ""
	if err != nil {
		t.entry.Outcome, t.entry.Detail = ledger.Failed, "the issuer's revocation endpoint: "+err.Error()
		u.logger.Warn("revoked token not forwarded to its issuer", "issuer", t.to.Issuer, "id", t.entry.ID, "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := u.ledger.Record(ctx, t.entry); err != nil {
		u.logger.Warn("forwarding to an issuer is not in the audit", "issuer", t.to.Issuer, "id", t.entry.ID, "error", err)
	}
}

// revoke makes one call as RFC 7009, section 2.1, describes it.
func (e *issuer) revoke(ctx context.Context, token string) error {
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

// verdict returns nil if the issuer has revoked the token. It marks a refusal that
// a retry would not change as not retryable.
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
