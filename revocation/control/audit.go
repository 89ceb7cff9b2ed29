package control

import (
	"context"

	"rescind/revocation/ledger"
)

type auditInput struct{ Paging }

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
	entries, next, err := s.authority.Audit(ctx, &callOf(ctx).Caller, ledger.AuditCursor{Note: number, Line: int(line)}, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &auditOutput{AuditPage{Items: append([]ledger.AuditEntry{}, entries...)}}
	if next != (ledger.AuditCursor{}) {
		out.Body.NextCursor = cursor("a", next.Note, uint64(next.Line))
	}
	return out, nil
}
