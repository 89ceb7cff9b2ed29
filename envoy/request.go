package envoy

import (
	"net/netip"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"rescind/authz"
)

// policyExtension is the context extension by which a route names its policy.
const policyExtension = "policy"

// requestOf reads what Envoy asks about. What is not about an HTTP request
// comes out without headers, which is denied.
//
// With encode_raw_headers Envoy fills in header_map, repeated headers repeated;
// otherwise headers, repeated ones merged by a comma. Both are read whatever
// the configuration seems to be: an Authorization header in each is two.
func requestOf(check *authv3.CheckRequest) *authz.Request {
	attributes := check.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	r := &authz.Request{
		Headers:     make([]authz.Header, 0, len(http.GetHeaders())+len(http.GetHeaderMap().GetHeaders())),
		Source:      sourceOf(attributes.GetSource().GetAddress().GetSocketAddress().GetAddress()),
		Certificate: attributes.GetSource().GetCertificate(),
	}
	for name, value := range http.GetHeaders() {
		r.Headers = append(r.Headers, authz.Header{Name: name, Value: value})
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		r.Headers = append(r.Headers, authz.Header{Name: h.GetKey(), Value: value})
	}
	if policy, ok := attributes.GetContextExtensions()[policyExtension]; ok {
		r.Policy = &policy
	}
	return r
}

// sourceOf is the address that the connection to Envoy comes from.
func sourceOf(address string) netip.Addr {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// fromGRPC says whether Envoy takes r for a gRPC call, and would turn a denial
// into a grpc-status.
func fromGRPC(r *authz.Request) bool {
	if r == nil {
		return false
	}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "content-type") {
			suffix, ok := strings.CutPrefix(h.Value, "application/grpc")
			return ok && (suffix == "" || suffix[0] == '+' || suffix[0] == ';')
		}
	}
	return false
}
