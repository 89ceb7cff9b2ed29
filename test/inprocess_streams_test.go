package test

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"
)

// One gateway serves all of them. The order matters: revocations of many tokens come
// late, and the replica restarts last.
func TestOpenStreams(t *testing.T) {
	t.Parallel()
	rig := startStreams(t, "    leeway: 0s\n")
	for _, c := range []struct {
		name string
		test func(*testing.T, *streamRig)
	}{
		{"OpenStreamEndsWhenItsTokenIsRevoked", testOpenStreamEndsWhenItsTokenIsRevoked},
		{"OrdinaryRequestInFlightIsNotReset", testOrdinaryRequestInFlightIsNotReset},
		{"EveryRevocationEndsItsStreams", testEveryRevocationEndsItsStreams},
		{"StreamsAreReportedAgainAfterARestart", testStreamsAreReportedAgainAfterARestart},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.test(t, rig) }) {
			return
		}
	}
}

// A stream whose token is revoked ends, whether its response has begun or not, and
// whether the gateway or the replica let it in. A revocation may come before the
// replica has heard of the stream.
func testOpenStreamEndsWhenItsTokenIsRevoked(t *testing.T, rig *streamRig) {
	const events = "application/json, text/event-stream"
	kinds := map[string]func(token string) held{
		"events":                           func(token string) held { return rig.get(t, "/streams/events", token, "Accept", events) },
		"events, before the response":      func(token string) held { return rig.get(t, "/streams/silent", token, "Accept", events) },
		"a body without a length":          func(token string) held { return rig.get(t, "/streams/events", token) },
		"a WebSocket":                      func(token string) held { return rig.upgrade(t, "/streams/socket", token) },
		"a WebSocket, before the response": func(token string) held { return rig.upgrade(t, "/streams/silent", token) },
		"gRPC":                             func(token string) held { return rig.call(t, token, watch) },
		"gRPC, before the response":        func(token string) held { return rig.call(t, token, list) },
	}
	ends := &ends{streamRig: rig}
	spared := map[string]held{}
	for kind, open := range kinds {
		other := login(t, rig.Stack, "other")
		spared[kind] = rig.opened(t, kind, func() held { return open(other) })
		for _, known := range []bool{false, true} {
			what := fmt.Sprintf("%s, known %v", kind, known)
			token := rig.token(t, what, known)
			stream := rig.opened(t, what, func() held { return open(token) })
			ends.revoke(t, what, stream, sub(what))
		}
	}
	ends.wait(t)
	rig.wantWatched(t, len(kinds))
	for kind, stream := range spared {
		wantOpen(t, kind, stream)
		stream.close()
	}
	rig.wantWatched(t, 0)
}

// token returns a token that the gateway knows, or that only the replica knows.
func (rig *streamRig) token(t *testing.T, subject string, known bool) string {
	t.Helper()
	token := login(t, rig.Stack, subject)
	if known {
		becomeKnown(t, rig.Stack, token)
	}
	return token
}

// An ordinary request comes to its end, although its token is revoked meanwhile.
func testOrdinaryRequestInFlightIsNotReset(t *testing.T, rig *streamRig) {
	ends := &ends{streamRig: rig}
	ordinary := map[string]held{}
	for _, known := range []bool{false, true} {
		what := fmt.Sprintf("known %v", known)
		token := rig.token(t, what, known)
		ordinary[what] = rig.opened(t, what, func() held { return rig.get(t, "/streams/late", token) })
		witness := rig.opened(t, what, func() held { return rig.get(t, "/streams/events", token) })
		ends.revoke(t, what, witness, sub(what))
	}
	ends.wait(t)
	close(rig.release)
	for what, request := range ordinary {
		<-request.ended
		if got := request.body.String(); got != "late" {
			t.Errorf("%s: got the answer %q, want all of it", what, got)
		}
	}
}

// Every kind of revocation ends the streams that it matches. The end of a token does
// not.
func testEveryRevocationEndsItsStreams(t *testing.T, rig *streamRig) {
	ends := &ends{streamRig: rig}
	open := func(what, token string) held {
		return rig.opened(t, what, func() held { return rig.get(t, "/streams/events", token) })
	}
	mint := func(claims map[string]any) string {
		full := map[string]any{"sub": rand.Text()}
		maps.Copy(full, claims)
		return minted(t, rig.Stack, full)
	}
	short := mint(map[string]any{"sub": "short", "iat": time.Now().Unix() - 1, "exp": time.Now().Unix() + 2})
	outlives := open("a short token", short)
	spared := open("another token", mint(nil))
	for name, c := range map[string]struct{ claims, target map[string]any }{
		"sub":    {map[string]any{"sub": "alice"}, sub("alice")},
		"sid":    {map[string]any{"sid": "s1"}, map[string]any{"claims": map[string]any{"sid": "s1"}}},
		"jti":    {map[string]any{"jti": "j1"}, map[string]any{"claims": map[string]any{"jti": "j1"}}},
		"client": {map[string]any{"azp": "web"}, map[string]any{"claims": map[string]any{"client_id": "web"}}},
		"claim":  {map[string]any{"tenant": "acme"}, map[string]any{"claims": map[string]any{"tenant": "acme"}}},
		"two":    {map[string]any{"sub": "bob", "tenant": "b"}, map[string]any{"claims": map[string]any{"sub": "bob", "tenant": "b"}}},
		"block":  {map[string]any{"sub": "erin"}, map[string]any{"claims": map[string]any{"sub": "erin"}, "block": true}},
	} {
		ends.revoke(t, name, open(name, mint(c.claims)), c.target)
	}
	token := mint(nil)
	ends.revoke(t, "token", open("token", token), map[string]any{"token": token})
	ends.wait(t)
	wantOpen(t, "another token", spared)

	becomes(t, rig.Stack, "after the end of a token", short, 401)
	wantOpen(t, "a token that has ended", outlives)
	ends.revoke(t, "a token that has ended", outlives, sub("short"))

	kid := rig.Issuer.KeyID()
	if err := rig.Issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	next := mint(nil)
	becomes(t, rig.Stack, "with the next key", next, 200)
	after := open("the next key", next)
	ends.revoke(t, "kid", spared, map[string]any{"kid": kid})
	ends.wait(t)
	wantOpen(t, "the next key", after)
	ends.revoke(t, "all", after, map[string]any{"all": true})
	ends.wait(t)
	rig.wantWatched(t, 0)
}

// After a restart of the replica the module reports every open stream again. A stream
// ends also if its token was revoked while the replica was away.
func testStreamsAreReportedAgainAfterARestart(t *testing.T, rig *streamRig) {
	nextSecond() // every token of before is revoked
	ends := &ends{streamRig: rig}
	streams := map[string]held{}
	for _, name := range []string{"alice", "bob", "carol"} {
		token := login(t, rig.Stack, name)
		streams[name] = rig.opened(t, name, func() held { return rig.get(t, "/streams/events", token) })
	}
	silent := rig.opened(t, "no response yet", func() held { return rig.upgrade(t, "/streams/silent", login(t, rig.Stack, "dave")) })
	rig.wantWatched(t, 4)
	rig.Replicas[0].Kill()
	full := map[string]any{"issuer": rig.Issuer.URL(), "claims": map[string]any{"sub": "alice"}}
	if a, err := rig.Admin(t.Context(), http.MethodPost, "/v1/revocations?confirm=true", full, nil); err != nil || a.Status != http.StatusCreated {
		t.Fatalf("revoke alice: got %d %v, want 201", a.Status, err)
	}
	ends.all = append(ends.all, end{"revoked while the replica was away", streams["alice"], time.Now()})
	if err := rig.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := rig.WaitReady(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ends.wait(t)
	rig.wantWatched(t, 3)
	ends.revoke(t, "revoked after the restart", streams["bob"], sub("bob"))
	ends.revoke(t, "revoked after the restart, without a response", silent, sub("dave"))
	ends.wait(t)
	wantOpen(t, "not revoked", streams["carol"])
}
