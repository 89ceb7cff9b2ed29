package envoy

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
)

// A CheckRequest is some thirty objects, of which a decision needs the headers
// and three texts. This codec reads those alone, from the wire, into what the
// decision takes: half of the time that a Check otherwise costs on our side of
// the connection. Where the bytes are not of the plainest form, and for every
// other message, the standard codec does the work.

// question is a CheckRequest as the service below receives it.
type question struct{ request *authz.Request }

// codec is the standard one, but for questions.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal never fails for a question: what cannot be read is a request
// without headers, and denied as such. To Envoy an RPC error would not be a
// denial.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	q, ok := v.(*question)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer wire.Free()
	q.request = readQuestion(wire.ReadOnlyData())
	return nil
}

// readQuestion reads a CheckRequest.
func readQuestion(wire []byte) *authz.Request {
	// One copy of all of it, in which the texts then are: the buffer will be used
	// for something else.
	if r, ok := walk(string(wire)); ok {
		return r
	}
	var check authv3.CheckRequest
	if proto.Unmarshal(wire, &check) != nil {
		return &authz.Request{}
	}
	return requestOf(&check)
}

// authorization is the Authorization service, with a question for the
// CheckRequest of the generated one.
var authorization = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler:    checkHandler,
	}},
}

//nolint:revive // the order of a grpc.MethodHandler
func checkHandler(server any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
	var q question
	if err := decode(&q); err != nil {
		return nil, err // of the transport: the codec has none
	}
	answer := func(ctx context.Context, _ any) (any, error) {
		return server.(*Server).answer(ctx, func() (*authz.Request, authz.Reason) { return q.request, "" }), nil
	}
	if around == nil {
		return answer(ctx, &q)
	}
	return around(ctx, &q, &grpc.UnaryServerInfo{Server: server, FullMethod: authv3.Authorization_Check_FullMethodName}, answer)
}
