package envoy

import (
	"context"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// BenchmarkKnown is the way of a token that was seen before, from the wire to the
// answer on the wire, without gRPC.
func BenchmarkKnown(b *testing.B) {
	k := newKey(b)
	s, _ := server(b, k, options{})
	ask := asker(b, s, k)
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}

// asker returns a function that sends the Check of a browser to s and takes the
// encoded answer. The Check is the same each time.
func asker(t testing.TB, s *Server, k *key) func() {
	wire, err := proto.Marshal(browser(k))
	if err != nil {
		t.Fatal(err)
	}
	message, size := mem.BufferSlice{mem.SliceBuffer(wire)}, len(wire)
	f := &fakeStream{
		header: func(b []byte) error { copy(b, []byte{0, 0, 0, byte(size >> 8), byte(size)}); return nil },
		read:   func(int) (mem.BufferSlice, error) { return message, nil },
	}
	ctx, c := f.context(t.Context()), newCodec()
	return func() {
		answer, err := s.check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data, err := c.Marshal(answer)
		if err != nil || data.Len() == 0 {
			t.Fatal("no answer", err)
		}
		data.Free()
	}
}

// send returns the answer to a Check as the codec gets it, or nil after an error.
func send(t *testing.T, s *Server, wire []byte) any {
	t.Helper()
	f := &fakeStream{
		header: func(b []byte) error { copy(b, []byte{0, 0, 0, byte(len(wire) >> 8), byte(len(wire))}); return nil },
		read:   func(int) (mem.BufferSlice, error) { return mem.BufferSlice{mem.SliceBuffer(wire)}, nil },
	}
	answer, err := s.check(f.context(context.Background()))
	if err != nil {
		t.Errorf("got the error %v, want an answer", err)
	}
	return answer
}

// ask returns the answer to a Check, from the wire to the wire.
func ask(t *testing.T, s *Server, wire []byte) *authv3.CheckResponse {
	t.Helper()
	return received(send(t, s, wire))
}
