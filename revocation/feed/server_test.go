package feed

import (
	"context"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/test/eventually"
)

// A server that is cut off says so, and its followers know how old they are.
func TestAgeIsPassedOn(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{Heartbeat: 10 * time.Millisecond})
	f := openFollower(t)
	defer following(t, f, options(s.addr))()
	eventually.True(t, "word", func() bool { return !f.Status().LastContact.IsZero() })
	if age := time.Since(f.Status().LastContact); age > 20*time.Second || f.Status().Stale {
		t.Errorf("beside a server that is current: the set is %v old and stale %v, want at most 20s and false", age, f.Status().Stale)
	}
	log.setAge(time.Hour)
	// The earlier contact holds, and no later contact is added.
	log.awaitAges(t)
	before := f.Status().LastContact
	log.awaitAges(t)
	if now := f.Status().LastContact; !now.Equal(before) {
		t.Errorf("beside a server that is an hour old: the last contact moved from %v to %v, want it to stay", before, now)
	}
	young := openFollower(t)
	defer following(t, young, options(s.addr))()
	eventually.True(t, "word", func() bool { return !young.Status().LastContact.IsZero() })
	if s := young.Status(); !s.Stale || !s.Ready || time.Since(s.LastContact) < time.Hour || !denies(t, young, "alice") {
		t.Errorf("a new follower of a server that is an hour old: status %+v, want it ready, stale, an hour old, and alice denied", s)
	}
	log.setAge(math.MaxInt64) // it never knew
	never := openFollower(t)
	defer following(t, never, options(s.addr))()
	eventually.True(t, "word", func() bool { return !never.Status().LastContact.IsZero() })
	if s := never.Status(); !s.Stale || !denies(t, never, "alice") {
		t.Errorf("a new follower of a server of unknown age: status %+v, want it stale and alice denied", s)
	}
}

func TestNotReady(t *testing.T) {
	log := newLog("log-1")
	log.setReady(errNoLog)
	s := serve(t, log, ServerOptions{Heartbeat: 10 * time.Millisecond})
	r := call(t, s.addr, newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("before the log is read: got %v, want Unavailable", err)
	}
	log.setReady(nil)
	r = call(t, s.addr, newHello("replica-a", "", 0))
	r.receive()
	log.setReady(errNoLog)
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("after the log was lost: got %v, want Unavailable", err)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{})
	r := call(t, s.addr, newHello("replica-a", "", 0))
	r.receive()
	s.Close()
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("an open stream when the server closes: got %v, want Unavailable", err)
	}
	r = call(t, s.addr, newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("a new stream to a closed server: got %v, want Unavailable", err)
	}
}

func TestFollowersThatSpeakWrong(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{})
	hello := func(change func(*feedpb.Hello)) *feedpb.ClientMessage {
		h := newHello("replica-a", "log-1", 1)
		change(h)
		return &feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: h}}
	}
	ack := func(revision uint64) *feedpb.ClientMessage {
		return &feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: &feedpb.Ack{Revision: revision}}}
	}
	good := hello(func(*feedpb.Hello) {})
	for name, messages := range map[string][]*feedpb.ClientMessage{
		"empty":          {{}},
		"ack first":      {ack(1)},
		"no name":        {hello(func(h *feedpb.Hello) { h.Name = "" })},
		"long name":      {hello(func(h *feedpb.Hello) { h.Name = string(make([]byte, 300)) })},
		"control chars":  {hello(func(h *feedpb.Hello) { h.Name = "a\nb" })},
		"no instance":    {hello(func(h *feedpb.Hello) { h.Instance = nil })},
		"short instance": {hello(func(h *feedpb.Hello) { h.Instance = h.Instance[:3] })},
		"two hellos":     {good, good},
		"from ahead":     {good, ack(2)},
		"empty later":    {good, {}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(withToken(t.Context(), secret), 10*time.Second)
			defer cancel()
			stream, err := feedpb.NewFeedClient(dial(t, s.addr)).Follow(ctx)
			if err != nil {
				t.Fatalf("opening a Follow stream: got %v, want no error", err)
			}
			r := &raw{stream, t}
			for _, m := range messages {
				r.say(m)
			}
			if err := r.end(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("messages %v: got %v, want InvalidArgument", messages, err)
			}
		})
	}
}
