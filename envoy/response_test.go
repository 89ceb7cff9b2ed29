package envoy

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"rescind/authz"
	"rescind/revocation"
)

// published is the published answer for each reason.
var published = map[authz.Reason]struct {
	code, http int
	error      string
	retry      bool
}{
	"no_token":              {16, 401, "", false},
	"bad_request":           {3, 400, "invalid_request", false},
	"malformed":             {16, 401, "invalid_token", false},
	"wrong_type":            {16, 401, "invalid_token", false},
	"untrusted_issuer":      {16, 401, "invalid_token", false},
	"unsupported_algorithm": {16, 401, "invalid_token", false},
	"unknown_key":           {16, 401, "invalid_token", false},
	"ambiguous_key":         {16, 401, "invalid_token", false},
	"bad_signature":         {16, 401, "invalid_token", false},
	"expired":               {16, 401, "invalid_token", false},
	"not_yet_valid":         {16, 401, "invalid_token", false},
	"lifetime_too_long":     {16, 401, "invalid_token", false},
	"too_old":               {16, 401, "invalid_token", false},
	"wrong_audience":        {16, 401, "invalid_token", false},
	"missing_claim":         {16, 401, "invalid_token", false},
	"unproven":              {16, 401, "invalid_token", false},
	"status_refused":        {16, 401, "invalid_token", false},
	"revoked":               {16, 401, "invalid_token", false},
	"insufficient_scope":    {7, 403, "insufficient_scope", false},
	"claim_refused":         {7, 403, "insufficient_scope", false},
	"unknown_policy":        {7, 403, "", false},
	"keys_unavailable":      {14, 503, "", true},
	"status_unavailable":    {14, 503, "", true},
	"not_ready":             {14, 503, "", true},
	"stale":                 {14, 503, "", true},
	"internal":              {14, 503, "", true},
}

func headersOf(t testing.TB, options []*corev3.HeaderValueOption) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, o := range options {
		if o.AppendAction != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s has action %s, want it to replace the client's own", o.Header.Key, o.AppendAction)
		}
		if _, twice := got[o.Header.Key]; twice || o.Header.Key != strings.ToLower(o.Header.Key) {
			t.Errorf("%s is there twice, or not in lower case, want it once in lower case", o.Header.Key)
		}
		got[o.Header.Key] = o.Header.Value
	}
	return got
}

func TestDenials(t *testing.T) {
	for reason, want := range published {
		t.Run(string(reason), func(t *testing.T) {
			d := authz.Decision{Reason: reason, ID: "id", Policy: "p", Issuer: "i", Subject: "s", TokenID: "j", Revision: 7, RevocationID: revocation.ID{Revision: 5}}
			r := response(&d, false)
			denied := r.GetDeniedResponse()
			if int(r.Status.Code) != want.code || int(denied.GetStatus().GetCode()) != want.http {
				t.Errorf("code %d, HTTP %d, want %d, %d", r.Status.Code, denied.GetStatus().GetCode(), want.code, want.http)
			}
			headers := headersOf(t, denied.Headers)
			if headers["content-type"] != "application/json" || headers["cache-control"] != "no-store" {
				t.Errorf("headers %v, want JSON and no-store", headers)
			}
			if (headers["retry-after"] != "") != want.retry {
				t.Errorf("Retry-After: %q, want one: %t", headers["retry-after"], want.retry)
			}
			challenge := headers["www-authenticate"]
			if !strings.HasPrefix(challenge, `Bearer realm="rescind"`) || strings.Contains(challenge, "error=") != (want.error != "") || !strings.Contains(challenge, want.error) {
				t.Errorf("WWW-Authenticate: %s, want the realm and error %q", challenge, want.error)
			}
			var body map[string]string
			if err := json.Unmarshal([]byte(denied.Body), &body); err != nil || body["error"] != want.error || body["error_description"] == "" {
				t.Errorf("body %s, want error %q and a description", denied.Body, want.error)
			}
			m := r.DynamicMetadata.AsMap()
			if m["decision"] != "deny" || m["reason"] != string(reason) || m["decision_id"] != "id" || m["policy"] != "p" || m["issuer"] != "i" || m["subject"] != "s" || m["token_id"] != "j" || m["revision"] != 7.0 {
				t.Errorf("metadata %v, want every member of the decision", m)
			}
			if _, named := m["revocation_id"]; named != (reason == authz.Revoked) || named && m["revocation_id"] != "r5.0" {
				t.Errorf("metadata %v, want revocation_id r5.0 only for revoked", m)
			}
			if _, stale := m["stale"]; stale {
				t.Errorf("metadata %v, want no stale", m)
			}
		})
	}
}

// A denial by the issuer's own list has no revocation of ours to name.
func TestDenialByAStatusList(t *testing.T) {
	m := response(&authz.Decision{Reason: authz.Revoked, Detail: authz.ByStatusList}, false).DynamicMetadata.AsMap()
	if _, named := m["revocation_id"]; named || m["detail"] != "status_list" {
		t.Errorf("metadata %v, want the detail status_list and no revocation_id", m)
	}
}

func TestScopeStandsInTheChallenge(t *testing.T) {
	r := response(&authz.Decision{Reason: authz.InsufficientScope, Challenge: authz.Challenge{Scope: "reports:read openid"}}, false)
	if got := headersOf(t, r.GetDeniedResponse().Headers)["www-authenticate"]; !strings.HasSuffix(got, `, scope="reports:read openid"`) || !strings.Contains(got, `error="insufficient_scope"`) {
		t.Errorf("WWW-Authenticate: %s, want the error and the scope", got)
	}
}

func TestGRPCCallersGetTheCode(t *testing.T) {
	for reason, want := range published {
		d := authz.Decision{Reason: reason}
		status := headersOf(t, response(&d, true).GetDeniedResponse().Headers)["grpc-status"]
		if status == "" || status == "0" || status != map[int]string{3: "3", 7: "7", 14: "14", 16: "16"}[want.code] {
			t.Errorf("%s: grpc-status %q, want %d", reason, status, want.code)
		}
		if _, there := headersOf(t, response(&d, false).GetDeniedResponse().Headers)["grpc-status"]; there {
			t.Errorf("%s: a caller that is not gRPC gets a grpc-status, want none", reason)
		}
	}
}

func TestAllowed(t *testing.T) {
	d := authz.Decision{Allow: true, Reason: authz.OK, Set: []authz.Header{{Name: "x-jwt-subject", Value: "alice"}}, Remove: []string{"x-jwt-id"}, Stale: true}
	r := response(&d, false)
	ok := r.GetOkResponse()
	if r.Status.Code != 0 || ok == nil || headersOf(t, ok.Headers)["x-jwt-subject"] != "alice" || len(ok.HeadersToRemove) != 1 || ok.HeadersToRemove[0] != "x-jwt-id" {
		t.Errorf("%v, want OK, x-jwt-subject set and x-jwt-id removed", r)
	}
	if m := r.DynamicMetadata.AsMap(); m["decision"] != "allow" || m["reason"] != "ok" || m["stale"] != true {
		t.Errorf("metadata %v, want allow, ok and stale", m)
	}
}

// The answer to any decision allows if the decision allows, and never otherwise,
// by any of the ways in which Envoy can be told to.
func TestNoDenialAllows(t *testing.T) {
	reasons := slices.Sorted(maps.Keys(published))
	reasons = append(reasons, authz.OK, authz.NoTokenAllowed, "", "other")
	rapid.Check(t, func(t *rapid.T) {
		d := authz.Decision{
			Allow:    rapid.Bool().Draw(t, "allow"),
			Reason:   rapid.SampledFrom(reasons).Draw(t, "reason"),
			Policy:   rapid.String().Draw(t, "policy"),
			Subject:  rapid.String().Draw(t, "subject"),
			Revision: rapid.Uint64().Draw(t, "revision"),
			Stale:    rapid.Bool().Draw(t, "stale"),
			Set:      []authz.Header{{Name: "x-jwt-subject", Value: "alice"}},
		}
		r := response(&d, rapid.Bool().Draw(t, "grpc"))
		_, denied := r.HttpResponse.(*authv3.CheckResponse_DeniedResponse)
		_, ok := r.HttpResponse.(*authv3.CheckResponse_OkResponse)
		if r.Status == nil || (r.Status.Code == 0) != d.Allow || ok != d.Allow || denied == d.Allow {
			t.Fatalf("%+v is answered with %v, want allowed %t in every part", d, r, d.Allow)
		}
		if denied && (r.GetDeniedResponse().GetStatus().GetCode() < 400 || strings.Contains(r.String(), "alice")) {
			t.Fatalf("%+v is answered with %v, want an HTTP error without the claims", d, r)
		}
		if _, err := proto.Marshal(r); err != nil {
			t.Fatalf("the answer to %+v: got %v, want it encoded", d, err)
		}
		if err := r.ValidateAll(); err != nil {
			t.Fatalf("the answer to %+v: got %v, want it valid", d, err)
		}
	})
}

func TestMetadataNamesWhatObserveWouldDeny(t *testing.T) {
	for would, want := range map[authz.Reason]any{"": nil, authz.TooOld: "too_old"} {
		d := authz.Decision{Allow: true, Reason: authz.OK, Policy: "reports", WouldDeny: would}
		m := response(&d, false).DynamicMetadata.AsMap()
		if m["would_deny"] != want || m["decision"] != "allow" || m["reason"] != "ok" {
			t.Errorf("would deny %q: metadata %v, want would_deny %v, allow, ok", would, m, want)
		}
	}
}
