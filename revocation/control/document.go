package control

import (
	"time"

	"rescind/revocation/ledger"
)

// Document is a revocation as the API answers it.
type Document struct {
	ID       string `json:"id" doc:"Names the revocation" example:"r17.0"`
	Revision uint64 `json:"revision" doc:"The revision of the log that brought it"`
	Issuer   string `json:"issuer" doc:"The iss of the tokens, byte for byte"`
	Target
	IssuedBefore     *time.Time `json:"issued_before,omitempty" doc:"Tokens with an earlier iat are denied, and those without one; absent: whatever the iat"`
	Block            bool       `json:"block" doc:"Denies whatever the iat, those of a later login too"`
	ExpiresAt        time.Time  `json:"expires_at" doc:"Past it the revocation is gone"`
	Reason           string     `json:"reason,omitempty"`
	CreatedAt        time.Time  `json:"created_at"`
	CreatedBy        string     `json:"created_by" doc:"Name of the credential"`
	Active           bool       `json:"active" doc:"False once it is restored"`
	RestoredAt       *time.Time `json:"restored_at,omitempty"`
	RestoredBy       string     `json:"restored_by,omitempty"`
	RestoredRevision uint64     `json:"restored_revision,omitempty"`
	Replicas         *Applied   `json:"replicas,omitempty" doc:"With wait: who has it in force"`

	// Of a revocation that was made with this answer.
	Seen     *ledger.Seen `json:"seen,omitempty" doc:"The traffic seen lately that it hits"`
	Warnings []string     `json:"warnings,omitempty" doc:"What the caller may not have meant"`
}

// Target is the target of a revocation as the API writes it.
type Target = ledger.Target

func documentOf(it *ledger.Item) *Document {
	d := &Document{
		ID: it.ID.String(), Revision: it.ID.Revision, Issuer: it.Issuer, Target: *ledger.TargetOf(&it.Target),
		Block: it.Block, ExpiresAt: it.ExpiresAt.Time(), Reason: it.Reason,
		CreatedAt: it.CreatedAt, CreatedBy: it.CreatedBy, Active: it.Restored == nil,
	}
	if it.Before != 0 {
		before := it.Before.Time()
		d.IssuedBefore = &before
	}
	if r := it.Restored; r != nil {
		d.RestoredAt, d.RestoredBy, d.RestoredRevision = &r.At, r.By, r.Revision
	}
	return d
}

// Applied says how far a change has got. Every replica means those connected
// now and those lost less than a minute ago.
type Applied struct {
	Applied   int      `json:"applied" doc:"Replicas that have it in force"`
	Accepting int      `json:"accepting" doc:"Those of applied that accept tokens of the issuer; all of them where the change is about several issuers"`
	Total     int      `json:"total" doc:"Replicas connected now or lost less than a minute ago"`
	Pending   []string `json:"pending" doc:"Names of those that have not" nullable:"false"`
}

// Replica is a follower of the feed.
type Replica struct {
	Name       string     `json:"name"`
	Credential string     `json:"credential,omitempty" doc:"Name of its feed token"`
	Connected  bool       `json:"connected"`
	Revision   uint64     `json:"revision" doc:"The last one it has in force"`
	Behind     uint64     `json:"behind" doc:"How many revisions it lacks"`
	Entries    uint64     `json:"entries" doc:"How many revocations it holds"`
	LastAck    *time.Time `json:"last_ack,omitempty"`
	Issuers    []string   `json:"issuers" doc:"Whose tokens it accepts; null: it does not report them, and counts as accepting every issuer"`
	Version    string     `json:"version,omitempty" doc:"Of the product; absent: the first edition"`
	Rules      int        `json:"rules,omitempty" doc:"Version of its matching rules"`
}
