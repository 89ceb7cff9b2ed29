package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"rescind/envoy/envoytest"
)

const (
	soakWorkers = 8
	soakRate    = 500 // requests a second
	soakStreams = 8
	soakSpoof   = "an identity that the client made up"
)

// ask sends requests at an even pace until ctx ends.
func (k *soak) ask(ctx context.Context) {
	pace := time.NewTicker(soakWorkers * time.Second / soakRate)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		kind, token := k.next()
		if token != nil {
			k.request(ctx, kind, token)
		}
	}
}

// next returns a token to ask about. A new one is known to nobody.
func (k *soak) next() (kind string, token *soakToken) {
	switch n := mathrand.N(100); {
	case n < 5:
		token = k.mint(nil)
		k.model.add(token)
		return "new", token
	case n < 13:
		return "never valid", k.model.oneOf(&k.model.bad)
	case n < 25:
		return "gone", k.model.oneOf(&k.model.gone)
	case n < 35:
		return "spoofing", k.model.anyGood()
	default:
		return "used again", k.model.anyGood()
	}
}

// mint returns a good token of a user of its own. One in ten lives for a short time.
func (k *soak) mint(claims map[string]any) *soakToken {
	now := time.Now()
	token := &soakToken{
		subject: "user-" + rand.Text(), id: rand.Text(), session: rand.Text(), client: fmt.Sprint("app-", mathrand.N(4)),
		issued: now.Truncate(time.Second), ends: now.Truncate(time.Second).Add(5 * time.Minute),
	}
	if mathrand.N(10) == 0 {
		token.ends = token.issued.Add(min(20*time.Second, k.round))
	}
	all := map[string]any{
		"sub": token.subject, "jti": token.id, "sid": token.session, "client_id": token.client,
		"iat": token.issued.Unix(), "exp": token.ends.Unix(),
	}
	for name, value := range claims {
		all[name] = value
	}
	var err error
	if token.text, err = k.Mint(all); err != nil {
		k.t.Error(err)
	}
	token.kid = kidOf(token.text)
	k.model.mu.Lock()
	k.model.key(token.kid)
	k.model.mu.Unlock()
	return token
}

// mintBad makes tokens that are never valid.
func (k *soak) mintBad() {
	var bad []*soakToken
	for _, c := range []struct {
		why    string
		claims map[string]any
	}{
		{"too old", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}},
		{"for another audience", map[string]any{"aud": "other"}},
		{"of another issuer", map[string]any{"iss": "https://other.example.com/"}},
		{"not valid yet", map[string]any{"nbf": time.Now().Add(24 * time.Hour).Unix()}},
	} {
		token := k.mint(c.claims)
		token.never = c.why
		bad = append(bad, token)
	}
	forged := k.mint(nil)
	other := k.mint(nil)
	forged.text = forged.text[:strings.LastIndexByte(forged.text, '.')] + other.text[strings.LastIndexByte(other.text, '.'):]
	forged.never = "with the signature of another token"
	k.model.mu.Lock()
	defer k.model.mu.Unlock()
	bad = append(bad, forged)
	k.model.bad = bad
}

// request sends a request and checks the answer against the model.
func (k *soak) request(ctx context.Context, kind string, token *soakToken) {
	var headers []string
	if kind == "spoofing" {
		headers = []string{"X-Jwt-Subject", soakSpoof, "x_jwt_id", soakSpoof}
	}
	began := time.Now()
	a, err := k.Get(ctx, "/x", token.text, headers...)
	ended := time.Now()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		k.counts.add(kind, 0)
		if !k.model.mayBeCut(time.Time{}, ended) {
			k.wrong("%s: the request got %v, want an answer", kind, err)
		}
		return
	}
	k.counts.add(kind, a.Status)
	allow, deny := k.model.judge(token, began, ended)
	k.counts.judged(deny)
	switch {
	case a.Status == http.StatusOK && deny != "":
		k.wrong("%s: a token %s got 200, want a denial; the request began at %v", kind, deny, began)
	case a.Status == http.StatusServiceUnavailable && allow && !longForm:
		k.counts.starved.Add(1) // a machine without a processor to spare answers too late
	case a.Status != http.StatusOK && allow:
		k.wrong("%s: a good token got %d %s, want 200; the request began at %v", kind, a.Status, a.Body, began)
	case !slices.Contains([]int{200, 401, 403, 503}, a.Status):
		k.wrong("%s: got %d %s, want 200, 401, 403 or 503", kind, a.Status, a.Body)
	case a.Status == http.StatusOK:
		seen, err := a.Seen()
		if err != nil || !slices.Equal(seen.Header["X-Jwt-Subject"], []string{token.subject}) || strings.Contains(string(a.Body), soakSpoof) {
			k.wrong("%s: the upstream saw %s, want the subject %s and no header of the client's", kind, a.Body, token.subject)
		}
	}
}

// wrong fails the test. It shows the first faults only.
func (k *soak) wrong(format string, values ...any) {
	if k.counts.wrong.Add(1) <= 20 {
		k.t.Errorf("after %v: "+format, append([]any{time.Since(k.counts.began)}, values...)...)
	}
}

// revokeNarrow revokes tokens one by one, each by another claim, until ctx ends.
func (k *soak) revokeNarrow(ctx context.Context) {
	pace := time.NewTicker(min(500*time.Millisecond, k.round/8))
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		if token := k.model.takeGood(); token != nil {
			k.revoke(ctx, token)
			for range 3 {
				k.request(ctx, "just revoked", token)
			}
		}
	}
}

// revoke revokes a token and notes when that is in force.
func (k *soak) revoke(ctx context.Context, token *soakToken) {
	body := map[string]any{"issuer": k.Issuer.URL()}
	switch mathrand.N(4) {
	case 0:
		body["claims"] = map[string]any{"sub": token.subject}
		body["issued_before"] = time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	case 1:
		body["claims"] = map[string]any{"jti": token.id}
	case 2:
		body["claims"] = map[string]any{"sid": token.session}
	case 3:
		body = map[string]any{"token": token.text}
	}
	k.post(ctx, body, &token.inForce)
}

type soakRevocation struct {
	Replicas     struct{ Total, Applied int }
	IssuedBefore time.Time `json:"issued_before"`
}

// post posts a revocation and stores the time at which it is in force.
func (k *soak) post(ctx context.Context, body map[string]any, inForce *time.Time) (r soakRevocation) {
	a, err := k.Admin(context.WithoutCancel(ctx), http.MethodPost, "/v1/revocations?confirm=true&wait=all&timeout=20s", body, &r)
	now := time.Now()
	if err != nil || a.Status != http.StatusCreated || r.Replicas.Total != 1 || r.Replicas.Applied != 1 {
		k.wrong("revoke %v: got %d %s %v, want 201, in force on the replica", body, a.Status, a.Body, err)
		return r
	}
	k.counts.revocations.Add(1)
	k.model.mu.Lock()
	defer k.model.mu.Unlock()
	*inForce = now
	return r
}

// revokeWide revokes the tokens of a client, or all tokens.
func (k *soak) revokeWide(round int) {
	w := &soakWide{sent: time.Now(), before: time.Now().Truncate(time.Second).Add(time.Second)}
	body := map[string]any{"issuer": k.Issuer.URL(), "issued_before": w.before.UTC()}
	if round%2 == 0 {
		w.client = "app-0"
		body["claims"] = map[string]any{"client_id": w.client}
	} else {
		body["all"] = true
	}
	k.model.mu.Lock()
	k.model.wide = append(k.model.wide, w)
	k.model.mu.Unlock()
	k.post(k.t.Context(), body, &w.inForce)
	k.counts.wide.Add(1)
	k.model.lose(w)
}

// stream opens one stream after the other, and revokes the token of each.
func (k *soak) stream(ctx context.Context, n int) {
	for ctx.Err() == nil {
		token := k.mint(nil)
		if n%2 == 0 { // its token is known when the stream begins
			for range 3 {
				k.request(ctx, "before a stream", token)
			}
		}
		if !k.streamOnce(ctx, token) {
			time.Sleep(20 * time.Millisecond) // the replica is away
		}
	}
}

// streamOnce opens a stream, revokes its token after a while or when ctx ends, and waits
// for the end of the stream. It returns false if the gateway does not allow the stream.
func (k *soak) streamOnce(ctx context.Context, token *soakToken) bool {
	r, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, k.GatewayURL+envoytest.StreamPath, nil)
	if err != nil {
		k.t.Error(err)
		return false
	}
	r.Header.Set("Authorization", "Bearer "+token.text)
	if mathrand.N(2) == 0 { // watched from the request on, and not only from the response
		r.Header.Set("Accept", "text/event-stream")
	}
	opened := time.Now()
	a, err := k.streams.Do(r)
	if err != nil {
		if !k.model.mayBeCut(time.Time{}, time.Now()) {
			k.wrong("open a stream: got %v, want an answer", err)
		}
		return false
	}
	defer a.Body.Close()
	k.counts.add("stream", a.StatusCode)
	if allow, _ := k.model.judge(token, opened, time.Now()); allow && a.StatusCode != http.StatusOK && (longForm || a.StatusCode != http.StatusServiceUnavailable) {
		k.wrong("open a stream with a good token: got %d, want 200; the request began at %v", a.StatusCode, opened)
	}
	if a.StatusCode != http.StatusOK {
		return false
	}
	ended := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, a.Body)
		ended <- time.Now()
	}()
	select {
	case at := <-ended:
		if allow, _ := k.model.judge(token, opened, at); allow && !k.model.mayBeCut(opened, at) {
			k.wrong("the stream of a good token ended after %v, want it open", at.Sub(opened))
		}
		return true
	case <-ctx.Done():
	case <-time.After(mathrand.N(min(20*time.Second, k.round/2))):
	}
	k.resets(ctx, token, opened, ended)
	return true
}

// resets revokes the token of an open stream and demands that the stream ends.
func (k *soak) resets(ctx context.Context, token *soakToken, opened time.Time, ended <-chan time.Time) {
	k.model.mu.Lock()
	token.sent = time.Now()
	k.model.mu.Unlock()
	k.revoke(ctx, token)
	acknowledged := time.Now()
	select {
	case at := <-ended:
		if !k.model.mayBeCut(opened, at) {
			k.counts.reset(at.Sub(acknowledged), k.model.wasAway(acknowledged, at))
		}
	case <-time.After(10 * time.Second):
		k.wrong("the stream of a revoked token is open 10 s after the acknowledgement")
	}
}
