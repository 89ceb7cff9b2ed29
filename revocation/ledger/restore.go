package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rescind/revocation"
)

// RestoredRevocation is the answer to a restoration.
type RestoredRevocation struct {
	Wanted // the revision that undid it
	ID     revocation.ID
	At     time.Time
	By     string
}

// Restore undoes a revocation. Repeated, it returns the first restoration.
func (a *Authority) Restore(ctx context.Context, c *Caller, id string) (*RestoredRevocation, error) {
	entry := c.audit(a.ledger.now(), ActRestore)
	if !c.Has(Revoker, Operator) {
		return nil, a.deny(ctx, entry, needsRole)
	}
	item, err := a.find(ctx, c, id)
	if errors.Is(err, ErrUnknown) {
		return nil, a.unknown(ctx, c, id, entry)
	}
	if err != nil {
		return nil, err
	}
	entry.ID, entry.Issuers, entry.Target = item.ID.String(), []string{item.Issuer}, TargetOf(&item.Target)
	known := a.known()
	if why := c.forbids(&item.Revocation, &known); why != "" {
		return nil, a.deny(ctx, entry, why)
	}
	o := a.ledger.restore(ctx, item.ID, 1, entry)
	if o.err != nil {
		return nil, o.err
	}
	u := &RestoredRevocation{Wanted: Wanted{Revision: o.revision, Issuer: item.Issuer}, ID: item.ID, At: entry.At, By: entry.By}
	if item, err := a.ledger.Find(item.ID); err == nil && item.Restored != nil { // an earlier restoration counts
		u.At, u.By = item.Restored.At, item.Restored.By
	}
	return u, nil
}

// unknown records and returns ErrUnknown. The entry is the same whether the ID
// is unknown or belongs to an issuer that the caller may not see.
func (a *Authority) unknown(ctx context.Context, c *Caller, text string, entry AuditEntry) error {
	entry.Outcome, entry.Detail = Refused, "the ID is not known"
	if c.Issuers != nil {
		entry.Outcome, entry.Detail = Denied, "the ID is not known, or is not that of a revocation of the credential's issuers"
		if id, err := revocation.ParseID(text); err == nil {
			entry.ID = id.String()
		}
	}
	a.record(ctx, entry)
	return ErrUnknown
}

// Write is all that one request revoked at once. Its ID is that of its first
// revocation.
type Write struct {
	ID        string    `json:"id" doc:"The ID of its first revocation" example:"r17.0"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by" doc:"Name of the credential"`
	Count     int       `json:"count" doc:"Number of its revocations that have not expired"`
}

// RestoredWrite is the answer to the restoration of a write.
type RestoredWrite struct {
	Wanted          // the last revision that undid a part of it
	Write    string // its ID
	Restored int    // revocations that were in force
	Already  int    // revocations that were restored before
}

// RestoreWrite undoes all that one write revoked, or nothing. The ID of the write
// may be empty where the revision holds one write that the caller may see.
func (a *Authority) RestoreWrite(ctx context.Context, c *Caller, revision uint64, id string) (*RestoredWrite, error) {
	entry := c.audit(a.ledger.now(), ActRestore)
	if _, err := revocation.ParseID(id); err == nil { // the audit takes no other text of a caller
		entry.Write = id
	}
	if !c.Has(Revoker, Operator) {
		return nil, a.deny(ctx, entry, needsRole)
	}
	writes, err := a.writes(ctx, c, revision)
	if err != nil {
		return nil, err
	}
	var w *survey
	switch i := slices.IndexFunc(writes, func(w *survey) bool { return w.ID == id || id == "" }); {
	case i < 0:
		entry.Outcome, entry.Detail = Refused, fmt.Sprintf("revision %d has no such write, or none that the credential may see", revision)
		a.record(ctx, entry)
		return nil, ErrUnknownWrite
	case id == "" && len(writes) > 1:
		return nil, a.Refuse(ctx, entry, severalWrites(revision, writes))
	default:
		w = writes[i]
	}
	entry.Write, entry.Issuers, entry.Count = w.ID, w.issuers, w.Count
	if w.denied > 0 {
		return nil, a.deny(ctx, entry, fmt.Sprintf("nothing is restored: %d of the revocations of this write are not this credential's to restore: %s", w.denied, w.denial))
	}
	o := a.ledger.restore(ctx, w.first, w.last-w.first.Index+1, entry)
	if o.err != nil {
		return nil, o.err
	}
	u := &RestoredWrite{Wanted: Wanted{Revision: o.revision}, Write: w.ID, Restored: o.fresh, Already: w.Count - o.fresh}
	if len(w.issuers) == 1 {
		u.Issuer = w.issuers[0]
	}
	return u, nil
}

// survey is a write as a caller that wants to restore it sees it.
type survey struct {
	Write
	first   revocation.ID
	last    uint32 // index of its last revocation
	issuers []string
	denied  int    // revocations that the caller may not restore
	denial  string // of the first of these
}

// writes returns the writes of a revision of which the caller may see a
// revocation. A caller learns nothing of the others.
func (a *Authority) writes(ctx context.Context, c *Caller, revision uint64) (found []*survey, err error) {
	if err := a.ledger.Ready(); err != nil {
		return nil, err
	}
	if err := a.ledger.CatchUp(ctx, revision); err != nil {
		return nil, err
	}
	known := a.known()
	a.ledger.revoked(revision, func(write revocation.ID, r *revocation.Revocation) {
		if n := len(found); n == 0 || found[n-1].first != write {
			found = append(found, &survey{first: write, Write: Write{ID: write.String(), CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy}})
		}
		found[len(found)-1].add(c, r, &known)
	})
	return slices.DeleteFunc(found, func(w *survey) bool { return w.Count == 0 }), nil
}

// add takes in one revocation of the write.
func (w *survey) add(c *Caller, r *revocation.Revocation, known *revocation.KnownIssuers) {
	w.last = r.ID.Index
	if why := c.forbids(r, known); why != "" {
		if w.denied++; w.denied == 1 {
			w.denial = why
		}
	}
	if !c.Covers(r.Issuer) {
		return
	}
	w.Count++
	if len(w.issuers) < maxIssuers && !slices.Contains(w.issuers, r.Issuer) {
		w.issuers = append(w.issuers, r.Issuer)
	}
}

// severalWrites returns the refusal of a restoration that does not say which of
// the writes of a revision it means.
func severalWrites(revision uint64, writes []*survey) *Refusal {
	const named = 10
	var ids []string
	r := &Refusal{Cause: SeveralWrites}
	for _, w := range writes {
		r.Writes = append(r.Writes, w.Write)
		ids = append(ids, w.ID)
	}
	if len(ids) > named {
		ids = append(ids[:named], fmt.Sprintf("and %d more", len(writes)-named))
	}
	r.Detail = fmt.Sprintf("revision %d holds %d writes; name one of them with write: %s", revision, len(writes), strings.Join(ids, ", "))
	return r
}

// revoked yields the revocations of a revision that have not expired, in the
// order of the log, each with the ID of its write. It holds no lock while yield
// runs.
func (l *Ledger) revoked(revision uint64, yield func(write revocation.ID, r *revocation.Revocation)) {
	type written struct {
		write revocation.ID
		*revocation.Revocation
	}
	from, in := revocation.ID{Revision: revision}, newInterner()
	for more := true; more; {
		var part []written
		more = false
		l.mu.RLock()
		now := l.clock()
		for c, w := range l.rows.from(from) {
			if more = len(part) == chunkRows; more {
				from = w.id()
				break
			}
			if w.expires > now {
				it := l.item(c, w, in)
				part = append(part, written{c.write(w), &it.Revocation})
			}
		}
		l.mu.RUnlock()
		for _, p := range part {
			yield(p.write, p.Revocation)
		}
	}
}
