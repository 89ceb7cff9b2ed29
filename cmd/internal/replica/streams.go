package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"rescind/envoy/known"
	revset "rescind/revocation/replica"
)

// openStreams ends the open streams of Envoys whose token has been revoked since they
// began. It looks all of them up again after a change, so it needs to know nothing
// about the change.
type openStreams struct {
	// again returns a token that was let in, and lookup whether it is revoked. Both are
	// set before the first stream opens.
	again  func(policy, token string) *revset.Again
	lookup func(*revset.Again, time.Time) (revset.Verdict, error)

	dirty chan struct{} // holds a value after a change that was not looked at yet

	mu    sync.Mutex
	of    map[known.StreamID]openStream
	ended uint64

	looked []lookedAt // memory of look
}

type openStream struct {
	token *revset.Again
	end   func()
}

type lookedAt struct {
	id     known.StreamID
	stream openStream
}

// streamPause is the least time from one look at all streams to the next. A stream ends
// within about this time after a revocation.
const streamPause = 100 * time.Millisecond

// mostRest bounds the rests of one look.
const mostRest = 200 * time.Millisecond

func newOpenStreams() *openStreams {
	return &openStreams{dirty: make(chan struct{}, 1), of: map[known.StreamID]openStream{}}
}

// Opened is part of known.Streams. A token that cannot be read has passed no check, so
// no stream depends on it.
func (s *openStreams) Opened(id known.StreamID, policy, token string, end func()) {
	again := s.again(policy, token)
	if again == nil {
		return
	}
	stream := openStream{again, end}
	s.mu.Lock()
	s.of[id] = stream
	s.mu.Unlock()
	if s.revoked(stream) { // since it began, or while the replica was away
		s.end(id, stream)
	}
}

// Closed is part of known.Streams.
func (s *openStreams) Closed(id known.StreamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, id)
}

// Gone is part of known.Streams.
func (s *openStreams) Gone(connection uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.of {
		if id.Connection == connection {
			delete(s.of, id)
		}
	}
}

// changed notes that the revocations have changed.
func (s *openStreams) changed() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// run looks at the streams after each change, until ctx ends.
func (s *openStreams) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
		}
		s.look()
		select {
		case <-ctx.Done():
			return
		case <-time.After(streamPause):
		}
	}
}

// look looks at all streams. There may be many, so it leaves half of the time to
// requests.
func (s *openStreams) look() {
	s.mu.Lock()
	for id, stream := range s.of {
		s.looked = append(s.looked, lookedAt{id, stream})
	}
	s.mu.Unlock()
	breath := revset.NewBreath(mostRest)
	for _, l := range s.looked {
		breath.Take()
		if s.revoked(l.stream) {
			s.end(l.id, l.stream)
		}
	}
	clear(s.looked)
	s.looked = s.looked[:0]
}

// revoked reports whether a request with the token of a stream would be denied because
// of the revocations. A replica that is not ready does not know, and looks again once it is.
func (s *openStreams) revoked(stream openStream) bool {
	verdict, err := s.lookup(stream.token, time.Now())
	return verdict.Revoked || err != nil && !errors.Is(err, revset.ErrNotReady)
}

func (s *openStreams) end(id known.StreamID, stream openStream) {
	s.mu.Lock()
	_, open := s.of[id]
	delete(s.of, id)
	if open {
		s.ended++
	}
	s.mu.Unlock()
	if open {
		stream.end()
	}
}

func (s *openStreams) figures() (open int, ended uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.of), s.ended
}
