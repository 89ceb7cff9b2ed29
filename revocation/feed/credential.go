package feed

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"rescind/revocation/bearer"
)

// Token is a credential that replicas may present.
type Token struct {
	Name   string      // a replica belongs to the token of this name
	SHA256 bearer.Hash // of the token
	// MaxReplicas bounds the replicas of this token that follow now, or were
	// lost less than a minute ago; default 1024.
	MaxReplicas int
}

type tokenKey struct{}

// admit checks the credential of a call before anything else of the call is read,
// and returns a context with the name of the token. gRPC runs admit for every
// method, also for a method that does not exist.
func (s *Server) admit(ctx context.Context, call *tap.Info) (context.Context, error) {
	i, err := bearer.Identify(s.hashes, call.Header.Get("authorization"))
	if err == nil {
		return context.WithValue(ctx, tokenKey{}, s.tokens[i].Name), nil
	}
	s.refusals.Do(func() {
		s.logger.Warn("call to the feed refused for its credential; compare the token_file of the replica with feed.tokens",
			"method", call.FullMethodName, "from", remote(ctx), "error", err)
	})
	if errors.Is(err, bearer.ErrNewline) {
		return nil, status.Error(codes.Unauthenticated, "the feed: "+err.Error())
	}
	return nil, errUnauthenticated
}

var errUnauthenticated = status.Error(codes.Unauthenticated, "the feed needs a credential that it knows: authorization: Bearer TOKEN")
