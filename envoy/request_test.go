package envoy

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"rescind/authz"
)

// asking is a Check about a request with these headers: merged ones as a map,
// raw ones as a list.
func asking(merged map[string]string, raw ...string) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{Headers: merged}
	for i := 0; i < len(raw); i += 2 {
		if http.HeaderMap == nil {
			http.HeaderMap = &corev3.HeaderMap{}
		}
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: raw[i], RawValue: []byte(raw[i+1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: http}}}
}

func TestRequestOf(t *testing.T) {
	both := asking(map[string]string{"authorization": "Bearer a"}, "authorization", "Bearer b", "x-a", "\xff")
	both.Attributes.Source = &authv3.AttributeContext_Peer{Certificate: "pem"}
	both.Attributes.ContextExtensions = map[string]string{"policy": "", "other": "x"}
	plainValue := asking(nil)
	plainValue.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "x-a", Value: "1"}, nil}}
	empty := ""
	for _, c := range []struct {
		name  string
		check *authv3.CheckRequest
		want  authz.Request
	}{
		{"merged", asking(map[string]string{"authorization": "Bearer a"}), authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer a"}}}},
		{"raw", asking(nil, "x-a", "1", "x-a", "2"), authz.Request{Headers: []authz.Header{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}}}},
		{"both, and everything else", both, authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer a"}, {Name: "authorization", Value: "Bearer b"}, {Name: "x-a", Value: "\xff"}}, Policy: &empty, Certificate: "pem"}},
		{"a value that is not raw, and no header", plainValue, authz.Request{Headers: []authz.Header{{Name: "x-a", Value: "1"}, {}}}},
		{"nil", nil, authz.Request{}},
		{"empty", &authv3.CheckRequest{}, authz.Request{}},
		{"not HTTP", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}}, authz.Request{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := requestOf(c.check)
			if !slices.Equal(got.Headers, c.want.Headers) || got.Certificate != c.want.Certificate || (got.Policy == nil) != (c.want.Policy == nil) || got.Policy != nil && *got.Policy != *c.want.Policy {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestFromGRPC(t *testing.T) {
	for value, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;v=1": true,
		"application/grpc-web": false, "application/json": false, "": false, "text/plain application/grpc": false,
	} {
		if got := fromGRPC(requestOf(asking(nil, "Content-Type", value))); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if fromGRPC(requestOf(asking(nil, "accept", "application/grpc"))) {
		t.Error("a request without a content type")
	}
}

func TestQuestionIsAskedAsEnvoyAsks(t *testing.T) {
	policy := "reports"
	r := requestOf(Question{Token: "a.b.c", Policy: &policy, Headers: []authz.Header{{Name: "X-JWT-Sub", Value: "root"}}}.request())
	if *r.Policy != policy || !slices.Contains(r.Headers, authz.Header{Name: "authorization", Value: "Bearer a.b.c"}) || !slices.Contains(r.Headers, authz.Header{Name: "x-jwt-sub", Value: "root"}) {
		t.Errorf("%+v", r)
	}
	without := requestOf(Question{}.request())
	if without.Policy != nil || slices.ContainsFunc(without.Headers, func(h authz.Header) bool { return strings.Contains(h.Name, "auth") && h.Name != ":authority" }) {
		t.Errorf("%+v", without)
	}
}
