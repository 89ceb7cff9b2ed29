package envoy

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"rescind/authz"
)

func TestPolicyOfRouteMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		extension string // "": none
		metadata  map[string]any
		policy    string // "": none
		fromRoute bool
		refused   authz.Reason
	}{
		"neither":              {},
		"an extension alone":   {extension: "reports", policy: "reports"},
		"metadata alone":       {metadata: map[string]any{"policy": "reports"}, policy: "reports", fromRoute: true},
		"both agree":           {extension: "reports", metadata: map[string]any{"policy": "reports"}, policy: "reports", fromRoute: true},
		"they differ":          {extension: "reports", metadata: map[string]any{"policy": "public"}, refused: authz.UnknownPolicy},
		"differ in case":       {extension: "reports", metadata: map[string]any{"policy": "Reports"}, refused: authz.UnknownPolicy},
		"a number":             {metadata: map[string]any{"policy": 7.0}, refused: authz.UnknownPolicy},
		"null":                 {metadata: map[string]any{"policy": nil}, refused: authz.UnknownPolicy},
		"an object":            {metadata: map[string]any{"policy": map[string]any{"policy": "reports"}}, refused: authz.UnknownPolicy},
		"metadata without one": {extension: "reports", metadata: map[string]any{"other": "x"}, policy: "reports"},
	} {
		check := asking(map[string]string{"a": "b"})
		if c.extension != "" {
			check.Attributes.ContextExtensions = map[string]string{"policy": c.extension}
		}
		if c.metadata != nil {
			s, err := structpb.NewStruct(c.metadata)
			if err != nil {
				t.Fatal(err)
			}
			other, _ := structpb.NewStruct(map[string]any{"policy": "other"})
			check.Attributes.RouteMetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"rescind": s, "envoy.lb": other}}
		}
		wire, err := proto.Marshal(check)
		if err != nil {
			t.Fatal(err)
		}
		r, refused := new(reading).readCheck(mem.BufferSlice{mem.SliceBuffer(wire)})
		if refused != c.refused {
			t.Errorf("%s: got refused %q, want %q", name, refused, c.refused)
			continue
		}
		got := ""
		if r.Policy != nil {
			got = *r.Policy
		}
		if refused == "" && (got != c.policy || r.FromRoute != c.fromRoute) {
			t.Errorf("%s: got policy %q, from the route %v, want %q and %v", name, got, r.FromRoute, c.policy, c.fromRoute)
		}
	}
}
