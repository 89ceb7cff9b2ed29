package control

import "context"

type replicasOutput struct {
	Body struct {
		Items []Replica `json:"items" nullable:"false"`
	}
}

// listReplicas returns the followers of the feed.
func (s *Server) listReplicas(context.Context, *struct{}) (*replicasOutput, error) {
	out := &replicasOutput{}
	out.Body.Items = s.replicas()
	if out.Body.Items == nil {
		out.Body.Items = []Replica{}
	}
	return out, nil
}
