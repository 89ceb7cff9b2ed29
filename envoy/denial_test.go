package envoy

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"rescind/authz"
)

// A denial quotes nothing of the request: not in the body, not in a header, not in
// the message of the status.
func TestDenialsEchoNothing(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	const mark = "m4rk"
	everywhere := map[string]any{"sub": mark, "jti": mark, "scope": mark, "client_id": mark, "x": map[string]any{mark: mark}}
	with := func(claims map[string]any) string {
		all := map[string]any{}
		for _, m := range []map[string]any{everywhere, claims} {
			for name, v := range m {
				all[name] = v
			}
		}
		return k.token(all)
	}
	unknown := mark
	seen := map[authz.Reason]bool{}
	for _, q := range []Question{
		{Token: mark}, {Token: mark + ".m4rk.m4rk"}, {Policy: &unknown}, {Token: with(map[string]any{"iss": mark})}, {Token: with(map[string]any{"aud": mark})},
		{Token: with(map[string]any{"exp": 1})}, {Token: with(map[string]any{"cnf": map[string]any{mark: mark}})}, {Token: with(map[string]any{"exp": mark})},
		{Token: with(nil) + "x"}, {Token: with(map[string]any{"exp": 1 << 39})}, {Token: with(map[string]any{"nbf": 1 << 39})},
		{Token: mark, Headers: []authz.Header{{Name: "authorization", Value: mark}}},
	} {
		r, err := s.Check(t.Context(), q.request())
		if err != nil || r.GetStatus().GetCode() == 0 {
			t.Fatalf("%+v: %v, %v, want a denial", q, r, err)
		}
		seen[authz.Reason(r.GetDynamicMetadata().AsMap()["reason"].(string))] = true
		r.DynamicMetadata = nil // the client does not get it
		if strings.Contains(fmt.Sprint(r), mark) {
			t.Errorf("%+v is answered with %v, want nothing of the request in it", q, r)
		}
	}
	if len(seen) < 9 {
		t.Errorf("the questions led to %v only, want at least 9 reasons", seen)
	}
}

// If a header has a value in both forms, the raw one counts. No header can be
// hidden behind the other form.
func TestTwoFormsOfAValue(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	good := "Bearer " + k.token(nil)
	header := func(name, value, raw string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: name, Value: value, RawValue: []byte(raw)}
	}
	for _, c := range []struct {
		name    string
		headers []*corev3.HeaderValue
		want    string
	}{
		{"raw", []*corev3.HeaderValue{header("authorization", "", good)}, "ok"},
		{"not raw", []*corev3.HeaderValue{header("authorization", good, "")}, "ok"},
		{"both, the raw one good", []*corev3.HeaderValue{header("authorization", "Bearer x", good)}, "ok"},
		{"both, the other one good", []*corev3.HeaderValue{header("authorization", good, "Bearer x")}, "malformed"},
		{"one in each form", []*corev3.HeaderValue{header("authorization", good, ""), header("authorization", "", good)}, "bad_request"},
		{"one in each form, in two cases", []*corev3.HeaderValue{header("Authorization", good, ""), header("AUTHORIZATION", "", good)}, "bad_request"},
		{"a second one that is empty", []*corev3.HeaderValue{header("authorization", "", good), header("authorization", "", "")}, "bad_request"},
		{"bytes that are not UTF-8", []*corev3.HeaderValue{header("authorization", "", good+"\xff")}, "bad_request"},
		{"another header", []*corev3.HeaderValue{header("proxy-authorization", "", good), header("x-authorization", "", good)}, "no_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := asking(nil)
			check.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: c.headers}
			if got := reasonOf(t, s, check); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if got := reasonOf(t, s, asking(map[string]string{"AuthoriZation": good})); got != "ok" {
		t.Errorf("merged, in mixed case: reason %s, want ok", got)
	}
}

func reasonOf(t *testing.T, s *Server, check *authv3.CheckRequest) any {
	t.Helper()
	r, err := s.Check(t.Context(), check)
	if err != nil {
		t.Fatal(err)
	}
	return r.GetDynamicMetadata().AsMap()["reason"]
}
