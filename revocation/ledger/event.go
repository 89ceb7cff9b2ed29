package ledger

import (
	"context"

	"rescind/revocation"
)

// Accept returns the revocation that a request of a caller inside the process
// asks for, or every fault of the request. It revokes nothing.
func (a *Authority) Accept(c *Caller, r *revocation.Request) (revocation.Revocation, []revocation.Fault) {
	return r.Accept(a.ledger.now(), a.ledger.retention, c.Name)
}

// Record adds an entry to the audit that a front end has begun with
// [Authority.Entry]. It returns once the entry is durable.
func (a *Authority) Record(ctx context.Context, e AuditEntry) error { return a.ledger.Record(ctx, e) }
