package control

import (
	"context"
	"net/http"
	"time"

	"rescind/revocation/ledger"
)

type deleteInput struct {
	ID string `path:"id" doc:"As the revocation's id" example:"r17.0" maxLength:"64"`
	Waiting
}

// Restoration is the answer to the DELETE of one revocation.
type Restoration struct {
	ID         string    `json:"id"`
	Revision   uint64    `json:"revision" doc:"The revision of the log that undid the revocation"`
	RestoredAt time.Time `json:"restored_at"`
	RestoredBy string    `json:"restored_by"`
	Replicas   *Applied  `json:"replicas,omitempty" doc:"With wait: the replicas that have it in force"`
}

type deleteOutput struct {
	Status int
	Body   Restoration
}

// delete restores.
func (s *Server) delete(ctx context.Context, in *deleteInput) (*deleteOutput, error) {
	c := callOf(ctx)
	wait, refusal := in.limit()
	if refusal != nil {
		return nil, s.authority.Refuse(ctx, s.authority.Entry(&c.Caller, ledger.ActRestore), refusal)
	}
	u, err := s.authority.Restore(ctx, &c.Caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := Restoration{ID: u.ID.String(), Revision: u.Revision, RestoredAt: u.At, RestoredBy: u.By, Replicas: s.applied(ctx, u.Wanted, wait)}
	return &deleteOutput{Status: out.Replicas.status(http.StatusOK), Body: out}, nil
}

type deleteWriteInput struct {
	Revision uint64 `query:"revision" required:"true" minimum:"1" doc:"The revision of the log that the write made, as the answer to an import has it" example:"17"`
	Write    string `query:"write" minLength:"1" maxLength:"64" doc:"Which write of the revision: the ID of its first revocation. Needed where the revision holds several" example:"r17.0"`
	Waiting
}

// WriteRestoration is the answer to the DELETE of all that one write revoked.
type WriteRestoration struct {
	Restored int      `json:"restored" doc:"Number of revocations that this request restored"`
	Already  int      `json:"already,omitempty" doc:"Number of revocations of the write that were restored before"`
	Revision uint64   `json:"revision" doc:"The revision at which all of them are restored"`
	Write    string   `json:"write" doc:"The write: the ID of its first revocation" example:"r17.0"`
	Replicas *Applied `json:"replicas,omitempty" doc:"With wait: the replicas that have it in force"`
}

type deleteWriteOutput struct {
	Status int
	Body   WriteRestoration
}

// deleteWrite restores all that one write revoked.
func (s *Server) deleteWrite(ctx context.Context, in *deleteWriteInput) (*deleteWriteOutput, error) {
	c := callOf(ctx)
	wait, refusal := in.limit()
	if refusal != nil {
		return nil, s.authority.Refuse(ctx, s.authority.Entry(&c.Caller, ledger.ActRestore), refusal)
	}
	u, err := s.authority.RestoreWrite(ctx, &c.Caller, in.Revision, in.Write)
	if err != nil {
		return nil, err
	}
	s.pace.add(&c.Caller, restoreWriteOperation, u.Restored+u.Already)
	out := WriteRestoration{Restored: u.Restored, Already: u.Already, Revision: u.Revision, Write: u.Write, Replicas: s.applied(ctx, u.Wanted, wait)}
	return &deleteWriteOutput{Status: out.Replicas.status(http.StatusOK), Body: out}, nil
}
