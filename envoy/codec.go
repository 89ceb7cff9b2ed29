package envoy

import (
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// codec is gRPC's standard codec behind a panic barrier. gRPC calls a codec
// outside the handlers, where a panic would end the process.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// lastResortWire is lastResort on the wire.
var lastResortWire = func() []byte {
	wire, err := proto.Marshal(lastResort)
	if err != nil {
		panic(err) // impossible for a constant
	}
	return wire
}()

// Marshal never fails for an answer to a Check: to Envoy an RPC error is not a
// denial. An answer that cannot be encoded, for example because a text in it is
// not UTF-8, is sent as the last resort.
func (c codec) Marshal(v any) (data mem.BufferSlice, err error) {
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("encoding %T panicked: %T", v, p)
		}
		if _, answer := v.(*authv3.CheckResponse); answer && err != nil {
			data, err = mem.BufferSlice{mem.SliceBuffer(lastResortWire)}, nil
		}
	}()
	if a, ok := v.(*encodedAnswer); ok {
		return a.buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal decodes the messages of the health service.
func (c codec) Unmarshal(data mem.BufferSlice, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoding %T panicked: %T", v, p)
		}
	}()
	return c.CodecV2.Unmarshal(data, v)
}
