package envoy

import (
	"context"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
)

// fakeStream is a gRPC stream that a test fills.
type fakeStream struct {
	header func([]byte) error
	read   func(int) (mem.BufferSlice, error)
}

func (f *fakeStream) ReadMessageHeader(b []byte) error    { return f.header(b) }
func (f *fakeStream) Read(n int) (mem.BufferSlice, error) { return f.read(n) }
func (f *fakeStream) Method() string                      { return "" }
func (f *fakeStream) SetHeader(grpcmetadata.MD) error     { return nil }
func (f *fakeStream) SendHeader(grpcmetadata.MD) error    { return nil }
func (f *fakeStream) SetTrailer(grpcmetadata.MD) error    { return nil }
func (f *fakeStream) context(ctx context.Context) context.Context {
	return grpc.NewContextWithServerTransportStream(ctx, f)
}

// poisoned is a buffer that panics when it is read.
type poisoned struct{ mem.Buffer }

func (poisoned) ReadOnlyData() []byte { panic("5ecret") }
func (poisoned) Len() int             { return 1 }
func (poisoned) Free()                {}

// At each stage of a Check a panic is a denial, and the process goes on.
func TestPanicsAreDenials(t *testing.T) {
	for _, c := range []struct {
		name   string
		inject func(k *key, s *Server, f *fakeStream)
	}{
		{"reading the length", func(_ *key, _ *Server, f *fakeStream) { f.header = func([]byte) error { panic("5ecret") } }},
		{"reading the message", func(_ *key, _ *Server, f *fakeStream) {
			f.read = func(int) (mem.BufferSlice, error) { panic("5ecret") }
		}},
		{"reading a large message", func(_ *key, _ *Server, f *fakeStream) {
			f.header = func(b []byte) error { copy(b, []byte{0, 0, 0x10, 0, 0}); return nil }
			f.read = func(int) (mem.BufferSlice, error) { panic("5ecret") }
		}},
		{"reading the request", func(_ *key, _ *Server, f *fakeStream) {
			f.read = func(int) (mem.BufferSlice, error) { return mem.BufferSlice{poisoned{}}, nil }
		}},
		{"finding the key", func(k *key, _ *Server, _ *fakeStream) { k.find = func() { panic("5ecret") } }},
		{"deciding", func(_ *key, s *Server, _ *fakeStream) { s.gate.Replace(nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKey(t)
			s, log := server(t, k, options{})
			var wire []byte
			ask := func(jti string) {
				var err error
				if wire, err = proto.Marshal(Question{Token: k.token(map[string]any{"jti": jti})}.request()); err != nil {
					t.Fatal(err)
				}
			}
			ask("t1")
			f := &fakeStream{
				header: func(b []byte) error { copy(b, []byte{0, 0, 0, byte(len(wire) >> 8), byte(len(wire))}); return nil },
				read:   func(int) (mem.BufferSlice, error) { return mem.BufferSlice{mem.SliceBuffer(wire)}, nil },
			}
			if reply, err := s.check(f.context(t.Context())); err != nil || received(reply).GetStatus().GetCode() != 0 {
				t.Fatalf("without a panic: %v %v, want allowed", reply, err)
			}
			c.inject(k, s, f)
			ask("t2") // a token that is not known
			reply, err := s.check(f.context(t.Context()))
			r := received(reply)
			if err != nil || r.GetStatus().GetCode() != 14 || r.GetDeniedResponse().GetStatus().GetCode() != 503 {
				t.Errorf("%v %v, want a denial with code 14 and HTTP 503", r, err)
			}
			if got := log.String(); !strings.Contains(got, "stack") || strings.Contains(got, "5ecret") {
				t.Errorf("logged %s, want the stack without the value", got)
			}
			if reserved := s.receiver.reserved.Load(); reserved != 0 {
				t.Errorf("%d bytes stay reserved, want 0", reserved)
			}
		})
	}
}

// Without the length of a message, the request is denied.
func TestStreamWithoutLengthIsADenial(t *testing.T) {
	s, log := server(t, newKey(t), options{})
	answer, err := s.check(t.Context())
	if r := received(answer); err != nil || r.GetStatus().GetCode() != 14 || !strings.Contains(log.String(), "hides the length") {
		t.Errorf("%v, %v, want a denial with code 14, and a line in the log:\n%s", answer, err, log)
	}
}

func TestPanicInWritingIsADenial(t *testing.T) {
	k := newKey(t)
	s, log := server(t, k, options{})
	read := func() (*authz.Request, authz.Reason) {
		r, _ := requestOf(Question{Token: k.token(nil)}.request())
		return r, ""
	}
	once := true
	r := received(s.answer(t.Context(), read, func(r *authz.Request, d *authz.Decision) any {
		if once {
			once = false
			panic("5ecret")
		}
		return reply(r, d)
	}))
	if r.GetStatus().GetCode() != 14 || r.GetDynamicMetadata().AsMap()["decision_id"] == "" {
		t.Errorf("one panic: %v, want a denial with code 14 and a decision ID", r)
	}
	r = received(s.answer(t.Context(), read, func(*authz.Request, *authz.Decision) any { panic("5ecret") }))
	if r.GetStatus().GetCode() != 14 || r.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("a panic each time: %v, want a denial with code 14 and HTTP 503", r)
	}
	if got := log.String(); !strings.Contains(got, "stack") || strings.Contains(got, "5ecret") {
		t.Errorf("logged %s, want the stack without the value", got)
	}
}

// panicking is a codec that panics.
type panicking struct{ encoding.CodecV2 }

func (panicking) Marshal(any) (mem.BufferSlice, error) { panic("5ecret") }
func (panicking) Unmarshal(mem.BufferSlice, any) error { panic("5ecret") }

func TestCodecNeverFailsToAnswerACheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		codec  codec
		answer *authv3.CheckResponse
	}{
		{"a panic", codec{panicking{}}, response(&authz.Decision{Allow: true}, false)},
		{"an answer that is not UTF-8", newCodec(), response(&authz.Decision{Allow: true, Remove: []string{"x-jwt-\xff"}}, false)},
	} {
		data, err := c.codec.Marshal(c.answer)
		if err != nil {
			t.Errorf("%s: %v, want a denial", c.name, err)
			continue
		}
		var got authv3.CheckResponse
		if err := proto.Unmarshal(data.Materialize(), &got); err != nil || got.GetStatus().GetCode() != 14 || got.GetDeniedResponse().GetStatus().GetCode() != 503 {
			t.Errorf("%s: %v %v, want a denial with code 14 and HTTP 503", c.name, &got, err)
		}
	}
	health := &healthpb.HealthCheckResponse{}
	if _, err := (codec{panicking{}}).Marshal(health); err == nil || strings.Contains(err.Error(), "5ecret") {
		t.Errorf("encoding another message: %v, want an error without the value", err)
	}
	if err := (codec{panicking{}}).Unmarshal(nil, health); err == nil || strings.Contains(err.Error(), "5ecret") {
		t.Errorf("decoding another message: %v, want an error without the value", err)
	}
}

func TestPanicInReadinessIsNotServing(t *testing.T) {
	ready := func() bool { panic("5ecret") }
	s, _ := server(t, newKey(t), options{Ready: ready})
	r, err := s.health.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v %v, want NOT_SERVING", r, err)
	}
}
