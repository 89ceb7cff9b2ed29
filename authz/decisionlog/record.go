package decisionlog

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

// Record holds the recorded parts of one decision. It refers to no memory of the
// request or of the decision.
type Record struct {
	At   time.Time
	Took time.Duration
	// Trace is the span of the decision, or else the span that the request
	// belongs to.
	Trace trace.SpanContext
	// Rate is the share of decisions like this one that are recorded. 0 stands
	// for an unknown rate.
	Rate float64

	allow, stale, byGateway bool
	reason                  authz.Reason
	status                  int // of the answer; 0 if allowed
	source                  netip.Prefix
	method                  string // of [methods]
	revision                uint64

	// Texts as they came, but cut by copyTexts.
	id, policy, detail, issuer, subject, tokenID, session, client, keyID, requestID, revocation, wouldDeny, path, host string

	// Of a summary alone. It stands for suppressed denials from one network, or
	// from elsewhere: the networks that are not told apart.
	suppressed int
	since      time.Time // of the first one
	elsewhere  bool

	// The token's own word, on a denial before its signature was verified.
	unverifiedIssuer, unverifiedKey string
}

// Attributes without a name in OpenTelemetry.
const (
	keyID        = attribute.Key("rescind.decision.id")
	keyOutcome   = attribute.Key("rescind.decision.outcome")
	keyReason    = attribute.Key("rescind.decision.reason")
	keyDetail    = attribute.Key("rescind.decision.detail")
	keyDuration  = attribute.Key("rescind.decision.duration")
	keyRate      = attribute.Key("rescind.decision.sample_rate")
	keyWouldDeny = attribute.Key("rescind.decision.would_deny")
	keyPolicy    = attribute.Key("rescind.policy")
	keyIssuer    = attribute.Key("rescind.token.issuer")
	keyToken     = attribute.Key("rescind.token.id")
	keyKey       = attribute.Key("rescind.token.key_id")

	keyUnverifiedIssuer = attribute.Key("rescind.token.unverified.issuer")
	keyUnverifiedKey    = attribute.Key("rescind.token.unverified.key_id")

	keyClient    = attribute.Key("rescind.token.client_id")
	keyRevision  = attribute.Key("rescind.revocations.revision")
	keyStale     = attribute.Key("rescind.revocations.stale")
	keyRevokedBy = attribute.Key("rescind.revocations.id")
	keyByGateway = attribute.Key("rescind.decision.by_gateway")

	keySuppressed = attribute.Key("rescind.decisions.suppressed")
	keySince      = attribute.Key("rescind.decisions.since")
	keyElsewhere  = attribute.Key("rescind.decisions.other_networks")
)

// NewRecord returns the record of a decision d about r. r may be nil.
func NewRecord(r *authz.Request, d *authz.Decision, at time.Time, took time.Duration) *Record {
	out := &Record{
		At: at, Took: took,
		allow: d.Allow, stale: d.Stale, byGateway: d.ByGateway, reason: d.Reason, wouldDeny: string(d.WouldDeny), revision: d.Revision,
		issuer: d.Issuer, // of the configuration
		id:     d.IDText(), policy: d.Policy, detail: d.Detail, subject: d.Subject, tokenID: d.TokenID,
	}
	if f := d.Facts; f != nil {
		out.session, out.client, out.keyID = f.Session, f.Clients.First(), f.KeyID
	} else {
		out.unverifiedIssuer, out.unverifiedKey = d.Unverified.Issuer, d.Unverified.KeyID
	}
	if r != nil {
		out.source = networkOf(r.Source)
		out.path, out.host = pathOf(r.Path), r.Host
		out.readHeaders(r.Headers)
	}
	copyTexts(&out.id, &out.policy, &out.detail, &out.subject, &out.tokenID, &out.session, &out.client, &out.keyID, &out.requestID, &out.path, &out.host, &out.unverifiedIssuer, &out.unverifiedKey)
	if !d.Allow {
		out.status = d.Answer().HTTP
	}
	if d.Reason == authz.Revoked && d.Detail != authz.ByStatusList {
		out.revocation = d.RevocationID.String()
	}
	if d.TokenID == "" && d.Facts != nil {
		out.tokenID = "sha256:" + hex.EncodeToString(d.Facts.Hash[:8])
	}
	return out
}

// readHeaders takes the method and the request ID from the first header of each.
func (r *Record) readHeaders(headers []authz.Header) {
	for i := range headers {
		switch h := &headers[i]; {
		case r.method == "" && h.Name == ":method":
			r.method = methodOf(h.Value)
		case r.requestID == "" && strings.EqualFold(h.Name, "x-request-id"):
			r.requestID = h.Value
		}
	}
}

// pathOf returns a path without its query and its fragment, and with a mark in
// the place of each part that looks like a token.
func pathOf(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if !strings.Contains(path, "eyJ") {
		return path // the common case, without an allocation
	}
	parts := strings.Split(path[:min(len(path), maxPath)], "/")
	for i, part := range parts {
		if strings.Contains(part, "eyJ") {
			parts[i] = "[a token]"
		}
	}
	return strings.Join(parts, "/")
}

// maxPath bounds the path in which tokens are looked for. The shown path is
// shorter.
const maxPath = 8 << 10

// methods are the methods with a name in OpenTelemetry. Others are _OTHER.
var methods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "CONNECT", "TRACE"}

func methodOf(s string) string {
	for _, m := range methods {
		if s == m {
			return m
		}
	}
	return "_OTHER"
}

// networkOf returns the /24 or /48 of an address, so that no record identifies a
// person by address.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// copyTexts replaces each text with a copy of its beginning, because an observer
// must not keep the texts of a request. All copies share one allocation. A copy
// may be one byte longer than a shown text, so that a cut text can be marked.
func copyTexts(texts ...*string) {
	size := 0
	for _, t := range texts {
		*t = (*t)[:min(len(*t), insight.MaxText+1)]
		size += len(*t)
	}
	var all strings.Builder
	all.Grow(size)
	for _, t := range texts {
		all.WriteString(*t)
	}
	rest := all.String()
	for _, t := range texts {
		n := len(*t)
		*t, rest = rest[:n], rest[n:]
	}
}

// Attributes returns the attributes of r, cleaned. Unknown ones are left out.
func (r *Record) Attributes() []attribute.KeyValue {
	all := r.appendAttributes(make([]attribute.KeyValue, 0, 24))
	if r.requestID != "" {
		all = append(all, semconv.HTTPRequestHeader("x-request-id", safe(r.requestID)))
	}
	return all
}

// appendAttributes appends all attributes but the request ID, which is an array.
func (r *Record) appendAttributes(all []attribute.KeyValue) []attribute.KeyValue {
	outcome := "deny"
	if r.allow {
		outcome = "allow"
	}
	if r.suppressed > 0 {
		return r.appendSummary(append(all, keyOutcome.String(outcome)))
	}
	all = append(all,
		keyID.String(r.id), keyOutcome.String(outcome), keyReason.String(string(r.reason)),
		keyDuration.Float64(r.Took.Seconds()), keyRevision.Int64(int64(r.revision)))
	for _, text := range []struct {
		key   attribute.Key
		value string
	}{
		{keyDetail, r.detail}, {keyWouldDeny, r.wouldDeny}, {keyPolicy, r.policy}, {keyIssuer, r.issuer}, {keyToken, r.tokenID},
		{keyKey, r.keyID}, {keyClient, r.client}, {semconv.UserIDKey, r.subject}, {semconv.SessionIDKey, r.session},
		{keyUnverifiedIssuer, r.unverifiedIssuer}, {keyUnverifiedKey, r.unverifiedKey},
		{keyRevokedBy, r.revocation}, {semconv.HTTPRequestMethodKey, r.method},
		{semconv.ServerAddressKey, r.host}, {semconv.URLPathKey, r.path},
	} {
		if text.value != "" {
			all = append(all, text.key.String(safe(text.value)))
		}
	}
	if r.status != 0 {
		all = append(all, semconv.HTTPResponseStatusCode(r.status))
	}
	if r.source.IsValid() {
		all = append(all, semconv.ClientAddress(r.source.String()))
	}
	if r.stale {
		all = append(all, keyStale.Bool(true))
	}
	if r.byGateway {
		all = append(all, keyByGateway.Bool(true))
	}
	if r.Rate > 0 {
		all = append(all, keyRate.Float64(r.Rate))
	}
	return all
}

// appendSummary appends the other attributes of a summary.
func (r *Record) appendSummary(all []attribute.KeyValue) []attribute.KeyValue {
	all = append(all, keyReason.String(string(r.reason)), keySuppressed.Int(r.suppressed),
		keySince.String(r.since.UTC().Format(timestamp)), keyRate.Float64(r.Rate))
	if r.wouldDeny != "" {
		all = append(all, keyWouldDeny.String(r.wouldDeny))
	}
	if r.source.IsValid() {
		all = append(all, semconv.ClientAddress(r.source.String()))
	}
	if r.elsewhere {
		all = append(all, keyElsewhere.Bool(true))
	}
	return all
}

// event returns the name of the event in OpenTelemetry.
func (r *Record) event() string {
	if r.suppressed > 0 {
		return SummaryName
	}
	return EventName
}

// safe returns s cleaned, cut, and replaced if it looks like a token. A client may
// send its token as x-request-id, and an issuer may put anything into a claim.
func safe(s string) string {
	if strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") >= 2 {
		return "[a token]"
	}
	if len(s) <= insight.MaxText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return s // the common case, without an allocation
	}
	return printable.Clean(s, insight.MaxText)
}

// severity returns the severity text of OpenTelemetry.
func (r *Record) severity() string {
	switch {
	case r.allow:
		return "INFO"
	case r.reason == authz.Internal:
		return "ERROR"
	}
	return "WARN"
}
