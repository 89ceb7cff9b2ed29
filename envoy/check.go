package envoy

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"rescind/authz"
)

// authorization is the Authorization service. Its handler reads the message
// itself, so it is not the generated one.
var authorization = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: (*any)(nil),
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler: func(server any, ctx context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return server.(*Server).check(ctx)
		},
	}},
}

// check answers one Check. It returns an error only for a message that was not
// received, or is larger than max_message. Everything after that, a panic
// included, is answered with a decision.
func (s *Server) check(ctx context.Context) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "check panicked, request denied", slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
			answer, err = lastResort, nil
		}
	}()
	in, known := newReading(), false
	m := &in.message
	m.receiver = s.receiver
	defer func() {
		m.free()
		if known {
			in.reuse()
		}
	}()
	if err := m.receive(ctx); err != nil {
		return nil, err
	}
	answer = s.answer(ctx, func() (*authz.Request, authz.Reason) {
		defer m.free() // the decision does not need the message
		if m.refused != "" {
			return nil, m.refused
		}
		return in.readCheck(m.buffers)
	}, reply)
	_, known = answer.(*encodedAnswer)
	return answer, nil
}

// answer decides about the request that read returns, and returns the answer
// that respond makes of the decision.
func (s *Server) answer(ctx context.Context, read func() (*authz.Request, authz.Reason), respond func(*authz.Request, *authz.Decision) any) any {
	var answer any = lastResort
	s.gate.Decide(ctx, read, func(r *authz.Request, d *authz.Decision) { answer = respond(r, d) })
	return answer
}

// reply returns the answer for the codec. An *encodedAnswer has no text of the
// request, and neither has its decision.
func reply(r *authz.Request, d *authz.Decision) any {
	if d.Encoded != nil {
		return encodedAnswerTo(d)
	}
	return response(d, fromGRPC(r))
}
