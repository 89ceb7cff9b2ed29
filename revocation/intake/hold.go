package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// maxHeld bounds the events that one intake holds.
const maxHeld = 1000

// ErrFull says that an intake holds as many events as it can. The sender must
// send the event again.
var ErrFull = errors.New("the intake holds as many events as it can; release or drop some of them (rescind intakes)")

// HeldEvent is an event that an operator releases or drops.
type HeldEvent struct {
	ID       string    `json:"id"` // distinct among all intakes
	Intake   string    `json:"intake"`
	Type     string    `json:"type"`
	Event    string    `json:"event"` // the ID that the sender gave; "-": none
	At       time.Time `json:"at"`
	Received time.Time `json:"received"`
	Acts     []heldAct `json:"acts"`
}

// heldAct is one effect that waits for an operator.
type heldAct struct {
	Request revocation.Request `json:"request"`
	Why     string             `json:"why"`
}

// UnmarshalJSON reads the form that json.Marshal writes.
func (a *heldAct) UnmarshalJSON(b []byte) error {
	var raw struct {
		Request json.RawMessage
		Why     string
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	r, faults := revocation.ParseRequest(raw.Request)
	if faults != nil {
		return fmt.Errorf("a held event has a faulty revocation: %s", faults[0])
	}
	a.Request, a.Why = *r, raw.Why
	return nil
}

// hold is the events of one intake that wait for an operator. They are a document
// on the shelf, so all nodes share them.
type hold struct {
	shelf Shelf
	name  string
}

func (h *hold) load(ctx context.Context) (events []HeldEvent, version uint64, err error) {
	document, version, err := h.shelf.Load(ctx, h.name)
	if err == nil && len(document) > 0 {
		err = json.Unmarshal(document, &events)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("held events cannot be read: %w", err)
	}
	return events, version, nil
}

// change replaces the events by those that edit returns, as [change] does.
func (h *hold) change(ctx context.Context, edit func([]HeldEvent) (_ []HeldEvent, changed bool, err error)) error {
	err := change(ctx, h.shelf, h.name, h.load, edit)
	if errors.Is(err, errTooLarge) {
		return ErrFull
	}
	return err
}

// put adds an event, unless it is there. It reports whether the event is new.
func (h *hold) put(ctx context.Context, e *HeldEvent) (fresh bool, err error) {
	err = h.change(ctx, func(all []HeldEvent) ([]HeldEvent, bool, error) {
		fresh = !slices.ContainsFunc(all, func(o HeldEvent) bool { return o.ID == e.ID })
		if fresh && len(all) >= maxHeld {
			return nil, false, ErrFull
		}
		return append(all, *e), fresh, nil
	})
	return fresh, err
}

// remove takes an event out.
func (h *hold) remove(ctx context.Context, id string) error {
	return h.change(ctx, func(all []HeldEvent) ([]HeldEvent, bool, error) {
		n := len(all)
		all = slices.DeleteFunc(all, func(e HeldEvent) bool { return e.ID == id })
		return all, len(all) < n, nil
	})
}

// undo takes out the effects on a target that a later event has undone: those of
// events up to that time that have no cut-off. It returns their number.
func (h *hold) undo(ctx context.Context, target *revocation.Revocation, at time.Time, read func(*revocation.Request) (revocation.Revocation, bool)) (n int, err error) {
	same := target.Entry()
	err = h.change(ctx, func(all []HeldEvent) ([]HeldEvent, bool, error) {
		n = 0
		for i := range all {
			if all[i].At.After(at) {
				continue
			}
			before := len(all[i].Acts)
			all[i].Acts = slices.DeleteFunc(all[i].Acts, func(a heldAct) bool {
				r, ok := read(&a.Request)
				return ok && r.Before == 0 && r.Issuer == target.Issuer && r.Entry().Digest == same.Digest
			})
			n += before - len(all[i].Acts)
		}
		all = slices.DeleteFunc(all, func(e HeldEvent) bool { return len(e.Acts) == 0 })
		return all, n > 0, nil
	})
	return n, err
}

// keep makes an event wait for an operator. It returns once the event is durable.
func (d *Door) keep(ctx context.Context, name eventName, acts []heldAct) error {
	e := &HeldEvent{ID: name.key(d.Name), Intake: d.Name, Type: name.kind, Event: name.id, At: name.at, Received: d.Authority.Now(), Acts: acts}
	fresh, err := d.hold.put(ctx, e)
	if err != nil || !fresh {
		return err
	}
	d.waiting.Add(1) // until this node looks again
	d.Logger.Warn("event held until an operator releases or drops it", "held", e.ID, "event", e.Type, "id", e.Event, "reason", acts[0].Why)
	c := d.caller(ledger.Revoker)
	return d.Authority.Record(ctx, d.entryOf(&c, e, ledger.ActEvent, ledger.Kept, acts[0].Why))
}

// entryOf begins an entry of the audit about a held event.
func (d *Door) entryOf(c *ledger.Caller, e *HeldEvent, action, outcome, detail string) ledger.AuditEntry {
	entry := d.Authority.Entry(c, action)
	entry.Outcome, entry.Detail, entry.Issuers = outcome, detail, e.Issuers()
	entry.Reason = eventName{e.Type, e.Event, e.At}.String()
	entry.Intake, entry.Held = d.Name, e.ID
	if len(e.Acts) == 1 {
		if r, ok := d.read(&e.Acts[0].Request); ok {
			entry.Target = ledger.TargetOf(&r.Target)
		}
	}
	return entry
}

// read returns the revocation that a held request asks for.
func (d *Door) read(r *revocation.Request) (revocation.Revocation, bool) {
	c := d.caller(ledger.Operator)
	out, faults := d.Authority.Accept(&c, r)
	return out, faults == nil
}

// Issuers returns the issuers that the event affects.
func (e *HeldEvent) Issuers() (out []string) {
	for i := range e.Acts {
		if iss := e.Acts[i].Request.Issuer; !slices.Contains(out, iss) {
			out = append(out, iss)
		}
	}
	return out
}
