package envoy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"rescind/authz"
)

// requestOf reads a decoded CheckRequest: the reference for walk.
func requestOf(check *authv3.CheckRequest) (r *authz.Request, http bool) {
	attributes := check.GetAttributes()
	request := attributes.GetRequest().GetHttp()
	r = &authz.Request{
		Source:      sourceOf(attributes.GetSource().GetAddress().GetSocketAddress().GetAddress()),
		Certificate: attributes.GetSource().GetCertificate(),
		Path:        request.GetPath(), Host: request.GetHost(),
	}
	for name, value := range request.GetHeaders() {
		r.Headers = append(r.Headers, authz.Header{Name: name, Value: value})
	}
	for _, h := range request.GetHeaderMap().GetHeaders() {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		r.Headers = append(r.Headers, authz.Header{Name: h.GetKey(), Value: value})
	}
	if policy, ok := attributes.GetContextExtensions()[policyExtension]; ok {
		r.Policy = &policy
	}
	return r, request != nil
}

// Check answers a decoded CheckRequest as if Envoy had sent it.
func (s *Server) Check(ctx context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	wire, err := proto.Marshal(check)
	if err != nil {
		return nil, err
	}
	return received(s.answer(ctx, func() (*authz.Request, authz.Reason) {
		return new(reading).readCheck(mem.BufferSlice{mem.SliceBuffer(wire)})
	}, reply)), nil
}

// received returns the message that Envoy reads for an answer.
func received(answer any) *authv3.CheckResponse {
	data, err := newCodec().Marshal(answer)
	if err != nil {
		panic(err)
	}
	defer data.Free()
	r := &authv3.CheckResponse{}
	if err := proto.Unmarshal(data.Materialize(), r); err != nil {
		panic(err)
	}
	return r
}

// plain returns r in a form that can be compared: the map of headers has no
// order, and nil is unreadable.
func plain(r *authz.Request, http bool) string {
	if r == nil {
		return "unreadable"
	}
	headers := slices.SortedStableFunc(slices.Values(r.Headers), func(a, b authz.Header) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value)) })
	policy := "none"
	if r.Policy != nil {
		policy = fmt.Sprintf("%q", *r.Policy)
	}
	return fmt.Sprintf("http %v headers %q policy %s certificate %q source %s grpc %v path %q host %q", http, headers, policy, r.Certificate, r.Source, fromGRPC(r), r.Path, r.Host)
}

// full returns a CheckRequest with something in every field that Envoy fills in, and in some more.
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

// walked returns the request that walk reads, in the form of plain.
func walked(wire []byte) string {
	r, http, _ := new(reading).walk(string(wire))
	return plain(r, http)
}

func TestWalkReadsAsTheStandardDecoder(t *testing.T) {
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
		"no header":    asking(nil),
		"empty":        {},
		"not HTTP":     {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
	} {
		wire, err := proto.Marshal(check)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := walked(wire), plain(requestOf(check)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestUnreadableCheckRequests(t *testing.T) {
	wire, err := proto.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	group := protowire.AppendTag(protowire.AppendTag(slices.Clone(wire), 99, protowire.StartGroupType), 99, protowire.EndGroupType)
	twice := append(slices.Clone(wire), wire...)
	many := map[string]string{}
	for i := range 300 {
		many[fmt.Sprintf("x-%d", i)] = "1"
	}
	crowd, err := proto.Marshal(asking(many))
	if err != nil {
		t.Fatal(err)
	}
	other := protowire.AppendVarint(protowire.AppendTag(slices.Clone(wire), 1, protowire.VarintType), 7) // attributes, as a number
	for _, c := range []struct {
		name     string
		wire     []byte
		readable bool
	}{
		{"as it is", wire, true},
		{"attributes of another wire type", other, true},
		{"twice", twice, true},
		{"many merged headers", crowd, true},
		{"many merged headers, twice", append(slices.Clone(crowd), crowd...), true},
		{"the largest number", append(slices.Clone(wire), 0x98, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), true},
		// A name goes into headers_to_remove, and could not be sent.
		{"a raw header whose name is not UTF-8", rawHeaderWire("x-jwt-\xff", "1"), false},
		{"a raw header whose value is not UTF-8 where it is not raw", rawHeaderWire("x-jwt-a", "\xff"), false},
		{"a policy that is not UTF-8", nested(1, field(10, field(1, "policy")+field(2, "\xff"))), false},
		{"a merged header whose name is not UTF-8", nested(1, field(4, field(2, field(3, field(1, "x-jwt-\xff")+field(2, "1"))))), false},
		{"a certificate that is not UTF-8", nested(1, field(1, field(5, "\xff"))), false},
		{"a number that overflows", append(slices.Clone(wire), 0x98, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02), false},
		{"cut off", wire[:len(wire)-1], false},
		{"a number without end", append(slices.Clone(wire), bytes.Repeat([]byte{0xff}, 11)...), false},
		{"field 0", append(slices.Clone(wire), 0, 0), false},
		{"a group", group, false}, // the standard decoder reads it, no Envoy sends it
		{"an end without a group", protowire.AppendTag(slices.Clone(wire), 99, protowire.EndGroupType), false},
		{"nonsense", []byte("GET / HTTP/1.1"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var check authv3.CheckRequest
			err := proto.Unmarshal(c.wire, &check)
			if err == nil != c.readable && c.name != "a group" {
				t.Fatalf("the standard decoder says %v, want readable %t", err, c.readable)
			}
			want := "unreadable"
			if c.readable {
				want = plain(requestOf(&check))
			}
			if got := walked(c.wire); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// field returns a field of a message that holds a text, or a message.
func field(number protowire.Number, value string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value))
}

func nested(number protowire.Number, fields string) []byte { return []byte(field(number, fields)) }

// rawHeaderWire returns a CheckRequest with one header in header_map, not raw.
func rawHeaderWire(name, value string) []byte {
	header := field(1, name) + field(2, value)
	return nested(1, field(4, field(2, field(13, field(1, header)))))
}

// inPieces returns wire as gRPC hands it over: in buffers of n bytes.
func inPieces(wire []byte, n int) mem.BufferSlice {
	var pieces mem.BufferSlice
	for chunk := range slices.Chunk(wire, n) {
		pieces = append(pieces, mem.SliceBuffer(chunk))
	}
	return pieces
}

func TestRequestKeepsNothingOfTheBuffer(t *testing.T) {
	for name, body := range map[string]int{"copied whole": 0, "without its body": 2 * maxWhole} {
		check := full()
		check.Attributes.Request.Http.RawBody = make([]byte, body)
		wire, err := proto.Marshal(check)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := new(reading).readCheck(inPieces(wire, 16<<10))
		before := plain(r, true)
		for i := range wire {
			wire[i] = 'x'
		}
		if after := plain(r, true); after != before || before == "unreadable" {
			t.Errorf("%s: the request changed with the buffer:\n got %s\nwant %s", name, after, before)
		}
	}
}

// Generated CheckRequests, in any order of fields, are read as by the standard
// decoder.
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
			switch rapid.IntRange(0, 4).Draw(t, "without") {
			case 1:
				check.Attributes.Source.Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "p"}}}
			case 2:
				check.Attributes.Source = nil
			case 3:
				check.Attributes.Request.Http.HeaderMap = nil
			case 4:
				check.Attributes.Request.Http = nil
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

// agree compares walk, with and without the body, with the standard decoder.
func agree(t failing, wire []byte) {
	var check authv3.CheckRequest
	readable := proto.Unmarshal(wire, &check) == nil
	got := walked(wire)
	if want := plain(requestOf(&check)); readable && got != want && (got != "unreadable" || !hasGroup(wire)) {
		t.Errorf("%q\n got %s\nwant %s", wire, got, want)
	}
	for _, size := range []int{1, 7, len(wire) + 1} {
		stripped, ok := strip(inPieces(wire, size), len(wire))
		if !ok {
			stripped = []byte{0}
		}
		if without := walked(stripped); got != without && got != "unreadable" && (without != "unreadable" || !hasGroup(wire)) {
			t.Errorf("%q in pieces of %d bytes, without its body\n got %s\nwant %s", wire, size, without, got)
		} else if got == "unreadable" && without != got && readable {
			t.Errorf("%q in pieces of %d bytes without its body: got %s, want unreadable", wire, size, without)
		}
	}
}

// hasGroup reports whether a field of the message or of one inside it is a
// group, or may be one.
func hasGroup(wire []byte) bool {
	for len(wire) > 0 {
		_, typ, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return false
		}
		if typ == protowire.StartGroupType {
			return true
		}
		length := protowire.ConsumeFieldValue(1, typ, wire[n:])
		if length < 0 {
			return false
		}
		if v, ok := protowire.ConsumeBytes(wire[n:]); typ == protowire.BytesType && ok > 0 && hasGroup(v) {
			return true
		}
		wire = wire[n+length:]
	}
	return false
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
