package ledger

import (
	"context"
	"fmt"
	"time"

	"rescind/revocation"
	"rescind/revocation/insight"
)

// guard keeps a revocation from denying more of the traffic than its caller may
// have meant. It asks the replicas how much of the traffic seen lately the
// revocation hits. It demands a confirmation where that is much, or where the
// weight of a broad revocation is not fully known.
//
// The guard prevents accidents. It is no access control: a caller that splits a
// batch gets past it. A narrow revocation is never weighed, so the guard cannot
// protect a stolen token that is used a lot.
type guard struct {
	share       float64 // of the traffic, up to 1; 0: nothing is weighed
	minRequests uint64  // that must have been seen before a share means anything
	weigher     weigher
}

// Seen is the traffic seen lately that a revocation hits.
type Seen struct {
	Tokens   uint64           `json:"tokens" doc:"Distinct tokens seen that it denies"`
	Requests uint64           `json:"requests" doc:"Allowed requests with these tokens"`
	Window   insight.Duration `json:"window" doc:"How far back the replicas remember" example:"1h0m0s"`
	Partial  bool             `json:"partial" doc:"Not every replica answered, or a claim is not remembered: the numbers count the known part"`

	since    time.Time
	total    uint64 // all allowed requests in the window
	unsure   bool   // there may have been more: a replica did not answer, or does not remember all
	replicas Answered
}

// consent is a caller's permission to go beyond the limits of the guard.
type consent struct {
	confirmed bool // the caller said confirm=true
	broad     bool // the configuration of the caller allows broad revocations
	operator  bool // the caller has the role operator
}

// seen returns how much of the traffic the revocations hit together.
func (g *guard) seen(ctx context.Context, revocations []Candidate, now time.Time) *Seen {
	if len(revocations) == 1 {
		return g.weigher.one(ctx, insight.ImpactQueryOf(&revocations[0].Revocation)).seen(now)
	}
	return g.weigher.batch(ctx, revocations).seen(now)
}

// weighs reports whether the guard asks for the weight of a revocation.
func (g *guard) weighs(b breadth) bool { return g.share > 0 && b != narrow || b == whole }

// judge returns the refusal of a revocation that needs a confirmation other
// than c, or nil. Every door has these rules, and no others:
//
//   - every token of an issuer: always confirmed, by an operator;
//   - above the share of the traffic, once enough requests were seen: confirmed
//     by an operator;
//   - broad, with a weight that is not fully known: confirmed. Where every
//     replica answered and few requests were seen, the weight does not matter.
func (g *guard) judge(b breadth, s *Seen, c consent) *unconfirmed {
	byOperator := c.confirmed && c.operator
	switch {
	case b == whole && !byOperator:
		return &unconfirmed{operator: true, why: "it matches every token of an issuer" + s.known(", and would deny ")}
	case g.share <= 0 || b == narrow:
		return nil
	case s.total >= g.minRequests && s.share() > g.share && !byOperator:
		return &unconfirmed{operator: true, why: fmt.Sprintf("it would deny %s, more than limits.share_of_traffic (%s)", s.figures(), percent(g.share))}
	case b == broad && (s.unsure || s.Partial && s.total >= g.minRequests) && !c.confirmed && !c.broad:
		return &unconfirmed{why: "how much of the traffic it would deny is not fully known" + s.known("; known is ")}
	}
	return nil
}

// unconfirmed says which confirmation is missing, and why one is needed.
type unconfirmed struct {
	operator bool // an operator's
	why      string
}

func (u *unconfirmed) refusal() *Refusal {
	if u.operator {
		return &Refusal{Cause: Unconfirmed, Detail: u.why + "; this takes confirm=true by an operator"}
	}
	return &Refusal{Cause: Unconfirmed, Detail: u.why + "; this takes confirm=true"}
}

// share returns the part of all traffic that is hit, from 0 to 1.
func (s *Seen) share() float64 {
	if s.total == 0 {
		return 0
	}
	return min(1, float64(s.Requests)/float64(s.total))
}

// figures says in words how much of the traffic is hit.
func (s *Seen) figures() string {
	tokens := "1 token"
	if s.Tokens != 1 {
		tokens = fmt.Sprintf("%d tokens", s.Tokens)
	}
	return fmt.Sprintf("%d of the %d requests seen in the last %s (%s), with %s, as seen by %d of %d replicas",
		s.Requests, s.total, time.Duration(s.Window), percent(s.share()), tokens, s.replicas.Answered, s.replicas.Asked)
}

// known returns the figures after a prefix, or nothing if no replica was asked.
func (s *Seen) known(prefix string) string {
	if s.replicas.Asked == 0 {
		return ""
	}
	return prefix + s.figures()
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// impact returns the traffic that the revocations would have hit, and whether
// they need a confirmation.
func (g *guard) impact(ctx context.Context, revocations []Candidate, b breadth, now time.Time) *Impact {
	d := &Impact{Limit: g.share}
	s := &Seen{}
	if g.weighs(b) || len(revocations) > 1 {
		s = g.seen(ctx, revocations, now)
		if u := g.judge(b, s, consent{}); u != nil {
			d.Confirm, d.Operator = true, u.operator
		}
	}
	if len(revocations) == 1 {
		s = g.impactOfOne(ctx, &revocations[0].Revocation, d, now)
	}
	d.Since, d.Tokens, d.Requests, d.Total = s.since, s.Tokens, s.Requests, s.total
	d.Share, d.Partial, d.Replicas = s.share(), s.Partial, s.replicas
	return d
}

func (g *guard) impactOfOne(ctx context.Context, r *revocation.Revocation, d *Impact, now time.Time) *Seen {
	all, of := Gather[insight.Impact](ctx, g.weigher.ask, g.weigher.logger, insight.AskImpact, insight.ImpactQueryOf(r))
	i := insight.MergeImpacts(all...)
	d.Subjects, d.Sessions = i.Subjects, i.Sessions
	w := weight{since: i.Since, total: i.Total, replicas: of}
	w.Tokens, w.Requests, w.Partial = i.Tokens, i.Requests, i.Partial || of.Answered < of.Asked
	return w.seen(now)
}
