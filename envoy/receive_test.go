package envoy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
)

// withBody returns the CheckRequest of q with a body of n bytes.
func withBody(q Question, n int) *authv3.CheckRequest {
	check := q.request()
	check.Attributes.Request.Http.RawBody = make([]byte, n)
	return check
}

func TestBodiesCostNoDecision(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	client := authv3.NewAuthorizationClient(dial(t, serving(t, s)))
	for _, n := range []int{0, 1, streamWindow, maxWhole, 1 << 20, DefaultMaxMessage - 10_000} {
		for _, c := range []struct {
			q    Question
			want string
		}{{Question{Token: k.token(nil)}, "ok"}, {Question{}, "no_token"}} {
			r, err := client.Check(t.Context(), withBody(c.q, n))
			if got := r.GetDynamicMetadata().AsMap()["reason"]; err != nil || got != c.want {
				t.Errorf("body of %d bytes: reason %v, %v, want %s", n, got, err, c.want)
			}
		}
	}
	if reserved := s.receiver.reserved.Load(); reserved != 0 {
		t.Errorf("%d bytes stay reserved, want 0", reserved)
	}
}

func TestBodiesAreNotCopied(t *testing.T) {
	k := newKey(t)
	small, err := proto.Marshal(withBody(Question{Token: k.token(nil)}, maxWhole))
	if err != nil {
		t.Fatal(err)
	}
	large, err := proto.Marshal(withBody(Question{Token: k.token(nil)}, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	allocated := func(wire []byte) uint64 {
		pieces := inPieces(wire, 16<<10)
		const runs = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if r, _ := new(reading).readCheck(pieces); r == nil {
				t.Fatalf("a CheckRequest of %d bytes: got nothing, want it read", len(wire))
			}
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / runs
	}
	if s, l := allocated(small), allocated(large); l > s+4096 {
		t.Errorf("reading a body of 8 MiB allocates %d bytes, one of 32 KiB %d; want no more", l, s)
	}
}

func TestTooManyHeadersAreABadRequest(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	client := authv3.NewAuthorizationClient(dial(t, serving(t, s)))
	for _, c := range []struct {
		name string
		size int // of all headers
		each int
		want string
	}{
		{"one of 1 MB", 1 << 20, 1 << 20, "bad_request"},
		{"1 MB in small ones", 1 << 20, 100, "bad_request"},
		{"16 MB", DefaultMaxMessage - 100_000, 1 << 20, "bad_request"},
		{"200 KB", 200 << 10, 4 << 10, "ok"},
	} {
		q := Question{Token: k.token(nil)}
		for range c.size / c.each {
			q.Headers = append(q.Headers, authz.Header{Name: "cookie", Value: strings.Repeat("x", c.each)})
		}
		r, err := client.Check(t.Context(), q.request())
		if got := r.GetDynamicMetadata().AsMap()["reason"]; err != nil || got != c.want {
			t.Errorf("%s: reason %v, %v, want %s", c.name, got, err, c.want)
		}
		if got := r.GetDeniedResponse().GetStatus().GetCode(); c.want == "bad_request" && got != 400 {
			t.Errorf("%s: HTTP %d, want 400", c.name, got)
		}
	}
}

// Above max_message a Check is an RPC error, which is counted and logged, and
// the connection stays.
func TestMessagesAboveTheLimitAreCounted(t *testing.T) {
	k := newKey(t)
	s, log := server(t, k, options{MaxMessage: 100_000})
	client := authv3.NewAuthorizationClient(dial(t, serving(t, s)))
	for range 3 {
		_, err := client.Check(t.Context(), withBody(Question{Token: k.token(nil)}, 100_000))
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "grpc.max_message (100000)") {
			t.Errorf("%v, want ResourceExhausted with the bound in it", err)
		}
	}
	if got := testutil.ToFloat64(s.receiver.refused.WithLabelValues(boundMessage)); got != 3 {
		t.Errorf("%v are counted, want 3", got)
	}
	if got := strings.Count(log.String(), "CheckRequest refused"); got != 1 || !strings.Contains(log.String(), `"bound":"grpc.max_message"`) {
		t.Errorf("logged %d times, want once:\n%s", got, log)
	}
	if r, err := client.Check(t.Context(), Question{Token: k.token(nil)}.request()); err != nil || r.GetStatus().GetCode() != 0 {
		t.Errorf("afterwards: %v %v, want allowed", r, err)
	}
}

// While the messages in reception fill max_receiving, another large one is
// denied, and small ones are answered as always.
func TestMessagesInReceptionAreBounded(t *testing.T) {
	k := newKey(t)
	s, log := server(t, k, options{MaxMessage: 1 << 20, MaxReceiving: 2 << 20})
	client := authv3.NewAuthorizationClient(dial(t, serving(t, s)))
	entered, release := make(chan struct{}), make(chan struct{})
	var holding sync.WaitGroup
	for range 2 { // announced, and half received
		f := &fakeStream{
			header: func(b []byte) error { copy(b, []byte{0, 0, 0x10, 0, 0}); return nil },
			read: func(int) (mem.BufferSlice, error) {
				entered <- struct{}{}
				<-release
				return nil, context.Canceled
			},
		}
		holding.Go(func() {
			if _, err := s.check(f.context(context.Background())); err == nil {
				t.Error("a message that never arrived was answered, want an error")
			}
		})
		receive(t, entered)
	}
	r, err := client.Check(t.Context(), withBody(Question{Token: k.token(nil)}, 100_000))
	if err != nil || r.GetStatus().GetCode() != 14 || r.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("a large one: %v %v, want a denial with code 14 and HTTP 503", r, err)
	}
	if got := testutil.ToFloat64(s.receiver.refused.WithLabelValues(boundReceiving)); got != 1 || !strings.Contains(log.String(), `"bound":"grpc.max_receiving"`) {
		t.Errorf("%v are counted, want 1, and logged:\n%s", got, log)
	}
	if r, err := client.Check(t.Context(), withBody(Question{Token: k.token(nil)}, 10_000)); err != nil || r.GetStatus().GetCode() != 0 {
		t.Errorf("a small one: %v %v, want allowed", r, err)
	}
	close(release)
	holding.Wait()
	if r, err := client.Check(t.Context(), withBody(Question{Token: k.token(nil)}, 1_000_000)); err != nil || r.GetStatus().GetCode() != 0 {
		t.Errorf("a large one afterwards: %v %v, want allowed", r, err)
	}
	if reserved := s.receiver.reserved.Load(); reserved != 0 {
		t.Errorf("%d bytes stay reserved, want 0", reserved)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{ codec }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func TestNonsenseOnTheWireIsDenied(t *testing.T) {
	s, _ := server(t, newKey(t), options{})
	conn := dial(t, serving(t, s))
	for _, c := range []struct{ wire, want string }{
		{"", "no_token"}, {"GET / HTTP/1.1", "bad_request"}, {"\x0a\xff\xff\xff\xff\x0f", "bad_request"}, {"\x00", "bad_request"},
		{string(bytes.Repeat([]byte{0xff}, 2*maxWhole)), "bad_request"},
	} {
		var answer authv3.CheckResponse
		err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte(c.wire), &answer, grpc.ForceCodecV2(rawCodec{newCodec()}))
		if got := answer.GetDynamicMetadata().AsMap()["reason"]; err != nil || answer.GetStatus().GetCode() == 0 || got != c.want {
			t.Errorf("%.20q: reason %v, %v, want %s", c.wire, got, err, c.want)
		}
	}
}

func TestCompressedChecksAreDenied(t *testing.T) {
	s, _ := server(t, newKey(t), options{})
	f := &fakeStream{header: func(b []byte) error { copy(b, []byte{1, 0, 0, 0, 9}); return nil }}
	answer, err := s.check(f.context(t.Context()))
	if r := received(answer); err != nil || r.GetStatus().GetCode() != 3 {
		t.Errorf("%v %v, want a denial with code 3", r, err)
	}
}

// A message that never arrives completely gives its room back, whichever way its
// call ends.
func TestAbandonedMessagesGiveTheirRoomBack(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(p *rawPeer)
	}{
		{"the peer resets the call", func(p *rawPeer) { _ = p.WriteRSTStream(1, http2.ErrCodeCancel) }},
		{"the peer disconnects", func(p *rawPeer) { _ = p.Close() }},
		{"the peer ends the call early", func(p *rawPeer) { _ = p.WriteData(1, true, nil) }},
		{"the deadline of the call passes", func(*rawPeer) { time.Sleep(2 * time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := server(t, newKey(t), options{})
				p := connect(t, s)
				p.announce(t, 1<<20)
				synctest.Wait()
				if got := s.receiver.reserved.Load(); got != 1<<20 {
					t.Errorf("%d bytes are reserved for the message, want %d", got, 1<<20)
				}
				c.end(p)
				synctest.Wait()
				if got := s.receiver.reserved.Load(); got != 0 {
					t.Errorf("%d bytes are reserved afterwards, want 0", got)
				}
			})
		})
	}
}

// announce begins a Check with a timeout of 2 s, and sends the beginning of a
// message of n bytes.
func (p *rawPeer) announce(t *testing.T, n uint32) {
	t.Helper()
	var block bytes.Buffer
	headers := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", authv3.Authorization_Check_FullMethodName}, {":authority", "replica"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "2S"},
	} {
		_ = headers.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	message := binary.BigEndian.AppendUint32([]byte{0}, n)
	err := errors.Join(
		p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		p.WriteData(1, false, append(message, make([]byte, 1000)...)),
	)
	if err != nil {
		t.Fatal(err)
	}
}
