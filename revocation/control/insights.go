package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"rescind/revocation"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
)

// What replicas have seen is asked of them when somebody wants to know. None
// of it is kept here, and an answer says of how many replicas it is.

// Answered says how many of the replicas that are connected an answer is of.
type Answered struct {
	Asked    int `json:"asked" doc:"Replicas that are connected"`
	Answered int `json:"answered" doc:"Those whose memory this is: the others did not answer in time, or cannot"`
}

// gather asks every replica. An answer that cannot be read is none.
func gather[A any](ctx context.Context, s *Server, kind string, query any) (all []A, of Answered) {
	if s.ask == nil {
		return nil, of
	}
	b, err := json.Marshal(query)
	if err != nil {
		return nil, of
	}
	answers, asked, _ := s.ask(ctx, kind, b)
	for _, text := range answers {
		var a A
		if err := json.Unmarshal(text, &a); err != nil {
			s.logger.Warn("the answer of a replica cannot be read", "kind", kind, "bytes", len(text))
			continue
		}
		all = append(all, a)
	}
	return all, Answered{Asked: asked, Answered: len(all)}
}

type activityInput struct {
	By     string `query:"by" required:"true" enum:"sub,jti,sid,client" doc:"What the value is"`
	Value  string `query:"value" required:"true" minLength:"1" maxLength:"1024" example:"alice"`
	Issuer string `query:"issuer" maxLength:"1024" doc:"Only tokens of this issuer; a credential that is for some issuers must name one of them"`
}

// ActivityDocument is what was seen of somebody.
type ActivityDocument struct {
	insight.Activity
	Replicas Answered `json:"replicas"`
}

type activityOutput struct{ Body ActivityDocument }

func (s *Server) activity(ctx context.Context, in *activityInput) (*activityOutput, error) {
	who := callerOf(ctx)
	if who.Issuers != nil && in.Issuer == "" {
		return nil, invalid(ProblemError{Member: "issuer", Message: "must be named: the credential is not for every issuer"})
	}
	if in.Issuer != "" && !who.covers(in.Issuer) {
		e := who.entry(s, ledger.ActRead)
		e.Issuers = []string{in.Issuer}
		return nil, s.deny(ctx, e, "the credential is not for this issuer")
	}
	all, of := gather[insight.Activity](ctx, s, "activity", insight.ActivityQuery{Issuer: in.Issuer, By: insight.Dimension(in.By), Value: in.Value})
	return &activityOutput{ActivityDocument{insight.MergeActivities(all...), of}}, nil
}

// AdviceDocument is what the traffic says about lifetimes.
type AdviceDocument struct {
	insight.Advice
	Replicas Answered `json:"replicas"`
}

type adviceOutput struct{ Body AdviceDocument }

func (s *Server) advice(ctx context.Context, _ *struct{}) (*adviceOutput, error) {
	who := callerOf(ctx)
	all, of := gather[insight.AdviceData](ctx, s, "advice", struct{}{})
	for i := range all {
		all[i].Groups = slices.DeleteFunc(all[i].Groups, func(g insight.AdviceGroup) bool { return !who.covers(g.Issuer) })
	}
	return &adviceOutput{AdviceDocument{insight.Advise(all...), of}}, nil
}

// ImpactDocument is what a revocation would have hit lately: the answer to a
// dry run.
type ImpactDocument struct {
	Since    time.Time `json:"since" doc:"How far back the memory goes"`
	Tokens   uint64    `json:"tokens" doc:"Distinct tokens seen that it would deny"`
	Subjects uint64    `json:"subjects"`
	Sessions uint64    `json:"sessions"`
	Requests uint64    `json:"requests" doc:"Allowed requests with these tokens"`
	Total    uint64    `json:"total" doc:"All allowed requests in the same time"`
	Share    float64   `json:"share" doc:"requests of total, 0 to 1"`
	Limit    float64   `json:"limit,omitempty" doc:"A greater share takes confirm=yes; absent: there is no limit"`
	Confirm  bool      `json:"confirm" doc:"It takes confirm=yes"`
	Partial  bool      `json:"partial,omitempty" doc:"Memory was short, or a claim is not remembered: the numbers are what is known"`
	Replicas Answered  `json:"replicas"`
}

// impact is what r would hit.
func (s *Server) impact(ctx context.Context, r *revocation.Revocation) *ImpactDocument {
	all, of := gather[insight.Impact](ctx, s, "impact", insight.ImpactQueryOf(r))
	i := insight.MergeImpacts(all...)
	d := &ImpactDocument{
		Since: i.Since, Tokens: i.Tokens, Subjects: i.Subjects, Sessions: i.Sessions, Requests: i.Requests, Total: i.Total,
		Limit: s.shareLimit, Partial: i.Partial, Replicas: of,
	}
	if d.Total > 0 {
		d.Share = min(1, float64(d.Requests)/float64(d.Total))
	}
	d.Confirm = d.Limit > 0 && d.Share > d.Limit
	return d
}

// weigh refuses a revocation that would hit more than may be hit without a
// word. Where nobody answers nothing is known, and nothing is refused: to
// revoke must work when all else is in trouble.
func (s *Server) weigh(ctx context.Context, r *revocation.Revocation) *Problem {
	if s.shareLimit <= 0 {
		return nil
	}
	d := s.impact(ctx, r)
	if !d.Confirm {
		return nil
	}
	return problem(http.StatusConflict, fmt.Sprintf(
		"it would deny %d of the %d requests seen since %s (%.0f %%, and more than %.0f %% takes confirm=yes): tokens %d, subjects %d, sessions %d, as seen by %d of %d replicas",
		d.Requests, d.Total, d.Since.UTC().Format(time.RFC3339), 100*d.Share, 100*d.Limit, d.Tokens, d.Subjects, d.Sessions, d.Replicas.Answered, d.Replicas.Asked))
}
