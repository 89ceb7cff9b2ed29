package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// asServer is the environment variable that makes this program one of its helpers: a
// server to compare with, or the caller that revokes.
const asServer = "RESCIND_BENCH_SERVER"

// helper runs the helper that the environment names, if it names one.
func helper(ctx context.Context) (ran bool, err error) {
	switch kind := os.Getenv(asServer); kind {
	case "":
		return false, nil
	case upstream:
		return true, answerAll(ctx)
	case "revoker":
		return true, revoke(ctx, os.Args[1], os.Args[2])
	default:
		return true, serve(ctx, kind, os.Args[1])
	}
}

// serve runs a server to compare with, and prints its address.
func serve(ctx context.Context, kind, keys string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, healthy{})
	switch kind {
	case noOp:
		authv3.RegisterAuthorizationServer(server, noop{&authv3.CheckResponse{Status: &status.Status{Code: int32(codes.OK)}}})
	case noOpHeaders:
		authv3.RegisterAuthorizationServer(server, noop{answerOfRescind(false)})
	case denies:
		authv3.RegisterAuthorizationServer(server, noop{&authv3.CheckResponse{Status: &status.Status{Code: int32(codes.PermissionDenied)}}})
	case noOpAnswer:
		authv3.RegisterAuthorizationServer(server, noop{answerOfRescind(true)})
	default:
		text, err := os.ReadFile(keys) //nolint:gosec // a file of the benchmark
		if err != nil {
			return err
		}
		k, err := keyfunc.NewJWKSetJSON(text)
		if err != nil {
			return err
		}
		authv3.RegisterAuthorizationServer(server, verifying{keys: k.Keyfunc, parser: jwt.NewParser(
			jwt.WithValidMethods(algorithms), jwt.WithIssuer(issuerName), jwt.WithAudience("api"), jwt.WithExpirationRequired(),
		)})
	}
	fmt.Println(l.Addr())
	return server.Serve(l)
}

// healthy says that every service is there.
type healthy struct {
	healthpb.UnimplementedHealthServer
}

func (healthy) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// Servers that decide nothing. The second one sets as many headers as rescind does, and
// the third one answers all that rescind answers. So they show the cost of the answer in
// Envoy apart from the cost of the decision.
const (
	noOp        = "no-op"
	noOpHeaders = "no-op with six headers"
	noOpAnswer  = "no-op with six headers and metadata"
)

// denies is the server that denies everything, so that only known tokens are allowed.
const denies = "denies"

// noop gives everything one answer.
type noop struct{ answer *authv3.CheckResponse }

func (n noop) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return proto.CloneOf(n.answer), nil // a server makes its answer
}

// answerOfRescind returns an answer like those of rescind, with the metadata or without.
func answerOfRescind(metadata bool) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{}
	for name, value := range map[string]string{
		"x-jwt-issuer": issuerName, "x-jwt-subject": "user-seen-RS256-1", "x-jwt-id": "seen-RS256-1",
		"x-jwt-scope": "openid profile email", "x-jwt-client": "web", "x-jwt-expires": "1795747624",
	} {
		ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	answer := &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
	if metadata {
		text := structpb.NewStringValue
		answer.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{
			"decision": text("allow"), "decision_id": text("QG73ZWUHARSQ4EXO7C3Z4HG56Z"), "issuer": text(issuerName), "policy": text("default"),
			"reason": text("ok"), "revision": structpb.NewNumberValue(1), "subject": text("user-seen-RS256-1"), "token_id": text("seen-RS256-1"),
		}}
	}
	return answer
}

// verifying allows requests with a valid token, and names its subject to the
// upstream.
type verifying struct {
	authv3.UnimplementedAuthorizationServer
	keys   jwt.Keyfunc
	parser *jwt.Parser
}

func (v verifying) Check(_ context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	raw, _ := strings.CutPrefix(authorization(check.GetAttributes().GetRequest().GetHttp()), "Bearer ")
	token, err := v.parser.Parse(raw, v.keys)
	if err != nil {
		return &authv3.CheckResponse{Status: &status.Status{Code: int32(codes.Unauthenticated)}}, nil //nolint:nilerr // the answer is the denial
	}
	subject, _ := token.Claims.GetSubject()
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{{
			Header: &corev3.HeaderValue{Key: "x-jwt-subject", Value: subject}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}},
	}, nil
}

// authorization returns the header of this name. An Envoy with encode_raw_headers sends
// the headers in a list.
func authorization(r *authv3.AttributeContext_HttpRequest) string {
	for _, h := range r.GetHeaderMap().GetHeaders() {
		if h.GetKey() == "authorization" {
			return string(h.GetRawValue())
		}
	}
	return r.GetHeaders()["authorization"]
}
