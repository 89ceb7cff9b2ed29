package control

import (
	"context"
	"slices"
)

type replicasOutput struct {
	Body struct {
		Items []Replica `json:"items" nullable:"false"`
	}
}

// listReplicas returns the followers of the feed. Of the issuers that a replica
// accepts, the caller sees its own.
func (s *Server) listReplicas(ctx context.Context, _ *struct{}) (*replicasOutput, error) {
	c := callOf(ctx)
	out := &replicasOutput{}
	out.Body.Items = s.replicas()
	for i := range out.Body.Items {
		r := &out.Body.Items[i]
		r.Issuers = slices.DeleteFunc(slices.Clone(r.Issuers), func(issuer string) bool { return !c.Covers(issuer) })
	}
	if out.Body.Items == nil {
		out.Body.Items = []Replica{}
	}
	return out, nil
}
