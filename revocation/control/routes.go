package control

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// register describes the operations. The bodies of the POST are not in Go
// types, so describe adds them.
func (s *Server) register(api huma.API) {
	reads := []int{401, 403, 404, 422, 429, 503}
	changes := []int{400, 401, 403, 404, 408, 413, 415, 422, 429, 503}
	revokes := append(slices.Clone(changes), 409)
	add(s, api, huma.Operation{OperationID: "revoke", Tags: []string{tagRevocations}, Method: http.MethodPost, Path: "/v1/revocations",
		Summary: "Revoke", Errors: revokes, DefaultStatus: http.StatusCreated, MaxBodyBytes: -1, SkipValidateBody: true}, s.post)
	add(s, api, huma.Operation{OperationID: "list", Tags: []string{tagRevocations}, Method: http.MethodGet, Path: "/v1/revocations",
		Summary: "List revocations", Errors: reads}, s.list)
	add(s, api, huma.Operation{OperationID: "show", Tags: []string{tagRevocations}, Method: http.MethodGet, Path: "/v1/revocations/{id}",
		Summary: "Show one revocation", Errors: reads}, s.get)
	add(s, api, huma.Operation{OperationID: "restore", Tags: []string{tagRevocations}, Method: http.MethodDelete, Path: "/v1/revocations/{id}",
		Summary: "Undo one revocation", Errors: changes}, s.delete)
	add(s, api, huma.Operation{OperationID: restoreWriteOperation, Tags: []string{tagRevocations}, Method: http.MethodDelete, Path: "/v1/revocations",
		Summary: "Undo all that one write revoked, for example an import", Errors: revokes}, s.deleteWrite)
	add(s, api, huma.Operation{OperationID: "replicas", Tags: []string{tagReplicas}, Method: http.MethodGet, Path: "/v1/replicas",
		Summary: "List the replicas, and how far behind each is", Errors: reads}, s.listReplicas)
	add(s, api, huma.Operation{OperationID: "audit", Tags: []string{tagAudit}, Method: http.MethodGet, Path: "/v1/audit",
		Summary: "List changes and attempts, with their callers", Errors: reads}, s.listAudit)
	add(s, api, huma.Operation{OperationID: "alerts", Tags: []string{tagTraffic}, Method: http.MethodGet, Path: "/v1/alerts",
		Summary: "List alerts", Errors: reads}, s.listAlerts)
	add(s, api, huma.Operation{OperationID: "activity", Tags: []string{tagTraffic}, Method: http.MethodGet, Path: "/v1/activity",
		Summary: "Show the use of a subject, token, session or client", Errors: reads}, s.activity)
	add(s, api, huma.Operation{OperationID: "advice", Tags: []string{tagTraffic}, Method: http.MethodGet, Path: "/v1/advice",
		Summary: "Advise on lifetimes that fit the traffic", Errors: reads}, s.advice)
	add(s, api, huma.Operation{OperationID: "intakes", Tags: []string{tagIntakes}, Method: http.MethodGet, Path: "/v1/intakes",
		Summary: "List the intakes of events, and how each stands", Errors: reads}, s.listIntakes)
	add(s, api, huma.Operation{OperationID: "held", Tags: []string{tagIntakes}, Method: http.MethodGet, Path: heldPath,
		Summary: "List the events that wait for an operator", Errors: reads}, s.listHeld)
	add(s, api, huma.Operation{OperationID: releaseOperation, Tags: []string{tagIntakes}, Method: http.MethodPost, Path: heldPath + "/{id}",
		Summary: "Carry out a held event, as an operator", Errors: changes}, s.release)
	add(s, api, huma.Operation{OperationID: "drop", Tags: []string{tagIntakes}, Method: http.MethodDelete, Path: heldPath + "/{id}",
		Summary: "Forget a held event, as an operator", Errors: changes}, s.drop)
	describe(api.OpenAPI())
}

// add registers an operation, also for the metrics. Every error of its handler becomes a problem
// document here.
func add[I, O any](s *Server, api huma.API, o huma.Operation, handle func(context.Context, *I) (*O, error)) {
	s.operations[o.Method+" "+o.Path] = o.OperationID
	huma.Register(api, o, func(ctx context.Context, in *I) (*O, error) {
		callOf(ctx).decided = true
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.problemOf(err)
		}
		return out, nil
	})
}
