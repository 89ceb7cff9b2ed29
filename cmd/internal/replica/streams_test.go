package replica

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rescind/envoy/known"
	"rescind/revocation"
	revset "rescind/revocation/replica"
)

// streamRig is open streams over verdicts that the test chooses, by token.
type streamRig struct {
	*openStreams
	verdicts map[string]error // errRevoked, another error, or nil
	tokens   map[*revset.Again]string
	ended    []string
}

var errRevoked = errors.New("revoked")

func newStreamRig() *streamRig {
	rig := &streamRig{openStreams: newOpenStreams(), verdicts: map[string]error{}, tokens: map[*revset.Again]string{}}
	rig.again = func(_, token string) *revset.Again {
		if token == "unreadable" {
			return nil
		}
		again := revset.NewAgain(&revocation.Token{})
		rig.tokens[again] = token
		return again
	}
	rig.lookup = func(a *revset.Again, _ time.Time) (v revset.Verdict, err error) {
		if err := rig.verdicts[rig.tokens[a]]; !errors.Is(err, errRevoked) {
			return v, err
		}
		return revset.Verdict{Revoked: true}, nil
	}
	return rig
}

func (rig *streamRig) open(connection, stream uint64, token string) {
	rig.Opened(known.StreamID{Connection: connection, Stream: stream}, "default", token, func() { rig.ended = append(rig.ended, token) })
}

func (rig *streamRig) want(t *testing.T, when string, open int, ended ...string) {
	t.Helper()
	slices.Sort(rig.ended)
	if got, n := rig.figures(); got != open || !slices.Equal(rig.ended, ended) || n != uint64(len(ended)) {
		t.Errorf("%s: got %d open streams, %v ended (%d counted), want %d open and %v ended", when, got, rig.ended, n, open, ended)
	}
}

func TestOpenStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newStreamRig()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { rig.run(ctx); close(done) }()
		change := func() {
			rig.changed()
			time.Sleep(streamPause + time.Millisecond)
			synctest.Wait()
		}

		rig.verdicts["late"], rig.verdicts["not ready"], rig.verdicts["too many"] = errRevoked, revset.ErrNotReady, revocation.ErrTooManyCombinations
		for i, token := range []string{"alice", "bob", "carol", "not ready", "unreadable"} {
			rig.open(1, uint64(i), token)
		}
		rig.open(2, 1, "dave")
		rig.want(t, "good streams", 5)
		rig.open(1, 9, "late")
		rig.want(t, "a token that was revoked before the report", 5, "late")
		rig.open(1, 10, "too many")
		rig.want(t, "a token that the replica cannot look up", 5, "late", "too many")

		rig.verdicts["alice"] = errRevoked
		synctest.Wait()
		rig.want(t, "before a change", 5, "late", "too many")
		change()
		rig.want(t, "alice revoked", 4, "alice", "late", "too many")
		change()
		rig.want(t, "no stream ends twice", 4, "alice", "late", "too many")

		rig.Closed(known.StreamID{Connection: 1, Stream: 1})
		rig.Gone(2)
		rig.verdicts["bob"], rig.verdicts["dave"] = errRevoked, errRevoked
		change()
		rig.want(t, "streams that have closed do not end", 2, "alice", "late", "too many")

		rig.verdicts["not ready"] = errRevoked
		change()
		rig.want(t, "revoked before the replica was ready", 1, "alice", "late", "not ready", "too many")
		cancel()
		<-done
	})
}
