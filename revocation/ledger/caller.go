package ledger

import (
	"slices"
	"time"

	"rescind/revocation"
)

// Role sets the rights of a credential.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // reads
	Revoker  Role = "revoker"  // also revokes and restores, but nothing that reaches every token of an issuer
	Operator Role = "operator" // everything
)

// Caller is the credential in whose name an operation is carried out. Its zero
// value may do nothing.
type Caller struct {
	Name    string
	Roles   []Role
	Issuers []string // narrows the caller to these; nil is every issuer
	From    string   // network address, for the audit
}

// Has reports whether the caller has one of the roles.
func (c *Caller) Has(roles ...Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(c.Roles, r) })
}

// Covers reports whether the caller may see or change anything of an issuer.
func (c *Caller) Covers(issuer string) bool {
	return c.Issuers == nil || slices.Contains(c.Issuers, issuer)
}

// farAhead is how far after its acceptance a revocation of a revoker may reach.
const farAhead = time.Minute

// forbids returns why the caller may not make or undo r. It is empty if the
// caller may. A revoker may not deny all tokens of an issuer, nor tokens of later
// logins, by claims or by a time: this takes all or block, and so an operator.
func (c *Caller) forbids(r *revocation.Revocation, known *revocation.KnownIssuers) string {
	switch {
	case !c.Has(Revoker, Operator):
		return needsRole
	case !c.Covers(r.Issuer):
		return "the credential is not for this issuer"
	case c.Has(Operator):
		return ""
	case r.Target.Kind == revocation.KindAll:
		return "all takes the role operator"
	case r.Target.Kind == revocation.KindKeyID:
		return "kid takes the role operator"
	case r.Block:
		return "block takes the role operator"
	case r.Before > revocation.MicrosOf(r.CreatedAt.Add(farAhead)):
		return "issued_before more than a minute after the time of acceptance takes the role operator, because it denies tokens of later logins"
	case matchesEveryToken(r, known):
		return "claims that every token of the issuer has take the role operator, as all does"
	}
	return ""
}

const needsRole = "this takes the role revoker or operator"

// audit begins the entry of the audit for an action of the caller.
func (c *Caller) audit(at time.Time, action string) AuditEntry {
	return AuditEntry{At: at.UTC().Truncate(time.Microsecond), By: c.Name, Action: action, From: c.From}
}

// maySee reports whether the caller may see an entry of the audit. A caller
// that is narrowed to issuers sees its own entries and those that are about
// these issuers alone. An entry that leaves out issuers may be about others.
func (c *Caller) maySee(e *AuditEntry) bool {
	if c.Issuers == nil || e.By == c.Name {
		return true
	}
	for _, iss := range e.Issuers {
		if !c.Covers(iss) {
			return false
		}
	}
	return len(e.Issuers) > 0 && e.IssuersOmitted == 0
}
