// Package ssftest runs a transmitter of the Shared Signals Framework on loopback.
// It speaks as Keycloak 26.7 does: the same paths, members and answers, pushes
// without an Accept header, and polls that are never held back. Tests make it
// misbehave.
//
// A [Transmitter] owns its server and its keys. All its methods are safe for
// concurrent use. mu is not held while an event is pushed.
package ssftest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"rescind/jwks/jwkstest"
)

// The credentials of the one receiver.
const (
	ClientID = "receiver"
	Secret   = "receiver-secret" //nolint:gosec // a test
)

// Event types that Keycloak sends.
const (
	SessionRevoked   = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	CredentialChange = "https://schemas.openid.net/secevent/caep/event-type/credential-change" //nolint:gosec // a name
	Verification     = "https://schemas.openid.net/secevent/ssf/event-type/verification"
	StreamUpdated    = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"
)

// Transmitter is a running transmitter.
type Transmitter struct {
	keys   *jwkstest.Issuer
	server *httptest.Server

	mu       sync.Mutex
	stream   map[string]any // nil: there is none
	status   string
	reason   string
	token    string            // the access token that is accepted; empty: none yet
	logins   int               // access tokens that were given
	queue    []queued          // not settled yet, the oldest first
	refused  map[string]string // code by jti
	acked    []string
	verified []string // states that were asked for
	polls    int
	fault    int  // status of every answer to a call with a credential; 0: none
	mute     bool // verification events are not sent
	least    int  // min_verification_interval of the next stream, in seconds
}

type queued struct{ id, token string }

// Start runs a transmitter until Close. Its keys are for ES256, because they are
// made at once; Keycloak's are for RS256.
func Start() (*Transmitter, error) {
	keys, err := jwkstest.Start(jwkstest.Options{Algorithm: "ES256"})
	if err != nil {
		return nil, err
	}
	t := &Transmitter{keys: keys, status: "enabled", refused: map[string]string{}}
	t.server = httptest.NewServer(t.handler())
	return t, nil
}

// Close ends the transmitter.
func (t *Transmitter) Close() {
	t.server.Close()
	t.keys.Close()
}

// Issuer returns the issuer of the events, which is also the issuer of the tokens
// of users.
func (t *Transmitter) Issuer() string { return t.server.URL + "/realms/demo" }

// KeysURI returns where the keys are.
func (t *Transmitter) KeysURI() string { return t.keys.URL() + "/jwks" }

// Handler returns the endpoints of the transmitter, for calls without a network.
func (t *Transmitter) Handler() http.Handler { return t.server.Config.Handler }

// Keys returns the issuer that holds the keys.
func (t *Transmitter) Keys() *jwkstest.Issuer { return t.keys }

// TokenURL returns where access tokens for the receiver come from.
func (t *Transmitter) TokenURL() string {
	return t.server.URL + "/realms/demo/protocol/openid-connect/token"
}

// PollURL returns where events are polled.
func (t *Transmitter) PollURL() string {
	return t.server.URL + "/realms/demo/ssf/transmitter/receivers/" + ClientID + "/streams/" + t.StreamID() + "/poll"
}

// StreamID returns the ID of the stream, or "".
func (t *Transmitter) StreamID() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, _ := t.stream["stream_id"].(string)
	return id
}

// Open makes the stream, as the receiver does by its API.
func (t *Transmitter) Open(delivery map[string]any) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := rand.Text()
	if delivery["method"] == "urn:ietf:rfc:8936" {
		delivery["endpoint_url"] = t.server.URL + "/realms/demo/ssf/transmitter/receivers/" + ClientID + "/streams/" + id + "/poll"
	}
	t.stream = map[string]any{
		"stream_id": id, "iss": t.Issuer(), "aud": []string{"ssf-rx/" + id}, "delivery": delivery,
		"events_supported": []string{SessionRevoked, CredentialChange}, "events_requested": []string{SessionRevoked, CredentialChange},
		"events_delivered": []string{SessionRevoked, CredentialChange}, "min_verification_interval": t.least, "default_subjects": "ALL",
	}
	t.status, t.reason = "enabled", ""
	return id
}

// Deliver changes the delivery of the stream.
func (t *Transmitter) Deliver(delivery map[string]any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream["delivery"] = delivery
}

// Session returns the subject of a session of a user, as Keycloak writes it.
func (t *Transmitter) Session(user, session string) map[string]any {
	return map[string]any{
		"format":  "complex",
		"user":    map[string]any{"format": "iss_sub", "iss": t.Issuer(), "sub": user},
		"session": map[string]any{"format": "opaque", "id": session},
	}
}

// User returns the subject of a user.
func (t *Transmitter) User(user string) map[string]any {
	return map[string]any{"format": "iss_sub", "iss": t.Issuer(), "sub": user}
}

// Mint returns the token of an event. The given claims replace those of Keycloak;
// nil removes a claim.
func (t *Transmitter) Mint(event string, members map[string]any, subject any, claims map[string]any) (id, token string) {
	all := map[string]any{
		"jti": rand.Text(), "iss": t.Issuer(), "iat": time.Now().Unix(), "aud": "ssf-rx/" + t.StreamID(), "txn": rand.Text(),
		"sub_id": subject, "events": map[string]any{event: members},
		"exp": nil, "sub": nil, "sid": nil, "scope": nil, "client_id": nil,
	}
	maps.Copy(all, claims)
	token, err := t.keys.MintWith(map[string]any{"typ": "secevent+jwt"}, all)
	if err != nil {
		panic(err) // impossible for claims that JSON can write
	}
	id, _ = all["jti"].(string)
	return id, token
}

// Send makes an event and queues it for polls. A stream that pushes gets it at
// once, by Push.
func (t *Transmitter) Send(event string, members map[string]any, subject any) (id string) {
	id, token := t.Mint(event, members, subject, nil)
	t.Queue(id, token)
	return id
}

// Queue queues a token for polls under a name.
func (t *Transmitter) Queue(id, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, queued{id, token})
}

// Answer is the answer of a receiver to a push.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Push sends a token to the receiver, with the header of the stream.
func (t *Transmitter) Push(token string) (*Answer, error) {
	t.mu.Lock()
	delivery, _ := t.stream["delivery"].(map[string]any)
	to, _ := delivery["endpoint_url"].(string)
	authorization, _ := delivery["authorization_header"].(string)
	t.mu.Unlock()
	req, err := http.NewRequest(http.MethodPost, to, strings.NewReader(token)) //nolint:noctx // a test
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/secevent+jwt")
	req.Header.Set("User-Agent", "Apache-HttpClient/4.5.14 (Java/17.0.15)")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(res.Body)
	return &Answer{res.StatusCode, res.Header, string(body)}, err
}

// Settled returns the tokens that were acknowledged, sorted, and the codes of those
// that were refused.
func (t *Transmitter) Settled() (acked []string, refused map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(slices.Values(t.acked)), maps.Clone(t.refused)
}

// Waiting returns how many tokens are not settled.
func (t *Transmitter) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue)
}

// Counts returns how often events were polled, how often verification was asked
// for, and how many access tokens were given.
func (t *Transmitter) Counts() (polls, verifications, logins int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.polls, len(t.verified), t.logins
}

// LastState returns the state of the last verification that was asked for.
func (t *Transmitter) LastState() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.verified) == 0 {
		return ""
	}
	return t.verified[len(t.verified)-1]
}

// SetStatus changes the status of the stream, as an administrator does.
func (t *Transmitter) SetStatus(status, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status, t.reason = status, reason
}

// Delete deletes the stream.
func (t *Transmitter) Delete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream = nil
}

// Expire ends the access token of the receiver before its time.
func (t *Transmitter) Expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token = "expired"
}

// Break answers every call of the receiver with this status; 0 ends it.
func (t *Transmitter) Break(status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault = status
}

// Least sets the min_verification_interval of the next stream.
func (t *Transmitter) Least(seconds int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.least = seconds
}

// Mute accepts calls for verification, and sends no event.
func (t *Transmitter) Mute(mute bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mute = mute
}

func answer(w http.ResponseWriter, status int, document any) {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(document); err != nil {
		panic(fmt.Sprint("a document of a test: ", err))
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}
