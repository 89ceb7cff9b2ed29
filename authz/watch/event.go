package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// event is the copy of a decision about one request, or about several requests alike.
// Its texts are at most MaxText bytes long, so the queue is bounded in bytes too.
type event struct {
	at       time.Time     // of the last request
	span     time.Duration // from the first request to the last
	times    uint32        // requests, at least 1
	network  network
	verified bool
	allowed  bool
	reason   authz.Reason
	policy   string // empty if it is not of the configuration
	issuer   string // of the configuration

	// Of a verified token, and else empty.
	subject  string
	tokenID  string // jti
	session  string
	clients  authz.Clients
	keyID    string
	hash     uint64 // of header.payload
	issuedAt revocation.Micros
	expires  revocation.Micros
	layout   uint64      // of its claims; 0: not known
	names    *claimNames // of a layout that may be new, and else nil

	revocation revocation.ID
	revokedBy  revocation.Kind
}

// matters reports whether the watcher handles d: every verified token, and the
// denials that an attack causes in bursts.
func matters(d *authz.Decision) bool {
	return d.Facts != nil || burstOf(d.Reason) != ""
}

func eventOf(r *authz.Request, d *authz.Decision, at time.Time) event {
	e := event{at: at, times: 1, allowed: d.Allow, reason: d.Reason, issuer: d.Issuer}
	if r != nil {
		e.network = networkOf(r.Source)
	}
	if d.Reason != authz.UnknownPolicy {
		e.policy = d.Policy
	}
	if f := d.Facts; f != nil {
		e.verified = true
		e.subject, e.tokenID = short(d.Subject), short(d.TokenID)
		e.session, e.keyID = short(f.Session), short(f.KeyID)
		for i := range f.Clients {
			e.clients[i] = short(f.Clients[i])
		}
		e.hash = be64(f.Hash[:])
		e.issuedAt, e.expires = f.IssuedAt, f.Expires
		e.revocation, e.revokedBy = d.RevocationID, d.RevokedBy
	}
	return e
}

// short returns a text of bounded length for s: s itself, or its beginning and its
// hash. Two texts have the same short form only if they are equal.
func short(s string) string {
	if len(s) <= insight.MaxText {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:128] + "…sha256:" + hex.EncodeToString(sum[:])
}

// lifetime returns the lifetime of the token, or 0 if it has no iat.
func (e *event) lifetime() time.Duration {
	if e.issuedAt == 0 || e.expires <= e.issuedAt {
		return 0
	}
	return micros(e.expires - e.issuedAt)
}

// micros returns m as a duration, at most 100 years.
func micros(m revocation.Micros) time.Duration {
	return time.Duration(min(int64(m), int64(100*365*24*time.Hour/time.Microsecond))) * time.Microsecond
}
