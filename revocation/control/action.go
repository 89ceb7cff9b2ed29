package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rescind/revocation"
	"rescind/revocation/control/alert"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
)

// byAlert begins the name of an action's caller. No credential has such a name.
const byAlert = "alert:"

// Action is a revocation that an alert triggers.
type Action struct {
	Detector   insight.Detector
	Revoke     string // token, session or subject
	Block      bool
	DryRun     bool // the audit has the revocation, and nothing is revoked
	MaxPerHour int
	ExpiresIn  time.Duration // 0: the retention
}

// Target returns the target that carries out the action, at most once for each
// key of an alert. Every revocation is in the audit. So are the alerts that the
// action does not act upon, at a bounded rate.
//
// The action needs the full names in the alert, and an alert that is no hearsay.
// It does not act upon the use of a token that an action has revoked, so that one
// revocation does not trigger the next.
func (a Action) Target(authority *ledger.Authority, logger *slog.Logger) alert.Target {
	x := &actor{Action: a, authority: authority, caller: a.caller(), logger: logger, noted: rate.NewLimiter(rate.Every(time.Minute), 10)}
	return alert.Target{
		Name: "action:" + string(a.Detector) + ":" + a.Revoke, Detectors: []insight.Detector{a.Detector},
		OncePerKey: true, NoHearsay: true, Send: x.act,
	}
}

type actor struct {
	Action
	authority *ledger.Authority
	caller    ledger.Caller
	logger    *slog.Logger
	noted     *rate.Limiter

	mu     sync.Mutex
	counts bool        // done has the revocations before this process
	done   []time.Time // revocations within the last hour, oldest first
}

// caller returns the caller in whose name the action revokes. An action with
// block is an operator too: the operator of the endpoint has configured block.
func (a Action) caller() ledger.Caller {
	c := ledger.Caller{Name: byAlert + string(a.Detector), Roles: []ledger.Role{ledger.Revoker}}
	if a.Block {
		c.Roles = []ledger.Role{ledger.Operator}
	}
	return c
}

func (x *actor) act(ctx context.Context, a insight.Alert) error {
	if err := x.authority.Ready(); err != nil {
		return err
	}
	now := x.authority.Now()
	entry := x.authority.Entry(&x.caller, ledger.ActRevoke)
	entry.Reason = reasonOf(&a)
	if a.Issuer != "" {
		entry.Issuers = []string{a.Issuer}
	}
	r, why := x.request(ctx, &a, now)
	if why == "" && !x.room(now) {
		why = fmt.Sprintf("the action has revoked max_per_hour (%d) times within the hour", x.MaxPerHour)
	}
	if why != "" {
		return x.pass(ctx, entry, why)
	}
	r.Reason = entry.Reason
	order := &ledger.Order{Action: ledger.ActRevoke, Lines: []ledger.Line{{Request: r}}}
	if x.DryRun {
		return x.rehearse(ctx, order, now)
	}
	done, err := x.authority.Revoke(ctx, &x.caller, order)
	var refusal *ledger.Refusal
	if errors.As(err, &refusal) { // it is in the audit, and would be the same the next time
		return nil
	}
	if err == nil && done.Fresh > 0 {
		x.count(now)
		x.logger.Warn("an action has revoked", "alert", a.ID, "detector", string(x.Detector), "revoke", x.Revoke)
	}
	return err
}

// reasonOf returns the reason of the revocation: the alert, and the credential that
// reported it.
func reasonOf(a *insight.Alert) string {
	reason := fmt.Sprintf("alert %s: %s", a.ID, a.Detector)
	if len(a.Credentials) > 0 {
		reason += ", reported with the feed credential " + insight.Text(strings.Join(a.Credentials, ", "))
	}
	return reason
}

// rehearse notes the revocation that the action would make.
func (x *actor) rehearse(ctx context.Context, order *ledger.Order, now time.Time) error {
	err := x.authority.Rehearse(ctx, &x.caller, order)
	var refusal *ledger.Refusal
	if errors.As(err, &refusal) {
		return nil
	}
	if err == nil {
		x.count(now)
	}
	return err
}

// pass notes why the action does nothing.
func (x *actor) pass(ctx context.Context, e ledger.AuditEntry, why string) error {
	if x.noted.Allow() {
		_ = x.authority.Refuse(ctx, e, &ledger.Refusal{Detail: why})
	}
	return nil
}

// request returns the revocation that the action asks for, or the reason why there
// is none.
func (x *actor) request(ctx context.Context, a *insight.Alert, now time.Time) (*revocation.Request, string) {
	if item, err := x.authority.Find(ctx, &x.caller, a.RevocationID); err == nil && strings.HasPrefix(item.CreatedBy, byAlert) {
		return nil, "the alert is about a token that an action has revoked"
	}
	name, text := "", ""
	switch x.Revoke {
	case "token":
		name, text = "jti", a.TokenID
		if strings.HasPrefix(text, "sha256:") {
			return nil, "the token has no jti"
		}
	case "session":
		name, text = "sid", a.Session
	case "subject":
		name, text = "sub", a.Subject
	}
	switch {
	case text == "" || a.Issuer == "":
		return nil, "the alert names no " + x.Revoke
	case a.TokenID == "":
		return nil, "the alert names no token"
	case !exact(text) || !exact(a.Issuer):
		return nil, "the alert has a part of the name of the " + x.Revoke + " alone"
	}
	value, _ := revocation.ValueOf(text)
	r := &revocation.Request{Issuer: a.Issuer, Claims: []revocation.Claim{{Name: name, Value: value}}, Block: x.Block}
	if x.ExpiresIn > 0 {
		r.ExpiresAt = now.Add(x.ExpiresIn)
	}
	return r, ""
}

// exact reports whether a text is complete: cleaning cut nothing off and replaced
// nothing.
func exact(s string) bool {
	return !strings.ContainsRune(s, '\uFFFD') && !strings.HasSuffix(s, "…")
}

// room reports whether one more revocation is allowed within this hour.
func (x *actor) room(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.counts {
		x.recall(now)
		x.counts = true
	}
	for len(x.done) > 0 && now.Sub(x.done[0]) >= time.Hour {
		x.done = x.done[1:]
	}
	return len(x.done) < x.MaxPerHour
}

func (x *actor) count(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.done = append(x.done, now)
}

// recall counts the revocations of the last hour that an earlier process or another
// node made. The caller holds mu.
func (x *actor) recall(now time.Time) {
	q := ledger.Query{Limit: maxLimit}
	for range 100 {
		items, next, err := x.authority.List(&x.caller, q)
		if err != nil {
			return
		}
		for i := range items {
			if now.Sub(items[i].CreatedAt) >= time.Hour {
				return
			}
			if items[i].CreatedBy == x.caller.Name {
				x.done = append([]time.Time{items[i].CreatedAt}, x.done...)
			}
		}
		if next == (revocation.ID{}) {
			return
		}
		q.Before = next
	}
}
