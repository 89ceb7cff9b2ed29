package envoy

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"rescind/authz"
)

// asking returns the Check about a request with these headers: merged ones as a
// map, raw ones as a list.
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

func TestFromGRPC(t *testing.T) {
	for value, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;v=1": true,
		"application/grpc-web": false, "application/json": false, "": false, "text/plain application/grpc": false,
	} {
		if got := fromGRPC(&authz.Request{Headers: []authz.Header{{Name: "Content-Type", Value: value}}}); got != want {
			t.Errorf("content type %q is gRPC: %t, want %t", value, got, want)
		}
	}
	for name, r := range map[string]*authz.Request{"none": nil, "one without a content type": {Headers: []authz.Header{{Name: "accept", Value: "application/grpc"}}}} {
		if fromGRPC(r) {
			t.Errorf("a request, %s, counts as gRPC, want not", name)
		}
	}
}

func TestQuestionIsAskedAsEnvoyAsks(t *testing.T) {
	policy := "reports"
	r, _ := requestOf(Question{Token: "a.b.c", Policy: &policy, Headers: []authz.Header{{Name: "X-JWT-Sub", Value: "root"}}}.request())
	if *r.Policy != policy || !slices.Contains(r.Headers, authz.Header{Name: "authorization", Value: "Bearer a.b.c"}) || !slices.Contains(r.Headers, authz.Header{Name: "x-jwt-sub", Value: "root"}) {
		t.Errorf("%+v, want the policy, the token and the header in lower case", r)
	}
	without, _ := requestOf(Question{}.request())
	if without.Policy != nil || slices.ContainsFunc(without.Headers, func(h authz.Header) bool { return strings.Contains(h.Name, "auth") && h.Name != ":authority" }) {
		t.Errorf("%+v, want neither policy nor token", without)
	}
}
