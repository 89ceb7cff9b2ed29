package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// event is what is copied of a decision. Its texts are at most MaxText bytes
// long, so the queue is bounded in bytes too.
type event struct {
	at       time.Time
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
	client   string
	keyID    string
	hash     uint64 // of what was signed
	issuedAt revocation.Micros
	expires  revocation.Micros

	revocation revocation.ID
	revokedBy  revocation.Kind
}

// matters says whether d is looked at: all that was verified, and what comes
// in bursts when somebody tries their luck.
func matters(d *authz.Decision) bool {
	return d.Facts != nil || burstOf(d.Reason) != ""
}

func eventOf(r *authz.Request, d *authz.Decision, at time.Time) event {
	e := event{at: at, allowed: d.Allow, reason: d.Reason, issuer: d.Issuer}
	if r != nil {
		e.network = networkOf(r.Source)
	}
	if d.Reason != authz.UnknownPolicy {
		e.policy = d.Policy
	}
	if f := d.Facts; f != nil {
		e.verified = true
		e.subject, e.tokenID = short(d.Subject), short(d.TokenID)
		e.session, e.client, e.keyID = short(f.Session), short(f.Client), short(f.KeyID)
		e.hash = be64(f.Hash[:])
		e.issuedAt, e.expires = f.IssuedAt, f.Expires
		e.revocation, e.revokedBy = d.RevocationID, d.RevokedBy
	}
	return e
}

// short stands for a text of any length: itself, or its beginning and its
// hash. Two texts have one short form only if they are equal.
func short(s string) string {
	if len(s) <= insight.MaxText {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:128] + "…sha256:" + hex.EncodeToString(sum[:])
}

// lifetime is for how long the token was issued; 0 if it does not say.
func (e *event) lifetime() time.Duration {
	if e.issuedAt == 0 || e.expires <= e.issuedAt {
		return 0
	}
	return micros(e.expires - e.issuedAt)
}

// micros is m as a duration, which holds only 292 years.
func micros(m revocation.Micros) time.Duration {
	return time.Duration(min(int64(m), int64(100*365*24*time.Hour/time.Microsecond))) * time.Microsecond
}
