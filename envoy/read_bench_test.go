package envoy

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
)

// browser returns the CheckRequest for a request that a browser sends through Envoy.
func browser(k *key) *authv3.CheckRequest {
	return browserWith(k.token(map[string]any{"scope": "openid profile", "client_id": "web", "email": "alice@example.com"}))
}

// browserWith returns the CheckRequest of a browser with this token.
func browserWith(token string) *authv3.CheckRequest {
	check := Question{Token: token, Headers: []authz.Header{
		{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
		{Name: "accept", Value: "application/json, text/plain, */*"}, {Name: "accept-language", Value: "en-GB,en;q=0.9"}, {Name: "accept-encoding", Value: "gzip, deflate, br"},
		{Name: "referer", Value: "https://app.example.com/orders"}, {Name: "cookie", Value: strings.Repeat("a=b; ", 20)},
		{Name: "x-forwarded-for", Value: "10.1.2.3"}, {Name: "x-forwarded-proto", Value: "https"}, {Name: "x-request-id", Value: "2f1d7c0e-3c11-4a6e-9d6f-0d3a1c4a5b6c"},
	}}.request()
	more := full().Attributes
	check.Attributes.Source, check.Attributes.Destination, check.Attributes.MetadataContext, check.Attributes.Request.Time = more.Source, more.Destination, more.MetadataContext, more.Request.Time
	check.Attributes.Source.Certificate, check.Attributes.Destination.Certificate = "", ""
	return check
}

func BenchmarkRead(b *testing.B) {
	wire, err := proto.Marshal(browser(newKey(b)))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("standard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var check authv3.CheckRequest
			if err := proto.Unmarshal(wire, &check); err != nil {
				b.Fatal(err)
			}
			requestOf(&check)
		}
	})
	b.Run("walk", func(b *testing.B) {
		b.ReportAllocs()
		message := mem.BufferSlice{mem.SliceBuffer(wire)}
		for b.Loop() {
			if r, _ := new(reading).readCheck(message); len(r.Headers) == 0 {
				b.Fatal("got no headers, want those of the message")
			}
		}
	})
	b.Run("body", func(b *testing.B) {
		b.ReportAllocs()
		check := browser(newKey(b))
		check.Attributes.Request.Http.RawBody = make([]byte, 8<<20)
		wire, err := proto.Marshal(check)
		if err != nil {
			b.Fatal(err)
		}
		message := inPieces(wire, 16<<10)
		for b.Loop() {
			if r, _ := new(reading).readCheck(message); len(r.Headers) == 0 {
				b.Fatal("got no headers, want those of the message")
			}
		}
	})
}

// standardServer is the generated service over the standard decoder.
type standardServer struct {
	authv3.UnimplementedAuthorizationServer
	*Server
}

func (s standardServer) Check(ctx context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return received(s.answer(ctx, func() (*authz.Request, authz.Reason) { r, _ := requestOf(check); return r, "" }, reply)), nil
}

// BenchmarkWire is a whole Check over a socket, client included: with the
// generated service, and with the one of this package.
func BenchmarkWire(b *testing.B) {
	k := newKey(b)
	s, _ := server(b, k, options{})
	generated := grpc.NewServer()
	authv3.RegisterAuthorizationServer(generated, standardServer{Server: s})
	path := filepath.Join(b.TempDir(), "generated")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = generated.Serve(l) }()
	b.Cleanup(generated.Stop)
	for name, addr := range map[string]string{"generated": "unix://" + path, "ours": serving(b, s)} {
		client := authv3.NewAuthorizationClient(dial(b, addr))
		check := browser(k)
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r, err := client.Check(context.Background(), check); err != nil || r.GetStatus().GetCode() != 0 {
						b.Errorf("%s: got %v, %v, want allowed", name, r, err)
						return
					}
				}
			})
		})
	}
}
