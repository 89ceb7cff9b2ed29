package control

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// Waiting is the pair of parameters that every change takes.
type Waiting struct {
	Wait    string `query:"wait" enum:"all" doc:"all: answer when every replica has the change in force"`
	Timeout string `query:"timeout" doc:"With wait: how long at most, as 5s (default) or 500ms; at most 1m" example:"5s"`
}

// limit is how long to wait; 0 = not at all.
func (w *Waiting) limit() (time.Duration, *Problem) {
	switch {
	case w.Wait == "" && w.Timeout != "":
		return 0, invalid(ProblemError{Member: "timeout", Message: "means nothing without wait=all"})
	case w.Wait == "":
		return 0, nil
	case w.Timeout == "":
		return defaultWait, nil
	}
	d, err := time.ParseDuration(w.Timeout)
	if err != nil || d <= 0 || d > maxWait {
		return 0, invalid(ProblemError{Member: "timeout", Message: "must be a duration such as 5s, more than nothing and at most 1m"})
	}
	return d, nil
}

// applied waits for the replicas; nil if nobody asked to.
func (s *Server) applied(ctx context.Context, revision uint64, limit time.Duration) *Applied {
	if limit == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := s.waitApplied(ctx, revision)
	if a.Pending == nil {
		a.Pending = []string{}
	}
	return &a
}

// status is done if all replicas that were waited for have it, else 202.
func (a *Applied) status(done int) int {
	if a != nil && len(a.Pending) > 0 {
		return http.StatusAccepted
	}
	return done
}

type postInput struct {
	Waiting
	DryRun      string `query:"dry_run" enum:"true" doc:"true: nothing is revoked; 200 with what it would have hit lately"`
	Confirm     string `query:"confirm" enum:"yes" doc:"yes: also if it hits a greater share of the traffic than the operator has allowed"`
	ContentType string `header:"Content-Type"`
	RawBody     []byte `contentType:"application/json"`
}

type postOutput struct {
	Status   int
	Location string `header:"Location" doc:"Path of the revocation"`
	Body     any
}

func (s *Server) post(ctx context.Context, in *postInput) (*postOutput, error) {
	if strings.HasPrefix(in.ContentType, typeNDJSON) {
		return s.postLines(ctx, in)
	}
	who := callerOf(ctx)
	entry := who.entry(s, ledger.ActRevoke)
	wait, p := in.limit()
	if p != nil {
		return nil, s.refuse(ctx, entry, p)
	}
	if !who.has(Revoker, Operator) {
		return nil, s.deny(ctx, entry, "this takes the role revoker or operator")
	}
	if in.DryRun != "" && wait > 0 {
		return nil, s.refuse(ctx, entry, invalid(ProblemError{Member: "wait", Message: "means nothing beside dry_run"}))
	}
	now := s.ledger.Now()
	c, token, faults := s.candidate(in.RawBody, now, who.Name)
	if faults != nil {
		return nil, s.refuse(ctx, entry, invalid(faultsOf(faults)...))
	}
	entry.Issuers, entry.Target, entry.Reason = []string{c.Issuer}, ledger.TargetOf(&c.Target), c.Reason
	if why := who.forbids(&c.Revocation); why != "" {
		return nil, s.deny(ctx, entry, why)
	}
	if in.DryRun != "" {
		return &postOutput{Status: http.StatusOK, Body: s.impact(ctx, &c.Revocation)}, nil
	}
	if in.Confirm == "" {
		if p := s.weigh(ctx, &c.Revocation); p != nil {
			return nil, s.refuse(ctx, entry, p)
		}
	}
	revision, ids, fresh, err := s.ledger.Revoke(ctx, []ledger.Candidate{c}, entry)
	if err != nil {
		return nil, s.unavailable(err)
	}
	entry.ID, entry.Revision = ids[0].String(), revision
	s.upstream.tell(token, entry)
	item, err := s.ledger.Find(ids[0])
	if err != nil { // it has expired since
		item = ledger.Item{Revocation: c.Revocation}
		item.ID = ids[0]
	}
	out := &postOutput{Status: http.StatusOK, Location: "/v1/revocations/" + ids[0].String()}
	if fresh > 0 {
		out.Status = http.StatusCreated
	}
	d := documentOf(&item)
	d.Replicas = s.applied(ctx, revision, wait)
	out.Status, out.Body = d.Replicas.status(out.Status), d
	return out, nil
}

// candidate reads and accepts one revocation. token is the raw one, if it is
// about one.
func (s *Server) candidate(body []byte, now time.Time, by string) (c ledger.Candidate, token string, faults []revocation.Fault) {
	r, faults := revocation.ParseRequest(body)
	if faults != nil {
		return ledger.Candidate{}, "", faults
	}
	rev, faults := r.Accept(now, s.ledger.Retention(), by)
	if faults != nil {
		return ledger.Candidate{}, "", faults
	}
	least := rev.ExpiresAt
	if r.ExpiresAt.IsZero() && r.Token == "" { // one made lately lasts long enough
		least = revocation.MicrosOf(now.Add(s.ledger.Retention() / 2))
	}
	return ledger.NewCandidate(rev, least), r.Token, nil
}

func (s *Server) refuse(ctx context.Context, e ledger.AuditEntry, p *Problem) *Problem {
	e.Outcome, e.Detail = ledger.Refused, p.Detail
	s.record(ctx, e)
	return p
}

func (s *Server) deny(ctx context.Context, e ledger.AuditEntry, why string) *Problem {
	e.Outcome, e.Detail = ledger.Denied, why
	s.record(ctx, e)
	return problem(http.StatusForbidden, why)
}

type idInput struct {
	ID string `path:"id" doc:"As the revocation's id" example:"r17.0" maxLength:"64"`
}

type getOutput struct{ Body *Document }

func (s *Server) get(ctx context.Context, in *idInput) (*getOutput, error) {
	item, p := s.find(ctx, in.ID, ledger.ActRead)
	if p != nil {
		return nil, p
	}
	return &getOutput{documentOf(&item)}, nil
}

// find is the revocation of an id that the caller may see.
func (s *Server) find(ctx context.Context, text, action string) (ledger.Item, *Problem) {
	if err := s.ledger.Ready(); err != nil {
		return ledger.Item{}, s.unavailable(err)
	}
	who := callerOf(ctx)
	unknown := problem(http.StatusNotFound, "there is no such revocation; it may have expired", ProblemError{Member: "id", Message: "is not known"})
	id, err := revocation.ParseID(text)
	if err != nil {
		return ledger.Item{}, unknown
	}
	if err := s.ledger.CatchUp(ctx, id.Revision); err != nil {
		return ledger.Item{}, s.unavailable(err)
	}
	item, err := s.ledger.Find(id)
	if err != nil {
		return ledger.Item{}, unknown
	}
	if !who.covers(item.Issuer) {
		e := who.entry(s, action)
		e.ID, e.Issuers = text, []string{item.Issuer}
		return ledger.Item{}, s.deny(ctx, e, "the credential is not for this issuer")
	}
	return item, nil
}

type deleteInput struct {
	ID string `path:"id" doc:"As the revocation's id" example:"r17.0" maxLength:"64"`
	Waiting
}

// Restoration is the answer to a DELETE.
type Restoration struct {
	ID         string    `json:"id"`
	Revision   uint64    `json:"revision" doc:"The revision of the log that undid the revocation"`
	RestoredAt time.Time `json:"restored_at"`
	RestoredBy string    `json:"restored_by"`
	Replicas   *Applied  `json:"replicas,omitempty" doc:"With wait: who has it in force"`
}

type deleteOutput struct {
	Status int
	Body   Restoration
}

func (s *Server) delete(ctx context.Context, in *deleteInput) (*deleteOutput, error) {
	who := callerOf(ctx)
	entry := who.entry(s, ledger.ActRestore)
	wait, p := in.limit()
	if p != nil {
		return nil, s.refuse(ctx, entry, p)
	}
	if !who.has(Revoker, Operator) {
		return nil, s.deny(ctx, entry, "this takes the role revoker or operator")
	}
	item, p := s.find(ctx, in.ID, ledger.ActRestore)
	switch {
	case p != nil && p.Status == http.StatusNotFound:
		return nil, s.refuse(ctx, entry, p)
	case p != nil:
		return nil, p
	}
	entry.ID, entry.Issuers, entry.Target = item.ID.String(), []string{item.Issuer}, ledger.TargetOf(&item.Target)
	if why := who.forbids(&item.Revocation); why != "" {
		return nil, s.deny(ctx, entry, why)
	}
	revision, err := s.ledger.Restore(ctx, item.ID, entry)
	switch {
	case errors.Is(err, ledger.ErrUnknown): // it expired in between
		return nil, problem(http.StatusNotFound, err.Error())
	case err != nil:
		return nil, s.unavailable(err)
	}
	out := &deleteOutput{Body: Restoration{ID: item.ID.String(), Revision: revision, RestoredAt: entry.At, RestoredBy: entry.By}}
	if item, err := s.ledger.Find(item.ID); err == nil && item.Restored != nil { // the first time counts
		out.Body.RestoredAt, out.Body.RestoredBy = item.Restored.At, item.Restored.By
	}
	out.Body.Replicas = s.applied(ctx, revision, wait)
	out.Status = out.Body.Replicas.status(http.StatusOK)
	return out, nil
}

// Paging is the pair of parameters that every list takes.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page"`
	Cursor string `query:"cursor" maxLength:"128" doc:"next_cursor of the page before"`
}

// place reads a cursor, whose two numbers are the caller's affair.
func (p *Paging) place(kind string) (a, b uint64, bad *Problem) {
	if p.Cursor == "" {
		return 0, 0, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	parts := strings.Split(string(raw), ".")
	if err == nil && len(parts) == 3 && parts[0] == kind {
		a, err = strconv.ParseUint(parts[1], 10, 64)
		if err == nil {
			b, err = strconv.ParseUint(parts[2], 10, 32)
		}
		if err == nil {
			return a, b, nil
		}
	}
	return 0, 0, invalid(ProblemError{Member: "cursor", Message: "is not one that this list gave"})
}

func cursor(kind string, a, b uint64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s.%d.%d", kind, a, b))
}

type listInput struct {
	Paging
	Issuer string   `query:"issuer" maxLength:"1024" doc:"Only those of this issuer"`
	Claim  []string `query:"claim,explode" maxItems:"16" doc:"name:value; only those with this equality. May be repeated: all must be there" example:"sub:alice"`
	Active string   `query:"active" enum:"true,false" doc:"true: in force; false: restored; left out: both"`
}

// Page is one page of revocations.
type Page struct {
	Items      []*Document `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string      `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

type listOutput struct{ Body Page }

func (s *Server) list(ctx context.Context, in *listInput) (*listOutput, error) {
	if err := s.ledger.Ready(); err != nil {
		return nil, s.unavailable(err)
	}
	q := ledger.Query{Issuers: [][]string{callerOf(ctx).Issuers}, Claims: in.Claim, Limit: in.Limit}
	for _, c := range in.Claim {
		if name, value, ok := strings.Cut(c, ":"); !ok || name == "" || value == "" {
			return nil, invalid(ProblemError{Member: "claim", Message: "must be name:value, such as sub:alice"})
		}
	}
	if in.Issuer != "" {
		q.Issuers = append(q.Issuers, []string{in.Issuer})
	}
	if in.Active != "" {
		active := in.Active == "true"
		q.Active = &active
	}
	revision, index, p := in.place("r")
	if p != nil {
		return nil, p
	}
	q.Before = revocation.ID{Revision: revision, Index: uint32(index)}
	items, more := s.ledger.List(q)
	out := &listOutput{Page{Items: make([]*Document, len(items))}}
	for i := range items {
		out.Body.Items[i] = documentOf(&items[i])
	}
	if more {
		last := items[len(items)-1].ID
		out.Body.NextCursor = cursor("r", last.Revision, uint64(last.Index))
	}
	return out, nil
}

type replicasOutput struct {
	Body struct {
		Items []Replica `json:"items" nullable:"false"`
	}
}

func (s *Server) listReplicas(context.Context, *struct{}) (*replicasOutput, error) {
	out := &replicasOutput{}
	out.Body.Items = s.replicas()
	if out.Body.Items == nil {
		out.Body.Items = []Replica{}
	}
	return out, nil
}

type auditInput struct{ Paging }

// AuditPage is one page of the audit.
type AuditPage struct {
	Items      []ledger.AuditEntry `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string              `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

type auditOutput struct{ Body AuditPage }

func (s *Server) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	number, line, p := in.place("a")
	if p != nil {
		return nil, p
	}
	who := callerOf(ctx)
	out := &auditOutput{AuditPage{Items: []ledger.AuditEntry{}}}
	var last ledger.AuditCursor
	err := s.ledger.Audit(ctx, ledger.AuditCursor{Note: number, Line: int(line)}, func(at ledger.AuditCursor, e ledger.AuditEntry) bool {
		if !who.maySee(&e) {
			return true
		}
		if len(out.Body.Items) == in.Limit {
			out.Body.NextCursor = cursor("a", last.Note, uint64(last.Line))
			return false
		}
		last = at
		out.Body.Items = append(out.Body.Items, e)
		return true
	})
	if err != nil {
		return nil, s.unavailable(err)
	}
	return out, nil
}

// maySee: a credential that is bound to issuers sees what it did itself and
// what was about these issuers alone.
func (c caller) maySee(e *ledger.AuditEntry) bool {
	if c.Issuers == nil || e.By == c.Name {
		return true
	}
	for _, iss := range e.Issuers {
		if !c.covers(iss) {
			return false
		}
	}
	return len(e.Issuers) > 0
}

// register describes the operations; what huma cannot see of them in Go types,
// the bodies of the POST above all, is written out.
func (s *Server) register(api huma.API) {
	reads := []int{401, 403, 404, 422, 429, 503}
	changes := []int{400, 401, 403, 404, 413, 415, 422, 429, 503}
	revokes := append(slices.Clone(changes), 409)
	huma.Register(api, huma.Operation{OperationID: "revoke", Method: http.MethodPost, Path: "/v1/revocations",
		Summary: "Revoke", Errors: revokes, DefaultStatus: http.StatusCreated, MaxBodyBytes: -1, SkipValidateBody: true}, s.post)
	huma.Register(api, huma.Operation{OperationID: "list", Method: http.MethodGet, Path: "/v1/revocations",
		Summary: "What is revoked", Errors: reads}, s.list)
	huma.Register(api, huma.Operation{OperationID: "show", Method: http.MethodGet, Path: "/v1/revocations/{id}",
		Summary: "One revocation", Errors: reads}, s.get)
	huma.Register(api, huma.Operation{OperationID: "restore", Method: http.MethodDelete, Path: "/v1/revocations/{id}",
		Summary: "Undo one revocation", Errors: changes}, s.delete)
	huma.Register(api, huma.Operation{OperationID: "replicas", Method: http.MethodGet, Path: "/v1/replicas",
		Summary: "Who follows, and how far behind", Errors: reads}, s.listReplicas)
	huma.Register(api, huma.Operation{OperationID: "audit", Method: http.MethodGet, Path: "/v1/audit",
		Summary: "Who did what, and who tried", Errors: reads}, s.listAudit)
	huma.Register(api, huma.Operation{OperationID: "alerts", Method: http.MethodGet, Path: "/v1/alerts",
		Summary: "What was unusual", Errors: reads}, s.listAlerts)
	huma.Register(api, huma.Operation{OperationID: "activity", Method: http.MethodGet, Path: "/v1/activity",
		Summary: "What was seen of a subject, token, session or client", Errors: reads}, s.activity)
	huma.Register(api, huma.Operation{OperationID: "advice", Method: http.MethodGet, Path: "/v1/advice",
		Summary: "Which lifetimes fit the traffic", Errors: reads}, s.advice)
	describe(api.OpenAPI())
}
