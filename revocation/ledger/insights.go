package ledger

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"rescind/revocation/insight"
)

// Ask puts a question to every replica, and returns the answers that come in
// time. asked counts the replicas that should have answered.
type Ask func(ctx context.Context, kind string, query []byte) (answers [][]byte, asked, answered int)

// Answered says how many of the replicas an answer is of.
type Answered struct {
	Asked    int `json:"asked" doc:"Replicas that were asked"`
	Answered int `json:"answered" doc:"Those whose memory this is: the others did not answer in time, or cannot"`
}

// Gather asks every replica. An answer that cannot be read counts as none.
func Gather[A any](ctx context.Context, ask Ask, logger *slog.Logger, question insight.Question, query any) (all []A, of Answered) {
	b, err := json.Marshal(query)
	if err != nil {
		return nil, of
	}
	return gather[A](ctx, ask, logger, question, b)
}

// gather is Gather with the text of a query.
func gather[A any](ctx context.Context, ask Ask, logger *slog.Logger, question insight.Question, query []byte) (all []A, of Answered) {
	if ask == nil {
		return nil, of
	}
	answers, asked, _ := ask(ctx, string(question), query)
	for _, text := range answers {
		var a A
		if err := json.Unmarshal(text, &a); err != nil {
			logger.Warn("a replica's answer cannot be read", "question", string(question), "bytes", len(text))
			continue
		}
		all = append(all, a)
	}
	return all, Answered{Asked: asked, Answered: len(all)}
}

// Impact is the traffic that an order would have hit lately: the answer to a
// dry run.
type Impact struct {
	Since    time.Time `json:"since" doc:"How far back the memory goes"`
	Tokens   uint64    `json:"tokens" doc:"Distinct tokens seen that it would deny"`
	Subjects uint64    `json:"subjects" doc:"0 for a body of many lines"`
	Sessions uint64    `json:"sessions" doc:"0 for a body of many lines"`
	Requests uint64    `json:"requests" doc:"Allowed requests with these tokens"`
	Total    uint64    `json:"total" doc:"All allowed requests in the same time"`
	Share    float64   `json:"share" doc:"requests of total, 0 to 1"`
	Limit    float64   `json:"limit,omitempty" doc:"A greater share takes confirm=true by an operator; absent: there is no limit"`
	Confirm  bool      `json:"confirm" doc:"It takes confirm=true"`
	Operator bool      `json:"operator,omitempty" doc:"It takes the confirm=true of an operator"`
	Partial  bool      `json:"partial,omitempty" doc:"Not every replica answered, or a claim is not remembered: the numbers count the known part"`
	Replicas Answered  `json:"replicas"`
	Warnings []string  `json:"warnings,omitempty"`
}
