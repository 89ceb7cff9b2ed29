package rpcerror

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"rescind/test/testcert"
)

func TestText(t *testing.T) {
	refused := `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.5:9391: connect: connection refused"`
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"another error", "open x: no such file", "open x: no such file"},
		{"a status", status.Error(codes.Unavailable, "shutting down").Error(), "shutting down"},
		{"a status of no known code", status.Error(codes.Code(77), "odd").Error(), "odd"},
		{"a status behind words", fmt.Errorf("asking the replica: %w", status.Error(codes.Internal, "odd")).Error(), "asking the replica: odd"},
		{"a status in a status", status.Error(codes.Unavailable, "not ready: "+status.Error(codes.Unknown, "no log").Error()).Error(), "not ready: no log"},
		{"two statuses", errors.Join(status.Error(codes.Unavailable, "a"), status.Error(codes.Aborted, "b")).Error(), "a\nb"},
		{"a refused connection", refused, "dial tcp 10.0.0.5:9391: connect: connection refused"},
		{"a refused connection within a status", status.Error(codes.Unknown, refused).Error(), "dial tcp 10.0.0.5:9391: connect: connection refused"},
		{"quotes within quotes", `connection error: desc = "transport: Error while dialing: say \"no\""`, `say "no"`},
		{"a last quote that is missing", `connection error: desc = "transport`, `connection error: desc = "transport`},
		{"a certificate that is missing", `connection error: desc = "error reading server preface: remote error: tls: certificate required"`, "remote error: tls: certificate required"},
		{"a listener that got TLS", `connection error: desc = "transport: http2Server.HandleStreams received bogus greeting from client: \"\\x16\\x03\\x01\\\"\\x00\""`, "the client speaks TLS, and this listener does not"},
		{"a listener that got HTTP/1.1", `connection error: desc = "transport: http2Server.HandleStreams received bogus greeting from client: \"GET / HTTP/1.1\\r\\n\""`, "the client does not speak gRPC"},
		{"an HTTP server that got no TLS", "http: TLS handshake error from 1.2.3.4:5: client sent an HTTP request to an HTTPS server", "http: TLS handshake error from 1.2.3.4:5: the client does not speak TLS"},
	} {
		if got := Text(c.text); got != c.want {
			t.Errorf("%s: Text(%q) = %q, want %q", c.name, c.text, got, c.want)
		}
	}
}

// The text of the real libraries, where one end alone speaks TLS.
func TestTextOfTwoProtocols(t *testing.T) {
	certificate := testcert.NewAuthority(t, "ca").Issue(t, "server")
	secure := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the protocol is under test
	for _, c := range []struct {
		name           string
		server, client credentials.TransportCredentials
		want           string
	}{
		{"a client without TLS", credentials.NewServerTLSFromCert(&certificate), insecure.NewCredentials(), "the other end closed the connection at once, perhaps because it speaks TLS and this end does not: EOF"},
		{"a server without TLS", insecure.NewCredentials(), secure, "the TLS handshake failed: the other end does not speak TLS"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(grpc.Creds(c.server))
		healthpb.RegisterHealthServer(s, health.NewServer())
		go func() { _ = s.Serve(l) }()
		defer s.Stop()
		conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(c.client))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if err == nil || Text(err.Error()) != c.want {
			t.Errorf("%s: %v, in words %q, want %q", c.name, err, Text(fmt.Sprint(err)), c.want)
		}
	}
}
