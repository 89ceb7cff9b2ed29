// Package insight has the values that replicas report about the tokens that
// pass them, and the rules by which the reports of several replicas become one.
//
// The package is a leaf. A replica's watcher (authz/watch) makes these values,
// the feed carries them as JSON, and the control endpoint merges them, keeps
// alerts and answers its API with them.
//
// # Trust
//
// Texts from tokens are the issuer's word and may be hostile. The watcher cleans
// them with [Text], so that no log, terminal, label or webhook can be made to
// show another text. A raw token is never among them. The control endpoint
// cleans every report again: it believes a replica about the traffic, not about
// the form.
package insight

import (
	"crypto/sha256"
	"encoding/binary"
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

// Detector names a rule that raises alerts. The list is closed, so a detector can
// be a label of a metric.
type Detector string

const (
	RevokedTokenUsed  Detector = "revoked_token_used"  // the best sign of a theft
	DistrustedKeyUsed Detector = "distrusted_key_used" // a token of a key (kid) that is revoked
	BadSignatures     Detector = "bad_signatures"      // a burst, by issuer and network
	UnknownKeys       Detector = "unknown_keys"        // likewise
	WrongAlgorithms   Detector = "wrong_algorithms"    // likewise
	ManyNetworks      Detector = "token_from_many_networks"
	TwoNetworksAtOnce Detector = "token_from_two_networks_at_once"
	SubjectRate       Detector = "subject_rate"       // far above its own usual one
	TokenLifetime     Detector = "token_lifetime"     // far longer-lived than its issuer's others
	KnownTokenDenied  Detector = "known_token_denied" // a gateway would have let it through by itself
)

// Detectors lists every detector.
var Detectors = []Detector{
	RevokedTokenUsed, DistrustedKeyUsed, BadSignatures, UnknownKeys, WrongAlgorithms,
	ManyNetworks, TwoNetworksAtOnce, SubjectRate, TokenLifetime, KnownTokenDenied,
}

// AlertKey returns the key of an alert about a thing, which has these names. Every
// replica gives the same thing the same key.
func AlertKey(d Detector, of ...string) string {
	b := []byte("rescind alert 1\x00")
	for _, part := range append([]string{string(d)}, of...) {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Alert says that a replica saw something unusual. A later sighting of the same
// thing, by any replica, has the same Key. Alerts of one Key become one alert
// whose Count grows: a replica reports the sightings since its last report of
// that Key, and [MergeAlerts] adds them up.
type Alert struct {
	ID       string    `json:"id,omitempty" doc:"Names the alert; made at the control endpoint"`
	Detector Detector  `json:"detector"`
	Key      string    `json:"key" doc:"The same for the same thing: a hash"`
	Summary  string    `json:"summary" doc:"One sentence for people"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Count    uint64    `json:"count" doc:"Sightings"`
	Replicas []string  `json:"replicas,omitempty" doc:"Names of the replicas that reported it"`

	// Credentials and Hearsay are the control endpoint's own knowledge about
	// the report. The control endpoint overwrites the text of a replica there.
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

// Dimension is the claim by which activity is asked for.
type Dimension string

const (
	BySubject Dimension = "sub"
	ByToken   Dimension = "jti"
	BySession Dimension = "sid"
	ByClient  Dimension = "client"
)

// Dimensions lists every dimension.
var Dimensions = []Dimension{BySubject, ByToken, BySession, ByClient}

// ActivityQuery asks for the activity of one subject, token, session or client.
type ActivityQuery struct {
	Issuer string    `json:"issuer,omitempty"` // empty: any
	By     Dimension `json:"by"`
	Value  string    `json:"value"`
}

// Activity counts the requests within the window that a replica remembers. The
// replica counts the requests of a token by network, policy and outcome. It
// forgets such a count a window after the last request in it. Until then the
// whole count is in the answer, so First may lie before Since.
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

// ImpactQuery asks a replica for the traffic that one revocation hits. It never
// has a raw token: see [ImpactQueryOf].
type ImpactQuery struct {
	Issuer string         `json:"issuer"`
	Claims map[string]any `json:"claims,omitempty"`
	KeyID  string         `json:"kid,omitempty"`
	Hash   string         `json:"hash,omitempty" doc:"SHA-256 of header.payload, in hex"`
	All    bool           `json:"all,omitempty"`
	Before time.Time      `json:"issued_before,omitzero" doc:"Left out: tokens with any iat"`
}

// ImpactQueryOf returns the query about r.
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

// Impact is the part of the traffic seen lately that a revocation would have
// hit. Requests and Total count the requests with remembered tokens, so their
// ratio is a share of the traffic.
type Impact struct {
	Since    time.Time `json:"since"`
	Tokens   uint64    `json:"tokens" doc:"Distinct tokens seen that it would deny"`
	Subjects uint64    `json:"subjects"`
	Sessions uint64    `json:"sessions"`
	Requests uint64    `json:"requests" doc:"Requests with these tokens"`
	Total    uint64    `json:"total" doc:"All allowed requests in the same time"`
	Partial  bool      `json:"partial,omitempty" doc:"Memory was short, or a claim is not remembered: the numbers count the known part"`

	// HyperLogLog sketches. They make a token that two replicas saw count once.
	// [MergeImpacts] leaves them out.
	TokensSketch   []byte `json:"tokens_sketch,omitempty"`
	SubjectsSketch []byte `json:"subjects_sketch,omitempty"`
	SessionsSketch []byte `json:"sessions_sketch,omitempty"`
}
