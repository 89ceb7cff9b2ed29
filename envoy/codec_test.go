package envoy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"rescind/authz"
)

// plain is r in a form that can be compared: the map of headers has no order.
func plain(r *authz.Request) string {
	headers := slices.SortedStableFunc(slices.Values(r.Headers), func(a, b authz.Header) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value)) })
	policy := "none"
	if r.Policy != nil {
		policy = fmt.Sprintf("%q", *r.Policy)
	}
	return fmt.Sprintf("%q %s %q %s %v", headers, policy, r.Certificate, r.Source, fromGRPC(r))
}

// full has something in every field that Envoy fills in, and in some more.
func full() *authv3.CheckRequest {
	peer := func(addr string) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: addr, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711}, ResolverName: "r", Ipv4Compat: true}}},
			Service: "s", Labels: map[string]string{"l": "1"}, Principal: "spiffe://a", Certificate: "-----BEGIN%20" + addr,
		}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("10.1.2.3"), Destination: peer("10.9.9.9"),
		Request: &authv3.AttributeContext_Request{
			Time: timestamppb.Now(),
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "17", Method: "GET", Path: "/x?y", Host: "a", Scheme: "http", Query: "q", Fragment: "f", Size: -1, Protocol: "HTTP/2", Body: "b", RawBody: []byte{0xff},
				HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
					{Key: ":method", RawValue: []byte("GET")}, {Key: "authorization", RawValue: []byte("Bearer \xff")}, {Key: "x-a", Value: "1"}, {Key: "x-a", Value: "2", RawValue: []byte("3")}, {}, {Key: "empty"},
				}},
				Headers: map[string]string{"content-type": "application/grpc", "x-b": "é", "": ""},
			},
		},
		ContextExtensions: map[string]string{"policy": "reports", "other": "x", "": "y"},
		MetadataContext:   &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"a": {Fields: map[string]*structpb.Value{"b": structpb.NewNumberValue(1)}}}},
		TlsSession:        &authv3.AttributeContext_TLSSession{Sni: "a"},
	}}
}

// What Envoy sends is read on the short way, as the long way reads it.
func TestWalk(t *testing.T) {
	policy, empty := "reports", ""
	pipe := full()
	pipe.Attributes.Source.Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/x"}}}
	for name, check := range map[string]*authv3.CheckRequest{
		"everything":   full(),
		"a pipe":       pipe,
		"as Envoy":     Question{Token: "a.b.c", Policy: &policy}.request(),
		"merged":       asking(map[string]string{"authorization": "Bearer a", "x": "y"}),
		"both":         asking(map[string]string{"authorization": "Bearer a"}, "authorization", "Bearer b"),
		"empty policy": Question{Policy: &empty}.request(),
		"empty":        {},
		"not HTTP":     {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
	} {
		wire, err := proto.Marshal(check)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := walk(string(wire))
		if !ok {
			t.Errorf("%s: it is not sure", name)
			continue
		}
		if want := requestOf(check); plain(got) != plain(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, plain(got), plain(want))
		}
	}
}

// What cannot be read is no request, and denied; what is odd takes the long way.
func TestWhatIsNotPlain(t *testing.T) {
	wire, err := proto.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	group := protowire.AppendTag(protowire.AppendTag(slices.Clone(wire), 99, protowire.StartGroupType), 99, protowire.EndGroupType)
	twice := append(slices.Clone(wire), wire...)
	many := map[string]string{}
	for i := range 2 * maxMerged {
		many[fmt.Sprintf("x-%d", i)] = "1"
	}
	crowd, err := proto.Marshal(asking(many))
	if err != nil {
		t.Fatal(err)
	}
	other := protowire.AppendVarint(protowire.AppendTag(slices.Clone(wire), 1, protowire.VarintType), 7) // attributes, as a number
	for _, c := range []struct {
		name           string
		wire           []byte
		sure, readable bool
	}{
		{"as it is", wire, true, true},
		{"attributes of another wire type", other, true, true},
		{"twice", twice, true, true},
		{"a group", group, false, true},
		{"a crowd of merged headers", crowd, false, true},
		// A name goes into headers_to_remove, and could not be sent.
		{"a raw header whose name is not UTF-8", rawHeaderWire("x-jwt-\xff", "1"), false, false},
		{"a raw header whose value is not UTF-8 where it is not raw", rawHeaderWire("x-jwt-a", "\xff"), false, false},
		{"a policy that is not UTF-8", message(1, text(10, text(1, "policy")+text(2, "\xff"))), false, false},
		{"a merged header whose name is not UTF-8", message(1, text(4, text(2, text(3, text(1, "x-jwt-\xff")+text(2, "1"))))), false, false},
		{"a certificate that is not UTF-8", message(1, text(1, text(5, "\xff"))), false, false},
		{"a number that overflows", append(slices.Clone(wire), 0x98, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02), false, false},
		{"the largest number", append(slices.Clone(wire), 0x98, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), true, true},
		{"cut off", wire[:len(wire)-1], false, false},
		{"a number without end", append(slices.Clone(wire), bytes.Repeat([]byte{0xff}, 11)...), false, false},
		{"field 0", append(slices.Clone(wire), 0, 0), false, false},
		{"an end without a group", protowire.AppendTag(slices.Clone(wire), 99, protowire.EndGroupType), false, false},
		{"nonsense", []byte("GET / HTTP/1.1"), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := walk(string(c.wire)); ok != c.sure {
				t.Errorf("sure: %v", ok)
			}
			var check authv3.CheckRequest
			err := proto.Unmarshal(c.wire, &check)
			want := requestOf(&check)
			if err != nil {
				want = &authz.Request{}
			}
			if got := readQuestion(c.wire); plain(got) != plain(want) || (err == nil) != c.readable {
				t.Errorf("%v\n got %s\nwant %s", err, plain(got), plain(want))
			}
		})
	}
}

// text is a field of a message that holds a text, or a message.
func text(number protowire.Number, value string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value))
}

func message(number protowire.Number, fields string) []byte { return []byte(text(number, fields)) }

// rawHeaderWire is a CheckRequest with one header in header_map, not raw.
func rawHeaderWire(name, value string) []byte {
	header := text(1, name) + text(2, value)
	return message(1, text(4, text(2, text(13, text(1, header)))))
}

// texts are those of a request, to be used again.
func TestNothingOfTheBufferIsKept(t *testing.T) {
	wire, err := proto.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	var q question
	want := plain(readQuestion(slices.Clone(wire)))
	if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, &q); err != nil {
		t.Fatal(err)
	}
	for i := range wire {
		wire[i] = 'x'
	}
	if got := plain(q.request); got != want {
		t.Errorf("%s", got)
	}
}

// bytesCodec sends what it is given.
type bytesCodec struct{ codec }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// To Envoy an RPC error is not a denial: bytes that are no CheckRequest are
// denied.
func TestNonsenseOnTheWireIsDenied(t *testing.T) {
	s, _ := server(t, newKey(t), options{})
	conn := dial(t, serving(t, s))
	for _, wire := range []string{"", "GET / HTTP/1.1", "\x0a\xff\xff\xff\xff\x0f", "\x00"} {
		var answer authv3.CheckResponse
		err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte(wire), &answer, grpc.ForceCodecV2(bytesCodec{newCodec()}))
		if err != nil || answer.GetStatus().GetCode() != 3 || answer.GetDynamicMetadata().AsMap()["reason"] != "bad_request" {
			t.Errorf("%q: %v %v", wire, err, &answer)
		}
	}
}

// An interceptor sees Checks as it would see those of the generated service.
func TestInterceptors(t *testing.T) {
	s, _ := server(t, newKey(t), options{})
	seen := ""
	answer, err := checkHandler(s, t.Context(), func(any) error { return nil }, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		seen = info.FullMethod
		req.(*question).request = &authz.Request{}
		return next(ctx, req)
	})
	if err != nil || answer.(*authv3.CheckResponse).GetStatus().GetCode() == 0 || seen != "/envoy.service.auth.v3.Authorization/Check" {
		t.Errorf("%v %v, seen %q", answer, err, seen)
	}
}

// Whatever is in a CheckRequest, and in whatever order, the two ways agree.
func TestWalkAgrees(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "policy", "authorization", "Authorization", "content-type", "application/grpc", "x", "é", "10.0.0.1", "::1", "fe80::1%eth0", "::ffff:1.2.3.4"})
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		for range rapid.IntRange(1, 3).Draw(t, "parts") { // appended messages are merged
			check := full()
			h := check.Attributes.Request.Http
			h.Headers, h.HeaderMap.Headers = rapid.MapOfN(text, text, 0, 4).Draw(t, "headers"), nil
			for range rapid.IntRange(0, 4).Draw(t, "raw headers") {
				h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: text.Draw(t, "key"), Value: text.Draw(t, "value"), RawValue: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "raw")})
			}
			check.Attributes.ContextExtensions = rapid.MapOfN(text, text, 0, 3).Draw(t, "extensions")
			check.Attributes.Source.Certificate = text.Draw(t, "certificate")
			check.Attributes.Source.Address.GetSocketAddress().Address = text.Draw(t, "address")
			switch rapid.IntRange(0, 3).Draw(t, "without") {
			case 1:
				check.Attributes.Source.Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "p"}}}
			case 2:
				check.Attributes.Source = nil
			case 3:
				check.Attributes.Request.Http.HeaderMap = nil
			}
			part, err := proto.Marshal(check)
			if err != nil {
				t.Fatal(err)
			}
			wire = append(wire, part...)
		}
		agree(t, wire)
	})
}

type failing interface{ Errorf(string, ...any) }

// agree holds the short way against the long one.
func agree(t failing, wire []byte) {
	var check authv3.CheckRequest
	if proto.Unmarshal(wire, &check) != nil {
		return // the short way may still know what it needs
	}
	if got, want := plain(readQuestion(wire)), plain(requestOf(&check)); got != want {
		t.Errorf("%q\n got %s\nwant %s", wire, got, want)
	}
}

func FuzzWalk(f *testing.F) {
	policy := "public"
	for _, check := range []*authv3.CheckRequest{full(), Question{Token: "a.b.c", Policy: &policy}.request(), asking(map[string]string{"a": "b"}, "a", "c"), {}} {
		wire, err := proto.Marshal(check)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) { agree(t, wire) })
}

// browser is what a browser sends through Envoy.
func browser(k *key) *authv3.CheckRequest {
	check := Question{Token: k.token(map[string]any{"scope": "openid profile", "client_id": "web", "email": "alice@example.com"}), Headers: []authz.Header{
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
		for b.Loop() {
			if r := readQuestion(wire); len(r.Headers) == 0 {
				b.Fatal("nothing read")
			}
		}
	})
}

// BenchmarkWire is a whole Check over a socket, client included: with the
// generated service, and with ours.
func BenchmarkWire(b *testing.B) {
	k := newKey(b)
	s, _ := server(b, k, options{})
	generated := grpc.NewServer()
	authv3.RegisterAuthorizationServer(generated, s)
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
						b.Errorf("%v %v", r, err)
						return
					}
				}
			})
		})
	}
}
