package control

import (
	"context"
	"time"

	"rescind/revocation/ledger"
)

type auditInput struct {
	Paging
	After  time.Time `query:"after" doc:"Only entries later than this time" example:"2026-11-24T07:00:01Z"`
	By     string    `query:"by" minLength:"1" maxLength:"256" doc:"Only entries of the credential of this name"`
	Issuer string    `query:"issuer" minLength:"1" maxLength:"1024" doc:"Only entries about this issuer, also those that are about others too"`
}

// AuditPage is one page of the audit.
type AuditPage struct {
	Items      []ledger.AuditEntry `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string              `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

type auditOutput struct{ Body AuditPage }

// listAudit returns a page of the audit.
func (s *Server) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	number, line, err := in.place("a")
	if err != nil {
		return nil, err
	}
	entries, next, err := s.authority.Audit(ctx, &callOf(ctx).Caller, ledger.AuditQuery{
		By: in.By, Issuer: in.Issuer, After: in.After,
		Before: ledger.AuditCursor{Note: number, Line: int(line)}, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := &auditOutput{AuditPage{Items: append([]ledger.AuditEntry{}, entries...)}}
	if next != (ledger.AuditCursor{}) {
		out.Body.NextCursor = cursor("a", next.Note, uint64(next.Line))
	}
	return out, nil
}
