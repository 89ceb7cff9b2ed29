package control

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

type postInput struct {
	Waiting
	DryRun        string `query:"dry_run" enum:"true,false" doc:"true: nothing is revoked; 200 with the traffic that it would have hit lately"`
	Confirm       string `query:"confirm" enum:"true,false,yes" doc:"true: also where a 409 asks for a confirmation; yes means true"`
	UnknownIssuer string `query:"unknown_issuer" enum:"true,false" doc:"true: also for an issuer that no replica accepts"`
	Seen          string `query:"seen" enum:"true,false" doc:"true: the answer says which traffic it hits, also where nothing else asks for it"`
	ContentType   string `header:"Content-Type" hidden:"true"`
	RawBody       []byte `contentType:"application/json"`
}

type postOutput struct {
	Status   int
	Location string `header:"Location" doc:"Path of the revocation"`
	Body     any
}

// Import is the answer to a body of many revocations.
type Import struct {
	Accepted int      `json:"accepted" doc:"Number of lines; all of them are in force"`
	Revision uint64   `json:"revision" doc:"The revision at which all of them are in force"`
	Write    string   `json:"write,omitempty" doc:"The write that made the new ones, for DELETE ?revision=&write=; absent if all of them were in force before" example:"r17.0"`
	Replicas *Applied `json:"replicas,omitempty" doc:"With wait: the replicas that have it in force"`

	Seen     *ledger.Seen `json:"seen,omitempty" doc:"The traffic seen lately that the lines hit together"`
	Warnings []string     `json:"warnings,omitempty"`
}

// post revokes, or answers with the traffic that a revocation would hit.
func (s *Server) post(ctx context.Context, in *postInput) (*postOutput, error) {
	order, wait, refusal := in.order()
	out, err := s.revoke(ctx, in, order, wait, refusal)
	if order.Action == ledger.ActImport {
		s.refused.add(&callOf(ctx).Caller, len(order.Lines), err)
	}
	return out, err
}

// revoke carries out an order, unless there is a refusal already.
func (s *Server) revoke(ctx context.Context, in *postInput, order *ledger.Order, wait time.Duration, refusal *ledger.Refusal) (*postOutput, error) {
	c := callOf(ctx)
	if refusal != nil {
		return nil, s.authority.Refuse(ctx, s.authority.Entry(&c.Caller, order.Action), refusal)
	}
	if in.DryRun == "true" {
		impact, err := s.authority.Impact(ctx, &c.Caller, order)
		if err == nil {
			s.paceAfter(c, order)
		}
		return &postOutput{Status: http.StatusOK, Body: impact}, err
	}
	done, err := s.authority.Revoke(ctx, &c.Caller, order)
	if err != nil {
		return nil, err
	}
	s.paceAfter(c, order)
	return revokedOutput(order, done, s.applied(ctx, done.Wanted, wait)), nil
}

// paceAfter makes the next import of the caller wait, if the order is an import.
func (s *Server) paceAfter(c *call, o *ledger.Order) {
	if o.Action == ledger.ActImport {
		s.pace.add(&c.Caller, importOperation, len(o.Lines))
	}
}

// order returns the order that a request asks for. Where the request is
// refused, the order has its action.
func (in *postInput) order() (o *ledger.Order, wait time.Duration, r *ledger.Refusal) {
	o = &ledger.Order{
		Action: ledger.ActRevoke, Lines: []ledger.Line{{Body: in.RawBody}},
		Confirm: in.Confirm == "true" || in.Confirm == "yes", UnknownIssuer: in.UnknownIssuer == "true", Seen: in.Seen == "true",
	}
	if contentType(in.ContentType) == typeNDJSON {
		o.Action, o.Lines = ledger.ActImport, split(in.RawBody)
	}
	wait, r = in.limit()
	switch {
	case r != nil:
	case in.DryRun == "true" && wait > 0:
		r = invalid("wait", "cannot stand beside dry_run, which changes nothing")
	case len(o.Lines) == 0:
		r = invalid("", "the body has no lines")
	case len(o.Lines) > maxLines:
		r = &ledger.Refusal{Cause: ledger.TooLarge, Detail: fmt.Sprintf("the body has more than %d lines; send it in parts", maxLines)}
	}
	return o, wait, r
}

// split returns the lines that are not blank, at most one more than a body may
// have.
func split(body []byte) (lines []ledger.Line) {
	number := 0
	for text := range bytes.Lines(body) {
		number++
		if text = bytes.TrimSpace(text); len(text) > 0 {
			lines = append(lines, ledger.Line{Number: number, Body: text})
		}
		if len(lines) > maxLines {
			break
		}
	}
	return lines
}

// revokedOutput returns the answer to an order: a document for one revocation, a
// count for an import.
func revokedOutput(o *ledger.Order, done *ledger.Revoked, applied *Applied) *postOutput {
	if o.Action == ledger.ActImport {
		body := Import{Accepted: len(o.Lines), Revision: done.Revision, Write: done.Write, Replicas: applied, Seen: done.Seen, Warnings: done.Warnings}
		return &postOutput{Status: applied.status(http.StatusCreated), Body: body}
	}
	d := documentOf(&done.First)
	d.Replicas, d.Seen, d.Warnings = applied, done.Seen, done.Warnings
	status := http.StatusOK
	if done.Fresh > 0 {
		status = http.StatusCreated
	}
	return &postOutput{Status: applied.status(status), Location: "/v1/revocations/" + d.ID, Body: d}
}

// applied waits for the replicas. It returns nil if the caller does not wait. A
// call that waits holds no slot.
func (s *Server) applied(ctx context.Context, w ledger.Wanted, limit time.Duration) *Applied {
	if limit == 0 {
		return nil
	}
	c := callOf(ctx)
	c.slot.free()
	place := s.waits.take(&c.Caller)
	if place == nil { // the answer is 202 unless every replica has it already
		s.metrics.refused.WithLabelValues(s.waits.bound).Inc()
		place, limit = &slot{}, time.Nanosecond
	}
	defer place.free()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := s.waitApplied(ctx, w)
	if a.Pending == nil {
		a.Pending = []string{}
	}
	return &a
}

// status returns done if all replicas that were waited for have the change,
// and 202 otherwise.
func (a *Applied) status(done int) int {
	if a != nil && len(a.Pending) > 0 {
		return http.StatusAccepted
	}
	return done
}

type idInput struct {
	ID string `path:"id" doc:"As the revocation's id" example:"r17.0" maxLength:"64"`
}

type getOutput struct{ Body *Document }

// get returns one revocation.
func (s *Server) get(ctx context.Context, in *idInput) (*getOutput, error) {
	item, err := s.authority.Find(ctx, &callOf(ctx).Caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &getOutput{documentOf(&item)}, nil
}

type listInput struct {
	Paging
	Issuer string    `query:"issuer" minLength:"1" maxLength:"1024" doc:"Only those of this issuer"`
	Claim  []string  `query:"claim,explode" nullable:"false" minItems:"1" maxItems:"16" doc:"name=value, split at the first =; only those with this equality. May be repeated: all must be there. name:value is accepted where there is no =. The value is compared with the text that is shown, so sub=17 also finds the number. A name that begins with / is a JSON Pointer to a nested claim" example:"sub=alice"`
	Kind   string    `query:"kind" enum:"claims,kid,token,all" doc:"Only those with such a target. A token that has a jti is revoked by that claim"`
	KeyID  string    `query:"kid" minLength:"1" maxLength:"256" doc:"Only those of this key"`
	Token  string    `query:"token_sha256" pattern:"^[0-9a-f]{64}$" doc:"Only the one of the token whose header.payload has this SHA-256"`
	By     string    `query:"by" minLength:"1" maxLength:"256" doc:"Only those made by the credential of this name"`
	Since  time.Time `query:"since" doc:"Only those made at that time or later" example:"2026-11-24T07:00:01Z"`
	Active string    `query:"active" enum:"true,false" doc:"true: in force; false: restored; left out: both"`
}

// Page is one page of revocations.
type Page struct {
	Items      []*Document `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string      `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

type listOutput struct{ Body Page }

// list returns a page of revocations.
func (s *Server) list(ctx context.Context, in *listInput) (*listOutput, error) {
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	items, next, err := s.authority.List(&callOf(ctx).Caller, q)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Page{Items: make([]*Document, len(items))}}
	for i := range items {
		out.Body.Items[i] = documentOf(&items[i])
	}
	if next != (revocation.ID{}) {
		out.Body.NextCursor = cursor("r", next.Revision, uint64(next.Index))
	}
	return out, nil
}

// kinds are the kinds of targets by their names in the API.
var kinds = map[string]revocation.Kind{
	"claims": revocation.KindClaims, "kid": revocation.KindKeyID, "token": revocation.KindToken, "all": revocation.KindAll,
}

// claimPattern is the form of a text that claimFilter reads.
const claimPattern = `^([^=]+=[\s\S]+|[^=:]+:[^=]+)$`

// claimFilter reads name=value, or name:value where the text has no equals sign.
// The name of a JSON Pointer ends at the first of these.
func claimFilter(text string) (f ledger.ClaimFilter, err error) {
	name, value, ok := strings.Cut(text, "=")
	if ok || strings.HasPrefix(text, "/") {
		if !ok {
			name, value, _ = strings.Cut(text, ":")
		}
		f.Value = value
		f.Name, err = revocation.ClaimName(name)
	} else {
		name, value, _ = strings.Cut(text, ":")
		f.Value = text
	}
	if name == "" || value == "" {
		return f, invalid("claim", "must be name=value, such as sub=alice")
	}
	if err != nil {
		return f, invalid("claim", err.Error())
	}
	return f, nil
}

func (in *listInput) query() (q ledger.Query, err error) {
	q = ledger.Query{Kind: kinds[in.Kind], KeyID: in.KeyID, By: in.By, Since: in.Since, Limit: in.Limit}
	if in.Token != "" {
		q.Token = new([32]byte)
		if _, err := hex.Decode(q.Token[:], []byte(in.Token)); err != nil { // the pattern lets nothing else through
			return q, err
		}
	}
	for _, c := range in.Claim {
		f, err := claimFilter(c)
		if err != nil {
			return q, err
		}
		q.Claims = append(q.Claims, f)
	}
	if in.Issuer != "" {
		q.Issuers = append(q.Issuers, []string{in.Issuer})
	}
	if in.Active != "" {
		active := in.Active == "true"
		q.Active = &active
	}
	revision, index, err := in.place("r")
	q.Before = revocation.ID{Revision: revision, Index: uint32(index)}
	return q, err
}
