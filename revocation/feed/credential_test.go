package feed

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"rescind/revocation/feed/feedpb"
)

// withEverything is a server that also has a unary method, reflection and
// health.
func withEverything(t *testing.T, log Source) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(log, ServerOptions{Tokens: tokens()})
	g := grpc.NewServer(s.Options()...)
	s.Register(g)
	healthpb.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	t.Cleanup(func() {
		s.Close()
		g.Stop()
		<-done
	})
	return lis.Addr().String()
}

func TestNothingWithoutTheCredential(t *testing.T) {
	conn := dial(t, withEverything(t, newLog("log-1")))
	bearer := func(values ...string) metadata.MD {
		md := metadata.MD{}
		md.Append("authorization", values...)
		return md
	}
	known := bearer("Bearer " + secret)
	credentials := map[string]metadata.MD{
		"none":          {},
		"wrong":         bearer("Bearer wrong"),
		"empty":         bearer("Bearer "),
		"no scheme":     bearer(secret),
		"other scheme":  bearer("Basic " + secret),
		"twice":         bearer("Bearer "+secret, "Bearer "+secret),
		"right + wrong": bearer("Bearer "+secret, "Bearer wrong"),
		"longer":        bearer("Bearer " + secret + "x"),
		"shorter":       bearer("Bearer " + strings.TrimSuffix(secret, "n")),
		"the hash":      bearer("Bearer 4b3f"),
		"elsewhere":     {"token": {secret}},
	}
	methods := []string{
		feedpb.Feed_Follow_FullMethodName,
		"/rescind.feed.v1.Feed/Nothing",
		"/no.such.Service/Method",
		"/noservice", "/", "/a/b/c",
		healthpb.Health_Check_FullMethodName,
		healthpb.Health_Watch_FullMethodName,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	}
	for name, md := range credentials {
		for _, method := range methods {
			if err := attempt(t, conn, md, method, 5*time.Second); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s on %s: %v", name, method, err)
			}
		}
	}
	for _, method := range methods {
		if err := attempt(t, conn, known, method, 100*time.Millisecond); status.Code(err) == codes.Unauthenticated {
			t.Errorf("the credential is refused on %s: %v", method, err)
		}
	}
	if err := attempt(t, conn, bearer("bearer "+secret), healthpb.Health_Check_FullMethodName, time.Second); status.Code(err) == codes.Unauthenticated {
		t.Errorf("the scheme in lower case: %v", err)
	}
}

// attempt calls a method as a stream and as a unary call; both must agree
// about the credential.
func attempt(t *testing.T, conn *grpc.ClientConn, md metadata.MD, method string, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(t.Context(), md), patience)
	defer cancel()
	unary := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
	ctx, cancel = context.WithTimeout(metadata.NewOutgoingContext(t.Context(), md), patience)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err == nil {
		if err = stream.SendMsg(&emptypb.Empty{}); err == nil || errors.Is(err, io.EOF) {
			err = stream.RecvMsg(&emptypb.Empty{})
		}
	}
	if a, b := status.Code(unary), status.Code(err); (a == codes.Unauthenticated) != (b == codes.Unauthenticated) {
		t.Errorf("%s: %v as a call, %v as a stream", method, unary, err)
	}
	return err
}

func TestNoTokensLetNobodyIn(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{Tokens: []Token{}})
	r := call(t, s.addr, newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
}

// A server that was made without the options serves nobody, rather than all.
func TestWithoutTheOptions(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(newLog("log-1"), ServerOptions{Tokens: tokens()})
	g := grpc.NewServer()
	s.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	defer func() {
		s.Close()
		g.Stop()
		<-done
	}()
	r := call(t, lis.Addr().String(), newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
}
