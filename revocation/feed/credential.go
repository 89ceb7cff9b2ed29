package feed

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Token is a credential that replicas may present.
type Token struct {
	Name   string            // a replica belongs to the token of this name
	SHA256 [sha256.Size]byte // of the token
	// MaxReplicas bounds the replicas of this token that follow now, or were
	// lost less than a minute ago; default 1024.
	MaxReplicas int
}

type tokenKey struct{}

// admit lets a call in by its credential before anything else of it is looked
// at: it runs for every method, also for those that do not exist.
func (s *Server) admit(ctx context.Context, call *tap.Info) (context.Context, error) {
	name, ok := identify(s.tokens, call.Header)
	if !ok {
		s.refusals.Do(func() {
			s.logger.Warn("calls without a known credential are refused; compare the replica's token_file with feed.tokens",
				"method", call.FullMethodName, "from", remote(ctx))
		})
		return nil, errUnauthenticated
	}
	return context.WithValue(ctx, tokenKey{}, name), nil
}

var errUnauthenticated = status.Error(codes.Unauthenticated, "the feed needs a credential that it knows: authorization: Bearer TOKEN")

// identify finds the token that the metadata presents. It takes the same time
// whichever it is.
func identify(tokens []Token, header metadata.MD) (name string, ok bool) {
	values := header.Get("authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return "", false
	}
	sum := sha256.Sum256([]byte(secret))
	found := -1
	for i := range tokens {
		if subtle.ConstantTimeCompare(sum[:], tokens[i].SHA256[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return "", false
	}
	return tokens[found].Name, true
}
