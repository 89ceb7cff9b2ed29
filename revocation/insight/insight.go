// Package insight has what replicas see of the tokens that pass them, in the
// form in which it travels to the control endpoint and to people, and how what
// several replicas saw becomes one.
//
// It is a leaf: the replicas' watching (authz/watch) makes these values, the
// feed carries them as JSON, the control endpoint merges them, keeps alerts and
// answers its API with them.
//
// # Trust
//
// Texts that come from tokens are the issuer's word and may be hostile. Who
// fills in these types cuts them to [MaxText] bytes and replaces what is not
// printable ([Text]), so that no log, terminal, label or webhook can be made
// to show something else. A raw token is never among them. Whoever receives
// them over the feed cleans them again: a replica is believed about what it
// saw, not about the form.
package insight

import (
	"encoding/hex"
	"time"

	"rescind/revocation"
	"rescind/revocation/printable"
)

// MaxText is the size of the longest text that is taken from a token, in bytes.
const MaxText = 256

// Text returns s in a form that can be shown: printable, valid UTF-8, at most
// MaxText bytes.
func Text(s string) string { return printable.Clean(s, MaxText) }

// Detector names what raises alerts. There are no others than these, so it can
// be a label of a metric.
type Detector string

const (
	RevokedTokenUsed  Detector = "revoked_token_used"  // the best sign of theft that there is
	DistrustedKeyUsed Detector = "distrusted_key_used" // a token of a key (kid) that is revoked
	BadSignatures     Detector = "bad_signatures"      // a burst, by issuer and network
	UnknownKeys       Detector = "unknown_keys"        // likewise
	WrongAlgorithms   Detector = "wrong_algorithms"    // likewise
	ManyNetworks      Detector = "token_from_many_networks"
	TwoNetworksAtOnce Detector = "token_from_two_networks_at_once"
	SubjectRate       Detector = "subject_rate"   // far above its own usual one
	TokenLifetime     Detector = "token_lifetime" // far longer-lived than its issuer's others
)

// Detectors are all of them.
var Detectors = []Detector{
	RevokedTokenUsed, DistrustedKeyUsed, BadSignatures, UnknownKeys, WrongAlgorithms,
	ManyNetworks, TwoNetworksAtOnce, SubjectRate, TokenLifetime,
}

// Alert says that something unusual was seen. The same thing seen again, by
// any replica, has the same Key: alerts of one Key are one alert whose Count
// grows. What a replica hands over is what it has seen since it last handed
// over that Key; [MergeAlerts] adds it up.
type Alert struct {
	ID       string    `json:"id,omitempty" doc:"Names the alert; made at the control endpoint"`
	Detector Detector  `json:"detector"`
	Key      string    `json:"key" doc:"What makes two sightings one alert: a hash"`
	Summary  string    `json:"summary" doc:"One sentence for people"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Count    uint64    `json:"count" doc:"Sightings"`
	Replicas []string  `json:"replicas,omitempty" doc:"Names of the replicas that reported it"`

	// Credentials and Hearsay are the control endpoint's own knowledge about
	// the report. What a replica writes there is overwritten.
	Credentials []string `json:"credentials,omitempty" doc:"Feed credentials of these replicas"`
	Hearsay     bool     `json:"hearsay,omitempty" doc:"None of these replicas reports that it accepts tokens of the issuer, so no action is carried out"`

	Issuer       string   `json:"issuer,omitempty"`
	Subject      string   `json:"subject,omitempty"`
	TokenID      string   `json:"token_id,omitempty" doc:"jti, or sha256: and the beginning of the hash of header.payload"`
	Session      string   `json:"session,omitempty"`
	Client       string   `json:"client,omitempty"`
	KeyID        string   `json:"kid,omitempty"`
	Policy       string   `json:"policy,omitempty"`
	RevocationID string   `json:"revocation_id,omitempty"`
	Networks     []string `json:"networks,omitempty" doc:"Source networks, as 203.0.113.0/24"`
}

// Dimension is what activity can be asked by.
type Dimension string

const (
	BySubject Dimension = "sub"
	ByToken   Dimension = "jti"
	BySession Dimension = "sid"
	ByClient  Dimension = "client"
)

// ActivityQuery asks what was seen of one subject, token, session or client.
type ActivityQuery struct {
	Issuer string    `json:"issuer,omitempty"` // empty: any
	By     Dimension `json:"by"`
	Value  string    `json:"value"`
}

// Activity is what was seen, within the window that a replica remembers. What a
// token did in one network, under one policy and with one outcome is forgotten
// a window after its last time; until then all of it counts, so that First may
// lie before Since.
type Activity struct {
	Since    time.Time         `json:"since" doc:"How far back the memory goes"`
	First    time.Time         `json:"first,omitzero"`
	Last     time.Time         `json:"last,omitzero"`
	Count    uint64            `json:"count"`
	Networks map[string]uint64 `json:"networks" doc:"Requests by source network"`
	Policies map[string]uint64 `json:"policies" doc:"Requests by policy of the route"`
	Outcomes map[string]uint64 `json:"outcomes" doc:"Requests by reason of the decision"`
	Partial  bool              `json:"partial,omitempty" doc:"Memory was short: there may have been more"`
}

// ImpactQuery is what a revocation would be about, in the form in which a
// replica is asked about it. No raw token is in it: see [ImpactQueryOf].
type ImpactQuery struct {
	Issuer string         `json:"issuer"`
	Claims map[string]any `json:"claims,omitempty"`
	KeyID  string         `json:"kid,omitempty"`
	Hash   string         `json:"hash,omitempty" doc:"SHA-256 of header.payload, in hex"`
	All    bool           `json:"all,omitempty"`
	Before time.Time      `json:"issued_before,omitzero" doc:"Left out: whatever the iat"`
}

// ImpactQueryOf asks about r.
func ImpactQueryOf(r *revocation.Revocation) ImpactQuery {
	q := ImpactQuery{Issuer: r.Issuer, KeyID: r.Target.KeyID, All: r.Target.Kind == revocation.KindAll}
	if r.Target.Kind == revocation.KindToken {
		q.Hash = hex.EncodeToString(r.Target.Token[:])
	}
	for _, c := range r.Target.Claims {
		if q.Claims == nil {
			q.Claims = map[string]any{}
		}
		q.Claims[c.Name] = c.Value.JSON()
	}
	if r.Before != 0 && !r.Block {
		q.Before = r.Before.Time()
	}
	return q
}

// Impact is how much of what was seen lately a revocation would have hit.
// Requests and Total are counted over the tokens that are remembered, so that
// their ratio is a share of the traffic.
type Impact struct {
	Since    time.Time `json:"since"`
	Tokens   uint64    `json:"tokens" doc:"Distinct tokens seen that it would deny"`
	Subjects uint64    `json:"subjects"`
	Sessions uint64    `json:"sessions"`
	Requests uint64    `json:"requests" doc:"Requests with these tokens"`
	Total    uint64    `json:"total" doc:"All allowed requests in the same time"`
	Partial  bool      `json:"partial,omitempty" doc:"Memory was short, or a claim is not remembered: the numbers say what is known"`

	// HyperLogLog sketches, so that what two replicas saw is counted once.
	// [MergeImpacts] leaves them out.
	TokensSketch   []byte `json:"tokens_sketch,omitempty"`
	SubjectsSketch []byte `json:"subjects_sketch,omitempty"`
	SessionsSketch []byte `json:"sessions_sketch,omitempty"`
}
