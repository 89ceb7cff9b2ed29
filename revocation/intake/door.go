package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// Options describe an entry of the configuration, and the parts around its door.
type Options struct {
	Name    string
	Kind    string
	Issuers []string // that the intake may affect; no other one
	May     []Power  // nil: DefaultPowers
	Pulls   bool     // the kind polls its sender, so silence is a fault
	DryRun  bool     // the audit has the revocations, and nothing is revoked
	Map     Map

	Authority *ledger.Authority
	Shelf     Shelf
	Figures   *Figures     // nil: none
	Logger    *slog.Logger // nil: discards
}

// Door carries out the events of one entry of the configuration. It is safe for
// concurrent use.
type Door struct {
	Options
	hold   *hold
	undone *undone
	turned turned
	// waiting is the number of held events when this node last looked.
	waiting atomic.Int64

	mu     sync.Mutex
	status Status // without the parts that the options and the hold know
}

// New returns the door of an entry.
func New(o Options) *Door {
	if o.May == nil {
		o.May = DefaultPowers
	}
	if o.Figures == nil {
		o.Figures = NewFigures()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("intake", o.Name)
	d := &Door{Options: o, hold: &hold{shelf: o.Shelf, name: "held/" + o.Name}, undone: &undone{shelf: o.Shelf, name: "undone/" + o.Name}}
	d.turned.entries = rate.NewLimiter(rate.Every(10*time.Second), 20)
	d.status.Counts = map[string]uint64{}
	d.Figures.begin(d)
	return d
}

// maxActs bounds the effects of one event. A sender that logs out more sessions
// sends more events.
const maxActs = 64

// Take carries out an event, and returns its outcome once the effect is durable.
// After an error the sender must send the event again. Acts that were carried
// out before the error are not carried out twice.
func (d *Door) Take(ctx context.Context, e *Event) (Outcome, error) {
	now := d.Authority.Now()
	name := nameOf(e, now)
	out, err := d.take(ctx, e, name)
	if err != nil {
		d.failed(err)
		d.Logger.Warn("event not taken, the sender must send it again", "event", name.kind, "id", name.id, "error", err)
		return Outcome{}, err
	}
	d.count(string(out.State))
	d.took(name, now)
	d.Logger.Debug("event taken", "event", name.kind, "id", name.id, "outcome", string(out.State))
	return out, nil
}

func (d *Door) take(ctx context.Context, e *Event, name eventName) (out Outcome, err error) {
	if err := d.Authority.Ready(); err != nil {
		return Outcome{}, err
	}
	if len(e.Acts) == 0 && e.Refuse {
		return d.refuse(ctx, name, "", e.Note), nil
	}
	if len(e.Acts) == 0 {
		return Outcome{State: Ignored, Detail: e.Note}, nil
	}
	if len(e.Acts) > maxActs {
		return d.refuse(ctx, name, "", fmt.Sprintf("the event has %d effects; at most %d are possible", len(e.Acts), maxActs)), nil
	}
	var kept []heldAct
	for i := range e.Acts {
		one, keep, err := d.act(ctx, name, &e.Acts[i])
		if err != nil {
			return Outcome{}, err
		}
		if keep != nil {
			kept = append(kept, *keep)
		}
		out = strongest(out, one)
	}
	if kept != nil {
		if err := d.keep(ctx, name, kept); err != nil {
			return Outcome{}, err
		}
	}
	return out, nil
}

// states are in the order of their strength.
var states = []State{Ignored, Refused, DryRun, Already, Revoked, Undone, Held}

func strongest(a, b Outcome) Outcome {
	if slices.Index(states, b.State) > slices.Index(states, a.State) {
		return b
	}
	return a
}

// act carries out one effect. keep is the effect if an operator must release it.
func (d *Door) act(ctx context.Context, name eventName, a *Act) (out Outcome, keep *heldAct, err error) {
	request := d.request(name, a)
	caller := d.caller(ledger.Revoker)
	asked, why := d.allowed(&caller, a, request)
	if why != "" {
		return d.refuse(ctx, name, a.Issuer, why), nil, nil
	}
	earlier, err := d.Authority.Earlier(ctx, &caller, request)
	if err != nil {
		return Outcome{}, nil, err
	}
	if a.Undo {
		out, err := d.undo(ctx, name, &asked, earlier)
		return out, nil, err
	}
	if id, made := madeBy(earlier, name); made {
		return Outcome{State: Already, Detail: "the event has made revocation " + id}, nil, nil
	}
	if asked.Before == 0 {
		switch over, err := d.undone.since(ctx, &asked, name.at); {
		case err != nil:
			return Outcome{}, nil, err
		case over:
			return Outcome{State: Already, Detail: "a later event has undone it"}, nil, nil
		}
	}
	order := d.order(&caller, &asked, request)
	if d.DryRun {
		out, err := d.rehearse(ctx, &caller, order)
		return out, nil, err
	}
	return d.revoke(ctx, &caller, order, a)
}

// request returns the revocation that an act asks for.
func (d *Door) request(name eventName, a *Act) *revocation.Request {
	r := &revocation.Request{Issuer: a.Issuer, Claims: a.Claims, KeyID: a.KeyID, Token: a.Token, All: a.All, Block: a.Block, Reason: name.String()}
	cutoff := a.Cutoff
	if cutoff.IsZero() {
		switch d.Map.powerOf(&revocation.Target{Kind: revocation.KindClaims, Claims: a.Claims}) {
		case Token:
		case Session: // the ledger knows the usual claim of a session alone
			r.Block = r.Block || !namesSession(a.Claims)
		default:
			if a.Token == "" && a.KeyID == "" {
				cutoff = name.at
			}
		}
	}
	if !cutoff.IsZero() && !r.Block {
		if now := d.Authority.Now(); cutoff.After(now) {
			cutoff = now
		}
		r.IssuedBefore = cutoff.Truncate(time.Second).Add(time.Second)
	}
	return r
}

// namesSession reports whether one of the claims is the usual one of a session. A
// revocation by it has no cut-off unless it is given one.
func namesSession(claims []revocation.Claim) bool {
	return slices.ContainsFunc(claims, func(c revocation.Claim) bool {
		name, err := revocation.ClaimName(c.Name)
		return err == nil && name == usualClaims[NameSession].String()
	})
}

// allowed returns the revocation of a request, or the reason why the entry in the
// configuration does not allow it. The target itself decides which power it
// takes, whatever the act says.
func (d *Door) allowed(c *ledger.Caller, a *Act, r *revocation.Request) (revocation.Revocation, string) {
	if a.Issuer == "" || !slices.Contains(d.Issuers, a.Issuer) {
		return revocation.Revocation{}, "the intake is not for this issuer"
	}
	asked, faults := d.Authority.Accept(c, r)
	if faults != nil {
		return revocation.Revocation{}, "the event names no possible revocation: " + faults[0].String()
	}
	for _, p := range []Power{a.Power, d.Map.powerOf(&asked.Target)} {
		if !slices.Contains(d.May, p) {
			return revocation.Revocation{}, fmt.Sprintf("the event takes the power %q, which may: of the intake does not list", p)
		}
	}
	if a.Block && !slices.Contains(d.May, Block) {
		return revocation.Revocation{}, fmt.Sprintf("the event takes the power %q, which may: of the intake does not list", Block)
	}
	return asked, ""
}

// caller returns the caller in whose name events are carried out.
func (d *Door) caller(r ledger.Role) ledger.Caller {
	return ledger.Caller{Name: ledger.ByIntake + d.Name, Roles: []ledger.Role{r}, Issuers: d.Issuers}
}

// order returns the order of an act that is allowed, and gives the caller the role
// that the order takes. The operator of the endpoint has listed the power, which is a
// confirmation: of everything for all, of an unknown weight for the others.
func (d *Door) order(c *ledger.Caller, asked *revocation.Revocation, r *revocation.Request) *ledger.Order {
	o := &ledger.Order{Action: ledger.ActRevoke, Lines: []ledger.Line{{Request: r}}, UnknownIssuer: true, Once: true, ConfirmBroad: true}
	p := d.Map.powerOf(&asked.Target)
	o.Confirm = p == All
	if p == All || p == KeyID || asked.Block {
		c.Roles = []ledger.Role{ledger.Operator}
	}
	return o
}

func (d *Door) revoke(ctx context.Context, c *ledger.Caller, o *ledger.Order, a *Act) (Outcome, *heldAct, error) {
	done, err := d.Authority.Revoke(ctx, c, o)
	var refusal *ledger.Refusal
	if errors.As(err, &refusal) {
		if a.Token != "" {
			return Outcome{}, nil, err // a raw token is kept nowhere, so the sender must send it again
		}
		return Outcome{State: Held, Detail: refusal.Detail}, &heldAct{Request: *o.Lines[0].Request, Why: refusal.Detail}, nil
	}
	if err != nil {
		return Outcome{}, nil, err
	}
	if known := slices.IndexFunc(done.Warnings, func(w string) bool { return w != "" }); known >= 0 {
		d.Logger.Warn("event revoked with a warning", "revocation", done.IDs[0].String(), "warning", done.Warnings[known])
	}
	if done.Fresh == 0 {
		return Outcome{State: Already, Detail: "revocation " + done.IDs[0].String() + " is in force"}, nil, nil
	}
	return Outcome{State: Revoked, Detail: "revocation " + done.IDs[0].String()}, nil, nil
}

// rehearse notes the revocation that an event would make.
func (d *Door) rehearse(ctx context.Context, c *ledger.Caller, o *ledger.Order) (Outcome, error) {
	err := d.Authority.Rehearse(ctx, c, o)
	var refusal *ledger.Refusal
	if errors.As(err, &refusal) {
		return Outcome{State: Refused, Detail: refusal.Detail}, nil
	}
	return Outcome{State: DryRun, Detail: "it would have been revoked"}, err
}

// undo restores the revocations of a target that events of this intake made up
// to the time of the event, and drops those that are held.
func (d *Door) undo(ctx context.Context, name eventName, asked *revocation.Revocation, earlier []ledger.Item) (Outcome, error) {
	out := Outcome{State: Ignored, Detail: "no revocation of this intake is there to undo"}
	operator := d.caller(ledger.Operator)
	for i := range earlier {
		item := &earlier[i]
		of, ok := parseEventName(item.Reason)
		if !ok || item.Before != 0 || of.at.After(name.at) {
			continue
		}
		id := item.ID.String()
		switch {
		case item.Restored != nil:
			out = strongest(out, Outcome{State: Already, Detail: "revocation " + id + " was undone before"})
			continue
		case d.DryRun:
			if err := d.rehearseUndo(ctx, name, item); err != nil {
				return Outcome{}, err
			}
			out = strongest(out, Outcome{State: DryRun, Detail: "revocation " + id + " would have been undone"})
			continue
		}
		if _, err := d.Authority.Restore(ctx, &operator, id); err != nil && !errors.Is(err, ledger.ErrUnknown) {
			return Outcome{}, err
		}
		out = Outcome{State: Undone, Detail: "revocation " + id}
	}
	if d.DryRun {
		return out, nil
	}
	if err := d.undone.note(ctx, asked, name.at, d.Authority.Now()); err != nil {
		return Outcome{}, err
	}
	dropped, err := d.hold.undo(ctx, asked, name.at, d.read)
	if err == nil && dropped > 0 {
		out = Outcome{State: Undone, Detail: "a held event"}
	}
	return out, err
}

// rehearseUndo notes the restoration that an event would make.
func (d *Door) rehearseUndo(ctx context.Context, name eventName, item *ledger.Item) error {
	c := d.caller(ledger.Operator)
	entry := d.Authority.Entry(&c, ledger.ActRestore)
	entry.ID, entry.Issuers, entry.Target, entry.Reason = item.ID.String(), []string{item.Issuer}, ledger.TargetOf(&item.Target), name.String()
	entry.Outcome, entry.Detail = ledger.DryRun, "dry_run: it would have been restored"
	return d.Authority.Record(ctx, entry)
}

// madeBy returns the revocation that an event made before.
func madeBy(earlier []ledger.Item, name eventName) (id string, made bool) {
	for i := range earlier {
		if n, ok := parseEventName(earlier[i].Reason); ok && n.same(name) {
			return earlier[i].ID.String(), true
		}
	}
	return "", false
}

// refuse writes a refused event to the audit.
func (d *Door) refuse(ctx context.Context, name eventName, issuer, why string) Outcome {
	c := d.caller(ledger.Revoker)
	entry := d.Authority.Entry(&c, ledger.ActEvent)
	entry.Reason = name.String()
	if slices.Contains(d.Issuers, issuer) {
		entry.Issuers = []string{issuer}
	}
	_ = d.Authority.Refuse(ctx, entry, &ledger.Refusal{Cause: ledger.Forbidden, Detail: why})
	return Outcome{State: Refused, Detail: why}
}
