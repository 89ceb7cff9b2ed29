package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"rescind/revocation"
	"rescind/revocation/insight"
)

// Ask puts a question to every connected replica, and returns the answers that
// come in time.
type Ask func(ctx context.Context, kind string, query []byte) (answers [][]byte, asked, answered int)

// Answered says how many of the connected replicas an answer is of.
type Answered struct {
	Asked    int `json:"asked" doc:"Replicas that are connected"`
	Answered int `json:"answered" doc:"Those whose memory this is: the others did not answer in time, or cannot"`
}

// Gather asks every replica. An answer that cannot be read counts as none.
func Gather[A any](ctx context.Context, ask Ask, logger *slog.Logger, kind string, query any) (all []A, of Answered) {
	if ask == nil {
		return nil, of
	}
	b, err := json.Marshal(query)
	if err != nil {
		return nil, of
	}
	answers, asked, _ := ask(ctx, kind, b)
	for _, text := range answers {
		var a A
		if err := json.Unmarshal(text, &a); err != nil {
			logger.Warn("the answer of a replica cannot be read", "kind", kind, "bytes", len(text))
			continue
		}
		all = append(all, a)
	}
	return all, Answered{Asked: asked, Answered: len(all)}
}

// Impact is the traffic that a revocation would have hit lately: the answer to
// a dry run.
type Impact struct {
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

// guard weighs revocations by the traffic that they would hit.
type guard struct {
	ask    Ask
	limit  float64 // share of the traffic; 0 is none
	logger *slog.Logger
}

// impact returns the traffic that r would hit.
func (g *guard) impact(ctx context.Context, r *revocation.Revocation) *Impact {
	all, of := Gather[insight.Impact](ctx, g.ask, g.logger, "impact", insight.ImpactQueryOf(r))
	i := insight.MergeImpacts(all...)
	d := &Impact{
		Since: i.Since, Tokens: i.Tokens, Subjects: i.Subjects, Sessions: i.Sessions, Requests: i.Requests, Total: i.Total,
		Limit: g.limit, Partial: i.Partial, Replicas: of,
	}
	if d.Total > 0 {
		d.Share = min(1, float64(d.Requests)/float64(d.Total))
	}
	d.Confirm = d.Limit > 0 && d.Share > d.Limit
	return d
}

// weigh refuses a revocation that would hit more than the limit. Where no
// replica answers nothing is refused, because revoking must work when all else
// is in trouble.
func (g *guard) weigh(ctx context.Context, r *revocation.Revocation) *Refusal {
	if g.limit <= 0 {
		return nil
	}
	d := g.impact(ctx, r)
	if !d.Confirm {
		return nil
	}
	return &Refusal{Cause: Unconfirmed, Detail: fmt.Sprintf(
		"it would deny %d of the %d requests seen since %s (%.0f %%, and more than %.0f %% takes confirm=yes): tokens %d, subjects %d, sessions %d, as seen by %d of %d replicas",
		d.Requests, d.Total, d.Since.UTC().Format(time.RFC3339), 100*d.Share, 100*d.Limit, d.Tokens, d.Subjects, d.Sessions, d.Replicas.Answered, d.Replicas.Asked)}
}
