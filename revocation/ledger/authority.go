package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"rescind/revocation"
	"rescind/revocation/printable"
)

// Authority carries out the operations of the control endpoint. Every operation
// takes its [Caller]. The authority itself decides whether the caller may, weighs
// the change, commits it and writes the audit, so no front end can forget one of
// these steps.
type Authority struct {
	ledger   *Ledger
	guard    *guard
	known    func() revocation.KnownIssuers
	forward  func(token string, e AuditEntry)
	logger   *slog.Logger
	refusals refusals
}

// AuthorityOptions are the parts around an authority. The zero value of each is
// its absence.
type AuthorityOptions struct {
	// Ask asks the replicas for the weight of a revocation, so it must return
	// within about 100 ms.
	Ask Ask
	// KnownIssuers returns the issuers that the replicas accept. The default
	// knows no replica.
	KnownIssuers func() revocation.KnownIssuers
	// ShareOfTraffic is the share of the traffic, up to 1, that a revocation may
	// hit without an operator's confirmation. 0 switches the weighing off.
	ShareOfTraffic float64
	// MinRequests is how many requests must have been seen lately before a
	// share of them means anything.
	MinRequests uint64
	// Forward passes a raw token that was revoked to its issuer, with the entry
	// of its revocation.
	Forward func(token string, e AuditEntry)
	Logger  *slog.Logger
}

// NewAuthority returns the authority over a ledger.
func NewAuthority(l *Ledger, o AuthorityOptions) *Authority {
	a := &Authority{ledger: l, forward: o.Forward, logger: o.Logger}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	if a.forward == nil {
		a.forward = func(string, AuditEntry) {}
	}
	if a.known = o.KnownIssuers; a.known == nil {
		a.known = func() revocation.KnownIssuers { return revocation.KnownIssuers{} }
	}
	a.guard = &guard{share: o.ShareOfTraffic, minRequests: o.MinRequests, weigher: weigher{ask: o.Ask, logger: a.logger}}
	return a
}

// Order is a request to revoke. All of its lines are revoked, or none.
type Order struct {
	Action string // ActRevoke or ActImport
	Lines  []Line

	Confirm       bool // the caller knows how much traffic the order hits
	ConfirmBroad  bool // confirms a broad revocation whose weight is not fully known, and nothing else
	UnknownIssuer bool // also for an issuer that no replica accepts
	Seen          bool // answer with the traffic that is hit, also if nothing asks for its weight

	// Once says that the reason of each line names an event. Where the caller has
	// made a revocation of the target with the same reason before, that one is
	// the answer, also if it is restored.
	Once bool
	// Note is the detail in the entry of the audit. For example, it names the operator
	// whose release lets a caller inside the process go on.
	Note string
}

// Line asks for one revocation, by Body or by Request.
type Line struct {
	Number  int                 // in a body of many lines, from 1; 0 for a lone request
	Body    []byte              // a JSON document
	Request *revocation.Request // of a caller inside the process
}

// Wanted is a change that a caller can wait for until it is in force.
type Wanted struct {
	Revision uint64
	Rules    int    // version of the matching rules that a replica needs for it
	Issuer   string // empty: several
}

// Revoked is the answer to an order.
type Revoked struct {
	Wanted                   // all of it
	IDs      []revocation.ID // for each line
	Fresh    int             // lines that were not in force before
	Write    string          // ID of the write of the fresh ones; empty if there are none
	First    Item            // of the first line
	Seen     *Seen           // nil: the order was not weighed
	Warnings []string
}

// Admit reports whether the caller may change anything at all. Front ends ask
// before they spend anything on a request. The error is a [Refusal], and is in
// the audit.
func (a *Authority) Admit(ctx context.Context, c *Caller, action string) error {
	if c.Has(Revoker, Operator) {
		return nil
	}
	return a.deny(ctx, c.audit(a.ledger.now(), action), needsRole)
}

// Revoke makes the revocations of an order durable, with their entry of the
// audit. Where the same is in force already, its ID is returned instead.
func (a *Authority) Revoke(ctx context.Context, c *Caller, o *Order) (*Revoked, error) {
	p, err := a.prepare(ctx, c, o)
	if err != nil {
		return nil, err
	}
	var seen *Seen
	if o.Seen || a.guard.weighs(p.breadth) {
		if r := a.ledger.foresee(p.candidates, c.Has(Operator)); r != nil {
			return nil, a.Refuse(ctx, p.entry, r)
		}
		seen = a.guard.seen(ctx, p.candidates, a.ledger.now())
	}
	if u := a.guard.judge(p.breadth, seen, consent{confirmed: o.Confirm, broad: o.ConfirmBroad, operator: c.Has(Operator)}); u != nil {
		return nil, a.Refuse(ctx, p.entry, u.refusal())
	}
	out := a.ledger.revoke(ctx, p.candidates, c.Has(Operator), p.entry)
	if out.err != nil {
		return nil, out.err
	}
	done := &Revoked{Wanted: wanted(p.candidates), IDs: out.ids, Fresh: out.fresh, Seen: seen, Warnings: p.warnings}
	if done.Revision = out.revision; out.fresh > 0 {
		done.Write = out.write.String()
	}
	if done.First, err = a.ledger.Find(out.ids[0]); err != nil { // it has expired since
		done.First = Item{Revocation: p.candidates[0].Revocation}
		done.First.ID = out.ids[0]
	}
	if p.token != "" {
		p.entry.ID, p.entry.Revision = out.ids[0].String(), out.revision
		a.forward(p.token, p.entry)
	}
	done.Warnings = append(done.Warnings, a.dotted(ctx, p.candidates)...)
	return done, nil
}

// wanted returns the change that some candidates are, without its revision.
func wanted(candidates []Candidate) (w Wanted) {
	w.Issuer = candidates[0].Issuer
	for i := range candidates {
		w.Rules = max(w.Rules, candidates[i].Target.RulesNeeded())
		if candidates[i].Issuer != w.Issuer {
			w.Issuer = ""
		}
	}
	return w
}

// Impact returns the traffic that an order would hit. It revokes nothing.
func (a *Authority) Impact(ctx context.Context, c *Caller, o *Order) (*Impact, error) {
	p, err := a.prepare(ctx, c, o)
	if err != nil {
		return nil, err
	}
	i := a.guard.impact(ctx, p.candidates, p.breadth, a.ledger.now())
	i.Warnings = slices.Concat(p.warnings, a.dotted(ctx, p.candidates))
	return i, nil
}

// Rehearse notes in the audit the revocation that an order would make. It
// revokes nothing.
func (a *Authority) Rehearse(ctx context.Context, c *Caller, o *Order) error {
	p, err := a.prepare(ctx, c, o)
	if err != nil {
		return err
	}
	p.entry.Outcome, p.entry.Detail = DryRun, "dry_run: it would have been revoked"
	return a.ledger.Record(ctx, p.entry)
}

// Refuse writes the entry of a refused request to the audit, and returns the
// refusal.
func (a *Authority) Refuse(ctx context.Context, entry AuditEntry, r *Refusal) error {
	entry.Outcome, entry.Detail = Refused, r.Detail
	if r.Cause == Forbidden {
		entry.Outcome = Denied
	}
	a.record(ctx, entry)
	return r
}

func (a *Authority) deny(ctx context.Context, entry AuditEntry, why string) error {
	return a.Refuse(ctx, entry, &Refusal{Cause: Forbidden, Detail: why})
}

// Entry begins an entry of the audit for an action of the caller, for refusals
// that a front end decides.
func (a *Authority) Entry(c *Caller, action string) AuditEntry {
	return c.audit(a.ledger.now(), action)
}

// recordTimeout bounds the wait for the entry of a refusal.
const recordTimeout = 5 * time.Second

// Announce writes the line of a request that the front end refused by itself, and
// that the audit does not have.
func (a *Authority) Announce(c *Caller, action, fault string) {
	e := a.Entry(c, action)
	e.Outcome, e.Detail = Refused, fault
	a.ledger.lines.announce(&e)
}

// FailedLogin writes the line and the entry of a request without a known
// credential.
func (a *Authority) FailedLogin(ctx context.Context, from, fault string) {
	e := a.Entry(&Caller{From: from}, ActAuthenticate)
	_ = a.Refuse(ctx, e, &Refusal{Cause: Forbidden, Detail: fault})
}

// record writes the line and the entry of a refusal. The answer does not depend on it,
// because it is a refusal either way. A caller that is refused more often than a
// person or a program at work gets fewer entries, and the next one says how many
// are missing.
func (a *Authority) record(ctx context.Context, e AuditEntry) {
	a.ledger.lines.announce(&e)
	missing, ok := a.refusals.allow(e.By)
	if !ok {
		return
	}
	if missing > 0 {
		e.Detail = printable.Cut(e.Detail, maxText-64) + fmt.Sprintf(" (%d refusals before are not in the audit)", missing)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := a.ledger.record(ctx, e); err != nil {
		a.logger.Warn("an attempt is not in the audit", "action", e.Action, "outcome", e.Outcome, "by", e.By, "from", e.From, "error", err)
	}
}

// Find returns one revocation that the caller may see. A revocation of another
// issuer is as unknown as one that does not exist.
func (a *Authority) Find(ctx context.Context, c *Caller, id string) (Item, error) {
	item, err := a.find(ctx, c, id)
	if errors.Is(err, ErrUnknown) && c.Issuers != nil {
		return Item{}, a.unknown(ctx, c, id, c.audit(a.ledger.now(), ActRead))
	}
	return item, err
}

func (a *Authority) find(ctx context.Context, c *Caller, text string) (Item, error) {
	if err := a.ledger.Ready(); err != nil {
		return Item{}, err
	}
	id, err := revocation.ParseID(text)
	if err != nil {
		return Item{}, ErrUnknown
	}
	if err := a.ledger.CatchUp(ctx, id.Revision); err != nil {
		return Item{}, err
	}
	item, err := a.ledger.Find(id)
	if err == nil && !c.Covers(item.Issuer) {
		return Item{}, ErrUnknown
	}
	return item, err
}

// List returns the newest revocations that the query chooses and the caller may
// see. next is the place to go on from; it is the zero ID on the last page.
func (a *Authority) List(c *Caller, q Query) (items []Item, next revocation.ID, err error) {
	if err := a.ledger.Ready(); err != nil {
		return nil, next, err
	}
	q.Issuers = append(q.Issuers, c.Issuers)
	items, next = a.ledger.List(q)
	return items, next, nil
}

// AuditQuery chooses from the audit. The zero value of a member chooses all.
type AuditQuery struct {
	By     string      // name of the credential
	Issuer string      // entries about it, perhaps beside others
	After  time.Time   // only later entries
	Before AuditCursor // only entries that are earlier in the audit
	Limit  int
}

// chooses reports whether the query chooses an entry. An entry that leaves out
// issuers may be about any issuer, so it is chosen.
func (q *AuditQuery) chooses(e *AuditEntry) bool {
	return (q.By == "" || e.By == q.By) &&
		(q.Issuer == "" || e.IssuersOmitted > 0 || slices.Contains(e.Issuers, q.Issuer)) &&
		(q.After.IsZero() || e.At.After(q.After))
}

// Audit returns the entries that the query chooses and the caller may see, newest
// first. next is where the next page begins; it is zero on the last page. A page
// that has looked at many entries ends there, so it may have fewer entries than
// the limit.
func (a *Authority) Audit(ctx context.Context, c *Caller, q AuditQuery) (entries []AuditEntry, next AuditCursor, err error) {
	var last AuditCursor
	looked := 0
	err = a.ledger.Audit(ctx, q.Before, q.After, func(at AuditCursor, e AuditEntry) bool {
		chosen := c.maySee(&e) && q.chooses(&e)
		if len(entries) == q.Limit && chosen || looked == maxAuditScan {
			next = last
			return false
		}
		last = at
		looked++
		if chosen {
			entries = append(entries, e)
		}
		return true
	})
	return entries, next, err
}

// maxAuditScan bounds the entries of the audit that one page looks at.
const maxAuditScan = 20_000

// Ready returns why the authority cannot serve, or nil.
func (a *Authority) Ready() error { return a.ledger.Ready() }

// Now returns the time by the clock of the ledger.
func (a *Authority) Now() time.Time { return a.ledger.now() }
