package control

import (
	"time"

	"rescind/revocation/ledger"
)

// Document is a revocation as the API answers it.
type Document struct {
	ID       string `json:"id" doc:"The ID of the revocation" example:"r17.0"`
	Revision uint64 `json:"revision" doc:"The revision of the log that made it"`
	Issuer   string `json:"issuer" doc:"The iss of the tokens, byte for byte"`
	Target
	IssuedBefore     *time.Time `json:"issued_before,omitempty" doc:"Tokens with an earlier iat are denied, and tokens without iat; absent: all tokens, with any iat"`
	Block            bool       `json:"block" doc:"Denies tokens with any iat, also tokens of a later login"`
	ExpiresAt        time.Time  `json:"expires_at" doc:"The end of the revocation"`
	Reason           string     `json:"reason,omitempty"`
	CreatedAt        time.Time  `json:"created_at"`
	CreatedBy        string     `json:"created_by" doc:"Name of the credential"`
	Active           bool       `json:"active" doc:"False once it is restored"`
	RestoredAt       *time.Time `json:"restored_at,omitempty"`
	RestoredBy       string     `json:"restored_by,omitempty"`
	RestoredRevision uint64     `json:"restored_revision,omitempty"`
	Replicas         *Applied   `json:"replicas,omitempty" doc:"With wait: the replicas that have it in force"`

	// The answer to the request that made the revocation has these.
	Seen     *ledger.Seen `json:"seen,omitempty" doc:"The traffic seen lately that it hits"`
	Warnings []string     `json:"warnings,omitempty" doc:"Effects that the caller may not expect"`
}

// Target is the target of a revocation as the API writes it.
type Target = ledger.Target

// documentOf returns the document of a revocation.
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

// Applied says on how many replicas a change is in force. Every replica means the
// replicas connected now and those lost less than a minute ago.
type Applied struct {
	Applied   int      `json:"applied" doc:"Replicas that have it in force"`
	Accepting int      `json:"accepting" doc:"Replicas of applied that accept tokens of the issuer; all of them if the change has several issuers"`
	Total     int      `json:"total" doc:"Replicas connected now or lost less than a minute ago"`
	Pending   []string `json:"pending" doc:"Names of the replicas that do not have it in force yet" nullable:"false"`
}

// Replica is a follower of the feed.
type Replica struct {
	Name       string     `json:"name"`
	Credential string     `json:"credential,omitempty" doc:"Name of its feed token"`
	Connected  bool       `json:"connected"`
	Revision   uint64     `json:"revision" doc:"The last revision that it has in force"`
	Behind     uint64     `json:"behind" doc:"Number of revisions that it lacks"`
	Entries    uint64     `json:"entries" doc:"Number of revocations that it holds"`
	LastAck    *time.Time `json:"last_ack,omitempty"`
	Issuers    []string   `json:"issuers" doc:"The issuers that it accepts; null: it does not report them, and counts as accepting every issuer"`
	Version    string     `json:"version,omitempty" doc:"Version of rescind; absent: the first edition"`
	Rules      int        `json:"rules,omitempty" doc:"Version of its matching rules"`
	Incomplete bool       `json:"incomplete,omitempty" doc:"It holds other revocations than the log; it loads them again, and counts as pending"`
}
