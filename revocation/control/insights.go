package control

import (
	"context"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation/insight"
	"rescind/revocation/ledger"
)

// The control endpoint asks the replicas for their statistics when a caller wants
// them, and keeps none. An answer says how many replicas it comes from.

// Answered says how many of the connected replicas an answer is of.
type Answered = ledger.Answered

type activityInput struct {
	By     dimension `query:"by" required:"true" doc:"The claim that has the value"`
	Value  string    `query:"value" required:"true" minLength:"1" maxLength:"1024" example:"alice"`
	Issuer string    `query:"issuer" minLength:"1" maxLength:"1024" doc:"Only tokens of this issuer; a credential that is for some issuers must name one of them"`
}

// dimension is an [insight.Dimension] as a parameter.
type dimension insight.Dimension

// Schema lists the dimensions.
func (dimension) Schema(huma.Registry) *huma.Schema { return oneOf("by", insight.Dimensions) }

// ActivityDocument is the activity that the replicas saw.
type ActivityDocument struct {
	insight.Activity
	Replicas Answered `json:"replicas"`
}

type activityOutput struct{ Body ActivityDocument }

func (s *Server) activity(ctx context.Context, in *activityInput) (*activityOutput, error) {
	c := callOf(ctx)
	if c.Issuers != nil && in.Issuer == "" {
		return nil, invalid("issuer", "must be named: the credential is not for every issuer")
	}
	if in.Issuer != "" && !c.Covers(in.Issuer) {
		e := s.authority.Entry(&c.Caller, ledger.ActRead)
		e.Issuers = []string{in.Issuer}
		return nil, s.authority.Refuse(ctx, e, &ledger.Refusal{Cause: ledger.Forbidden, Detail: "the credential is not for this issuer"})
	}
	all, of := ledger.Gather[insight.Activity](ctx, s.ask, s.logger, insight.AskActivity, insight.ActivityQuery{Issuer: in.Issuer, By: insight.Dimension(in.By), Value: in.Value})
	return &activityOutput{ActivityDocument{insight.MergeActivities(all...), of}}, nil
}

// AdviceDocument is the advice about lifetimes.
type AdviceDocument struct {
	insight.Advice
	Replicas Answered `json:"replicas"`
}

type adviceOutput struct{ Body AdviceDocument }

func (s *Server) advice(ctx context.Context, _ *struct{}) (*adviceOutput, error) {
	c := callOf(ctx)
	all, of := ledger.Gather[insight.AdviceData](ctx, s.ask, s.logger, insight.AskAdvice, struct{}{})
	for i := range all {
		all[i].Groups = slices.DeleteFunc(all[i].Groups, func(g insight.AdviceGroup) bool { return !c.Covers(g.Issuer) })
	}
	return &adviceOutput{AdviceDocument{insight.Advise(all...), of}}, nil
}

// ImpactDocument is the answer to a dry run.
type ImpactDocument = ledger.Impact
