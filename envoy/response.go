package envoy

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"rescind/authz"
	"rescind/authz/gate"
)

// No other file builds a CheckResponse. encoded.go writes the bytes of one that
// allows, and the tests compare the two. Envoy looks at status.code alone: an empty
// response allows, and so does OK with a denial in it. An error_response is like
// an RPC error: it follows failure_mode_allow. So a denial is always a
// denied_response with a code that is not OK.

// lastResort is the denial for a Check whose answer could not be written.
var lastResort = response(&authz.Decision{Reason: authz.Internal}, false)

// response returns the answer to a Check. grpc is true if the checked request is a
// gRPC call.
func response(d *authz.Decision, grpc bool) *authv3.CheckResponse {
	if !d.Allow {
		return denial(d, grpc)
	}
	ok := &authv3.OkHttpResponse{HeadersToRemove: d.Remove, QueryParametersToRemove: d.RemoveQuery}
	for _, h := range d.Set {
		ok.Headers = append(ok.Headers, overwrite(h.Name, h.Value))
	}
	return &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(d),
	}
}

func denial(d *authz.Decision, grpc bool) *authv3.CheckResponse {
	g := gate.DenialOf(d)
	denied := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(g.Status)}, Body: g.Body}
	for _, h := range g.Headers {
		denied.Headers = append(denied.Headers, overwrite(h.Name, h.Value))
	}
	if grpc {
		// Envoy derives grpc-status from the HTTP status, and makes INTERNAL of 400.
		denied.Headers = append(denied.Headers, overwrite("grpc-status", strconv.Itoa(int(g.Code))))
	}
	return &authv3.CheckResponse{
		Status:          &status.Status{Code: g.Code, Message: string(d.Reason)},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		DynamicMetadata: metadata(d),
	}
}

// overwrite returns a header that replaces the client's own. The zero action would
// append to it.
func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// metadata returns the dynamic metadata, for Envoy's access log and for later
// filters.
func metadata(d *authz.Decision) *structpb.Struct {
	decision := "deny"
	if d.Allow {
		decision = "allow"
	}
	fields := map[string]*structpb.Value{
		memberID:       structpb.NewStringValue(d.ID),
		"decision":     structpb.NewStringValue(decision),
		"reason":       structpb.NewStringValue(string(d.Reason)),
		"policy":       structpb.NewStringValue(d.Policy),
		"issuer":       structpb.NewStringValue(d.Issuer),
		"subject":      structpb.NewStringValue(d.Subject),
		"token_id":     structpb.NewStringValue(d.TokenID),
		memberRevision: structpb.NewNumberValue(float64(d.Revision)),
	}
	switch {
	case d.Reason == authz.Revoked && d.Detail == authz.ByStatusList:
		fields["detail"] = structpb.NewStringValue(authz.ByStatusList)
	case d.Reason == authz.Revoked:
		fields["revocation_id"] = structpb.NewStringValue(d.RevocationID.String())
	}
	if d.WouldDeny != "" {
		fields["would_deny"] = structpb.NewStringValue(string(d.WouldDeny))
	}
	if d.Stale {
		fields[memberStale] = structpb.NewBoolValue(true)
	}
	return &structpb.Struct{Fields: fields}
}
