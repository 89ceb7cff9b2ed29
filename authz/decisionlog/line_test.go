package decisionlog

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"rescind/authz"
	"rescind/revocation"
)

// published returns the compiled schema.
func published(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("line", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("line")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reasons returns the reasons of the schema. A test of package authz holds the
// schema to the reasons that exist.
func reasons(t testing.TB) []authz.Reason {
	t.Helper()
	var schema struct {
		Properties map[string]struct{ Enum []authz.Reason }
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	return schema.Properties["rescind.decision.reason"].Enum
}

// line returns the line for r and its members, checked against the schema.
func line(t testing.TB, s *jsonschema.Schema, r *Record) (text string, members map[string]any) {
	t.Helper()
	text = string(appendLine(nil, r, "replica-a", nil))
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		t.Fatalf("got %q, want one line", text)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("got the line %q with %v, want JSON", text, err)
	}
	if err := s.Validate(value); err != nil {
		t.Errorf("got the line %s with %v, want one that fits the schema", text, err)
	}
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatal(err)
	}
	return text, members
}

func denied() (*authz.Request, *authz.Decision) {
	return &authz.Request{
			Headers: []authz.Header{
				{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/secret?access_token=" + jwt}, {Name: "Authorization", Value: "Bearer " + jwt},
				{Name: "X-Request-Id", Value: "r-1"}, {Name: "traceparent", Value: parent},
			},
			Source: netip.MustParseAddr("203.0.113.77"), Path: "/orders/17?access_token=" + jwt, Host: "api.example:8443",
		}, &authz.Decision{
			Reason: authz.Revoked, ID: "D1", Policy: "default", Issuer: "https://idp.example/", Subject: "alice", TokenID: "t1",
			Facts:    &authz.Facts{KeyID: "k", Session: "s1", Clients: authz.Clients{"phone"}},
			Revision: 17, RevocationID: revocation.ID{}, Stale: true,
		}
}

func TestLine(t *testing.T) {
	s := published(t)
	r, d := denied()
	record := NewRecord(r, d, time.Date(2026, 11, 24, 7, 0, 0, 123456789, time.UTC), 30*time.Microsecond)
	record.Trace, record.Rate = Parent(r.Headers), 1
	text, got := line(t, s, record)
	for name, want := range map[string]any{
		"timestamp": "2026-11-24T07:00:00.123456Z", "event.name": "rescind.decision", "severity_text": "WARN",
		"service.name": "rescind-authz", "service.instance.id": "replica-a",
		"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
		"rescind.decision.id": "D1", "rescind.decision.outcome": "deny", "rescind.decision.reason": "revoked",
		"rescind.decision.duration": 3e-05, "rescind.decision.sample_rate": 1.0, "rescind.policy": "default",
		"rescind.token.issuer": "https://idp.example/", "rescind.token.id": "t1", "rescind.token.key_id": "k", "rescind.token.client_id": "phone",
		"user.id": "alice", "session.id": "s1", "client.address": "203.0.113.0/24", "http.request.method": "POST", "http.response.status_code": 401.0,
		"url.path": "/orders/17", "server.address": "api.example:8443",
		"rescind.revocations.revision": 17.0, "rescind.revocations.stale": true, "rescind.revocations.id": revocation.ID{}.String(),
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	if id, _ := got["http.request.header.x-request-id"].([]any); len(id) != 1 || id[0] != "r-1" || len(got) != 1 {
		t.Errorf("remaining members %v, want the request ID r-1 alone", got)
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "eyJ") {
		t.Errorf("got the line %s, want neither the query nor the token in it", text)
	}
}

// An incident with an unknown kid can be understood from the log alone. A token
// whose signature was verified has no unverified members.
func TestUnverifiedPartsOfAToken(t *testing.T) {
	s := published(t)
	const issuer, kid = "rescind.token.unverified.issuer", "rescind.token.unverified.key_id"
	long := strings.Repeat("k", 300)
	for _, c := range []struct {
		name            string
		d               authz.Decision
		wantIss, wantID any
	}{
		{"unknown_key", authz.Decision{Reason: authz.UnknownKey, Detail: "no such key", Unverified: authz.Unverified{Issuer: "https://idp.example/", KeyID: "2026-11"}}, "https://idp.example/", "2026-11"},
		{"untrusted_issuer", authz.Decision{Reason: authz.UntrustedIssuer, Unverified: authz.Unverified{Issuer: "https://other.example/"}}, "https://other.example/", nil},
		{"a long kid with a line break", authz.Decision{Reason: authz.UnknownKey, Unverified: authz.Unverified{KeyID: "\n" + long}}, nil, "\uFFFD" + long[:100]},
		{"a token as kid", authz.Decision{Reason: authz.UnknownKey, Unverified: authz.Unverified{KeyID: jwt}}, nil, "[a token]"},
		{"verified", authz.Decision{Reason: authz.Expired, Unverified: authz.Unverified{Issuer: "i", KeyID: "k"}, Facts: &authz.Facts{KeyID: "k"}}, nil, nil},
	} {
		c.d.ID = "D"
		record := NewRecord(&authz.Request{}, &c.d, time.Now(), 0)
		record.Rate = 1
		text, got := line(t, s, record)
		shown, _ := got[kid].(string)
		if len(shown) > 200 && len(shown) <= 256 { // cut
			got[kid] = shown[:103]
		}
		if got[issuer] != c.wantIss || got[kid] != c.wantID {
			t.Errorf("%s: got %s, want issuer %v and key ID %v", c.name, text, c.wantIss, c.wantID)
		}
	}
}

func TestPathOf(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "": "", "/a?b": "/a", "/a#b": "/a", "/a?b=/c#d": "/a", "*": "*",
		"/verify/" + jwt + "/x?y":          "/verify/[a token]/x",
		"/verify/t:" + jwt:                 "/verify/[a token]",
		"/eyJhbGciOiJSUzI1NiJ9/eyJzdWIiOi": "/[a token]/[a token]",
	} {
		if got := pathOf(path); got != want {
			t.Errorf("pathOf(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestLineOfAnythingFitsTheSchema(t *testing.T) {
	s := published(t)
	for _, reason := range reasons(t) {
		allow := reason == authz.OK || reason == authz.NoTokenAllowed
		_, got := line(t, s, &Record{Rate: .5, reason: reason, allow: allow, id: "x"})
		if got["rescind.decision.reason"] != string(reason) {
			t.Errorf("reason %v, want %s", got["rescind.decision.reason"], reason)
		}
		d := authz.Decision{ID: "x", Reason: reason, Allow: allow, Facts: &authz.Facts{Hash: [32]byte{0xab, 0xcd}}, WouldDeny: authz.TooOld}
		r := NewRecord(&authz.Request{Source: netip.MustParseAddr("2001:db8:1:2::3")}, &d, time.Now(), time.Second)
		r.Rate = 1
		_, got = line(t, s, r)
		if got["rescind.token.id"] != "sha256:abcd000000000000" || got["client.address"] != "2001:db8:1::/48" || got["rescind.decision.would_deny"] != "too_old" {
			t.Errorf("%s: %v, want the hash as token ID, a /48 as address, and would_deny too_old", reason, got)
		}
		if status, there := got["http.response.status_code"]; there == allow {
			t.Errorf("%s, allowed %t: status %v, want one only if denied", reason, allow, status)
		}
	}
	d := authz.Decision{ID: "x", Reason: authz.Internal} // a request that could not be read
	r := NewRecord(nil, &d, time.Now(), 0)
	r.Rate = 1
	if _, got := line(t, s, r); got["severity_text"] != "ERROR" {
		t.Errorf("an unreadable request: severity %v, want ERROR", got["severity_text"])
	}
}

// hostile returns the record of a decision with text wherever there can be one.
func hostile(text string) *Record {
	r := &authz.Request{Headers: []authz.Header{
		{Name: ":method", Value: text}, {Name: "x-request-id", Value: text}, {Name: "traceparent", Value: text}, {Name: text, Value: text},
	}, Source: netip.MustParseAddr("10.0.0.1")}
	d := &authz.Decision{
		ID: "x", Reason: authz.Revoked, Policy: text, Detail: text, Subject: text, TokenID: text,
		Facts: &authz.Facts{KeyID: text, Session: text, Clients: authz.Clients{text}},
	}
	record := NewRecord(r, d, time.Now(), time.Millisecond)
	record.Rate, record.Trace = 1, Parent(r.Headers)
	return record
}

var attacks = []string{
	strings.Repeat("a", 8<<10), strings.Repeat("\"", 8<<10), strings.Repeat("\xff", 8<<10), strings.Repeat("é", 4<<10),
	"a\nb\r\n{\"user.id\":\"root\"}", "\x1b[31mred\x1b]0;title\a", "ev\u202eil", "\u2028\u2029\x00\x7f", `","user.id":"root`, `\u000a`, "\xc3\x28", "</script>",
	jwt, "eyJ.." + strings.Repeat("x", 300),
}

func TestNothingIsInjected(t *testing.T) {
	s := published(t)
	for _, text := range attacks {
		out, got := line(t, s, hostile(text))
		if len(out) > 12<<10 {
			t.Errorf("%.20q: a line of %d bytes, want at most 12 KiB", text, len(out))
		}
		if subject, _ := got["user.id"].(string); subject == "" || subject == "root" {
			t.Errorf("%.40q: user.id %q, want some text that is not root", text, got["user.id"])
		}
		for _, r := range strings.TrimSuffix(out, "\n") {
			if !unicode.IsPrint(r) {
				t.Fatalf("%.40q: got %q in the line, want printable characters only", text, r)
			}
		}
		if strings.Contains(out, jwt) {
			t.Errorf("%.40q: got the line %s, want no token in it", text, out)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, text := range attacks {
		f.Add(text)
	}
	f.Add(parent)
	s := published(f)
	f.Fuzz(func(t *testing.T, text string) { line(t, s, hostile(text)) })
}
