package lint

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cache/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	jwtauthnv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	localratev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	ratev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	protocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The messages of Envoy whose fields are known, with those below them.
var envoyRoots = []proto.Message{
	&bootstrapv3.Bootstrap{},
	&adminv3.ConfigDump{}, &adminv3.BootstrapConfigDump{}, &adminv3.ListenersConfigDump{}, &adminv3.ClustersConfigDump{},
	&adminv3.RoutesConfigDump{}, &adminv3.ScopedRoutesConfigDump{}, &adminv3.EcdsConfigDump{},
	&filev3.FileAccessLog{}, &streamv3.StdoutAccessLog{}, &streamv3.StderrAccessLog{},
	&cachev3.CacheConfig{}, &corsv3.Cors{}, &corsv3.CorsPolicy{}, &extauthzv3.ExtAuthz{}, &extauthzv3.ExtAuthzPerRoute{},
	&extprocv3.ExternalProcessor{}, &extprocv3.ExtProcPerRoute{}, &faultv3.HTTPFault{}, &grpcstatsv3.FilterConfig{},
	&mutationv3.HeaderMutation{}, &mutationv3.HeaderMutationPerRoute{}, &healthv3.HealthCheck{},
	&jwtauthnv3.JwtAuthentication{}, &jwtauthnv3.PerRouteConfig{}, &localratev3.LocalRateLimit{},
	&luav3.Lua{}, &luav3.LuaPerRoute{}, &ratev3.RateLimit{}, &ratev3.RateLimitPerRoute{},
	&rbacv3.RBAC{}, &rbacv3.RBACPerRoute{}, &routerv3.Router{}, &hcmv3.HttpConnectionManager{},
	&tcpv3.TcpProxy{}, &matchingv3.ExtensionWithMatcher{}, &connectionsv3.DownstreamConnectionsConfig{}, &previousv3.PreviousHostsPredicate{},
	&tlsv3.UpstreamTlsContext{}, &tlsv3.DownstreamTlsContext{}, &tlsv3.Secret{}, &protocolv3.HttpProtocolOptions{},
}

// fieldsOf returns the table of the messages: a line for each, its name and its
// fields.
func fieldsOf(roots []proto.Message) string {
	lines := map[string]string{}
	var add func(m protoreflect.MessageDescriptor)
	add = func(m protoreflect.MessageDescriptor) {
		name := string(m.FullName())
		if _, done := lines[name]; done {
			return
		}
		lines[name] = ""
		var fields []string
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			fields = append(fields, string(f.Name())+typeOf(f, add))
		}
		slices.Sort(fields)
		lines[name] = strings.TrimSpace(name + " " + strings.Join(fields, " "))
	}
	for _, r := range roots {
		add(r.ProtoReflect().Descriptor())
	}
	all := make([]string, 0, len(lines))
	for _, line := range lines {
		all = append(all, line+"\n")
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// typeOf returns the mark of a field's type behind the name of the field.
func typeOf(f protoreflect.FieldDescriptor, add func(protoreflect.MessageDescriptor)) string {
	mark, m := "=", f.Message()
	if f.IsMap() {
		mark, m = "={}", f.MapValue().Message()
	}
	switch {
	case m == nil && f.IsMap():
		return "={}"
	case m == nil:
		return ""
	case m.FullName() == "google.protobuf.Any":
		return mark + "*"
	case m.FullName() == "google.protobuf.Struct" || m.FullName() == "google.protobuf.Value":
		return mark + "?"
	case m.FullName().Parent() == "google.protobuf":
		return strings.TrimSuffix(mark, "=") // a wrapper, a duration or a time is a scalar in JSON
	}
	add(m)
	return mark + string(m.FullName())
}

// The table of known fields is that of the version of Envoy that this module
// uses. RESCIND_UPDATE=1 writes it.
func TestFieldsOfEnvoy(t *testing.T) {
	want := fieldsOf(envoyRoots)
	if os.Getenv("RESCIND_UPDATE") != "" {
		if err := os.WriteFile("envoy.fields", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("envoy.fields")
	if err != nil || string(got) != want {
		t.Errorf("envoy.fields: %v, want it made from the types of this version of Envoy; RESCIND_UPDATE=1 go test ./envoy/lint -run TestFieldsOfEnvoy writes it", fmt.Sprint(err))
	}
}
