package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"rescind/revocation/feed/feedpb"
	"rescind/test/eventually"
	"rescind/test/testcert"
)

// withEverything is a server that also has a unary method, reflection and
// health.
func withEverything(t *testing.T, log Source) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening on 127.0.0.1: got %v, want no error", err)
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
				t.Errorf("%s with the credential %q: got %v, want Unauthenticated", method, name, err)
			}
		}
	}
	for _, method := range methods {
		if err := attempt(t, conn, known, method, 100*time.Millisecond); status.Code(err) == codes.Unauthenticated {
			t.Errorf("%s with the right credential: got %v, want any answer but Unauthenticated", method, err)
		}
	}
	if err := attempt(t, conn, bearer("bearer "+secret), healthpb.Health_Check_FullMethodName, time.Second); status.Code(err) == codes.Unauthenticated {
		t.Errorf("the scheme in lower case: got %v, want any answer but Unauthenticated", err)
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
		t.Errorf("%s: got %v as a call and %v as a stream, want Unauthenticated from both or from neither", method, unary, err)
	}
	return err
}

func TestNoTokensLetNobodyIn(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{Tokens: []Token{}})
	r := call(t, s.addr, newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a hello to a server without tokens: got %v, want Unauthenticated", err)
	}
}

// A server that was made without the options serves nobody, rather than all.
func TestWithoutTheOptions(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening on 127.0.0.1: got %v, want no error", err)
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
		t.Errorf("a hello to a server without Options: got %v, want Unauthenticated", err)
	}
}

func TestTheCredentialIsReadAgain(t *testing.T) {
	log := newLog("log-1")
	s := serve(t, log, ServerOptions{})
	var mu sync.Mutex
	answers := []func() (string, error){
		func() (string, error) { return "", errors.New("replica.token: no such file") },
		func() (string, error) { return "old", nil },
		func() (string, error) { return secret, nil },
	}
	var logged lines
	o := options(s.addr)
	o.Logger = logged.logger()
	o.Token = func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return answer()
	}
	f := openFollower(t)
	following(t, f, o)
	eventually.True(t, "ready", func() bool { return f.Status().Ready })
	all := logged.text()
	for _, want := range []string{"no such file", "credential refused", "following the feed"} {
		if !strings.Contains(all, want) {
			t.Errorf("the log of a replica with three credentials: got %s, want %q in it", all, want)
		}
	}
	if strings.Contains(all, secret) {
		t.Errorf("the log of the replica: got %s, want the credential not in it", all)
	}
}

// demandingCertificates returns the option of a server that accepts only clients
// with a certificate of this authority.
func demandingCertificates(t *testing.T, ca *testcert.Authority) grpc.ServerOption {
	t.Helper()
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{ca.Issue(t, "control")}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}))
}

func TestTLS(t *testing.T) {
	ca := testcert.NewAuthority(t, "ca")
	log := newLog("log-1")
	s := serve(t, log, ServerOptions{}, demandingCertificates(t, ca))
	var mu sync.Mutex
	config := &tls.Config{RootCAs: ca.Pool()} // without a certificate of its own
	var logged lines
	o := options(s.addr)
	o.Plaintext = false
	o.Logger = logged.logger()
	o.TLS = func() (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return config, nil
	}
	f := openFollower(t)
	following(t, f, o)
	eventually.True(t, "it is refused", func() bool {
		logged.mu.Lock()
		defer logged.mu.Unlock()
		return len(logged.all) > 0
	})
	if f.Status().Ready || len(s.Replicas()) != 0 {
		t.Fatalf("without a certificate: ready %v with %d replicas listed, want no feed", f.Status().Ready, len(s.Replicas()))
	}
	mu.Lock()
	config = &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue(t, "replica")}} // read again at the next connection
	mu.Unlock()
	eventually.True(t, "ready", func() bool { return f.Status().Ready })

	stranger := options(s.addr)
	stranger.Plaintext = false
	strangers := testcert.NewAuthority(t, "strangers").Pool()
	stranger.TLS = func() (*tls.Config, error) { return &tls.Config{RootCAs: strangers}, nil }
	var refused lines
	stranger.Logger = refused.logger()
	g := openFollower(t)
	stop := following(t, g, stranger)
	eventually.True(t, "the refusal of the server's certificate is logged", func() bool { return strings.Contains(refused.text(), "certificate") })
	stop()
	if g.Status().Ready {
		t.Error("a server of another authority: the replica is ready, want no feed")
	}
}
