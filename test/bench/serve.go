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
)

// serve runs one of the servers to compare with, and prints its address.
func serve(ctx context.Context, kind, keys string) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer()
	switch kind {
	case "no-op":
		authv3.RegisterAuthorizationServer(server, noop{})
	default:
		text, err := os.ReadFile(keys) //nolint:gosec // a path of the benchmark's own
		if err != nil {
			panic(err)
		}
		k, err := keyfunc.NewJWKSetJSON(text)
		if err != nil {
			panic(err)
		}
		authv3.RegisterAuthorizationServer(server, verifying{keys: k.Keyfunc, parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithIssuer(issuerName), jwt.WithAudience("api"), jwt.WithExpirationRequired(),
		)})
	}
	fmt.Println(l.Addr())
	if err := server.Serve(l); err != nil {
		panic(err)
	}
}

// noop allows everything.
type noop struct {
	authv3.UnimplementedAuthorizationServer
}

func (noop) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{Status: &status.Status{Code: int32(codes.OK)}}, nil
}

// verifying allows requests with a valid token, and names its subject to the
// upstream.
type verifying struct {
	authv3.UnimplementedAuthorizationServer
	keys   jwt.Keyfunc
	parser *jwt.Parser
}

func (v verifying) Check(_ context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	raw, _ := strings.CutPrefix(check.GetAttributes().GetRequest().GetHttp().GetHeaders()["authorization"], "Bearer ")
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
