package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rescind/revocation/ledger"
)

// ErrUnknownEvent says that an intake holds no such event, or none that the
// caller may see.
var ErrUnknownEvent = errors.New("no intake holds such an event; it may have been released, dropped or undone")

// Held returns the events that wait for an operator and that the caller may see,
// oldest first.
func (d *Door) Held(ctx context.Context, c *ledger.Caller) ([]HeldEvent, error) {
	all, _, err := d.hold.load(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(e HeldEvent) bool { return !coversAll(c, e.Issuers()) }), nil
}

func coversAll(c *ledger.Caller, issuers []string) bool {
	return !slices.ContainsFunc(issuers, func(iss string) bool { return !c.Covers(iss) })
}

// held returns one event that waits. An operator alone may decide about it. A
// refusal is in the audit.
func (d *Door) held(ctx context.Context, c *ledger.Caller, id, action string) (*HeldEvent, error) {
	entry := d.Authority.Entry(c, action)
	if !c.Has(ledger.Operator) {
		return nil, d.Authority.Refuse(ctx, entry, &ledger.Refusal{Cause: ledger.Forbidden, Detail: "a held event takes the role operator"})
	}
	all, err := d.Held(ctx, c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(e HeldEvent) bool { return e.ID == id })
	if i < 0 {
		_ = d.Authority.Refuse(ctx, entry, &ledger.Refusal{Detail: "the intake holds no such event, or none that the credential may see"})
		return nil, ErrUnknownEvent
	}
	return &all[i], nil
}

// Release carries out a held event with the confirmation of an operator. The
// revocations stay those of the intake, so a later event can undo them. The audit
// names both. The answer is the IDs of the revocations. After an error Release can
// be repeated.
func (d *Door) Release(ctx context.Context, operator *ledger.Caller, id string) (revocations []string, err error) {
	e, err := d.held(ctx, operator, id, ledger.ActRelease)
	if err != nil {
		return nil, err
	}
	c := d.caller(ledger.Operator)
	c.Issuers, c.From = nil, operator.From // of a held event, and the operator covers them
	for i := range e.Acts {
		done, err := d.Authority.Revoke(ctx, &c, &ledger.Order{
			Action: ledger.ActRevoke, Lines: []ledger.Line{{Request: &e.Acts[i].Request}},
			Confirm: true, UnknownIssuer: true, Once: true, Note: "released by " + operator.Name,
		})
		if err != nil {
			return nil, fmt.Errorf("held event %s: %w", id, err)
		}
		revocations = append(revocations, done.IDs[0].String())
	}
	if err := d.Authority.Record(ctx, d.entryOf(operator, e, ledger.ActRelease, ledger.Accepted, "")); err != nil {
		return nil, err
	}
	return revocations, d.hold.remove(ctx, id)
}

// Drop forgets a held event, by the word of an operator.
func (d *Door) Drop(ctx context.Context, operator *ledger.Caller, id string) error {
	e, err := d.held(ctx, operator, id, ledger.ActDrop)
	if err != nil {
		return err
	}
	if err := d.Authority.Record(ctx, d.entryOf(operator, e, ledger.ActDrop, ledger.Accepted, "")); err != nil {
		return err
	}
	return d.hold.remove(ctx, id)
}
