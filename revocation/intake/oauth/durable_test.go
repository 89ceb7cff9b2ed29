package oauth_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwkstest"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/globalrevocation"
	"rescind/revocation/intake/intaketest"
	"rescind/revocation/intake/logout"
	"rescind/revocation/intake/tokenrevocation"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

const endpointURL = "https://signals.example.com/gtr"

// world holds the endpoints over a real ledger, whose log is in memory and can
// fail.
type world struct {
	t                      *testing.T
	issuer                 *jwkstest.Issuer
	log                    *ledgertest.Log
	ledger                 *ledger.Ledger
	logout, revoke, global http.Handler
}

func newWorld(t *testing.T, dryRun bool) *world {
	t.Helper()
	issuer, signer := intaketest.StartSigner(t)
	w := &world{t: t, issuer: issuer, log: ledgertest.New()}
	ctx, stop := context.WithCancel(context.Background())
	w.ledger = ledger.New(w.log, ledger.Options{Retention: 720 * time.Hour})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.ledger.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	<-w.ledger.CaughtUp()

	m := intake.Map{intake.NameEmail: jwt.MemberName("email")}
	door := intake.New(intake.Options{
		Name: "idp", Kind: "test", Issuers: []string{w.issuer.URL()}, DryRun: dryRun, Map: m, Shelf: &intaketest.Shelf{},
		Authority: ledger.NewAuthority(w.ledger, ledger.AuthorityOptions{}),
	})
	w.logout = &logout.Endpoint{Signer: signer, Clients: []string{"demo"}, Map: m, Door: door}
	w.revoke = tokenrevocation.New(signer, []tokenrevocation.Client{{ID: "demo", SHA256: sha256.Sum256([]byte("s"))}}, door)
	w.global = &globalrevocation.Endpoint{Signer: signer, Audience: endpointURL, Clients: []string{"0oa1"}, Issuers: []string{w.issuer.URL()}, Map: m, Door: door}
	return w
}

// post sends a body to an endpoint, and returns the status of the answer.
func (w *world) post(h http.Handler, mediaType, authorization, body string) int {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code
}

const aForm = "application/x-www-form-urlencoded"

func (w *world) sendLogout(claims map[string]any) func() int {
	token, err := w.issuer.LogoutToken(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return func() int { return w.post(w.logout, aForm, "", url.Values{"logout_token": {token}}.Encode()) }
}

func (w *world) giveBack(claims map[string]any) func() int {
	token, err := w.issuer.Mint(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return func() int { return w.post(w.revoke, aForm, "Basic ZGVtbzpz", url.Values{"token": {token}}.Encode()) }
}

func (w *world) endUser(subID string) func() int {
	now := time.Now()
	credential, err := w.issuer.MintWith(map[string]any{"typ": "global-token-revocation+jwt"}, map[string]any{
		"sub": "0oa1", "aud": endpointURL, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return func() int { return w.post(w.global, "application/json", "Bearer "+credential, `{"sub_id":`+subID+`}`) }
}

// inForce returns the claims of the newest revocation in force, and the number of
// all.
func (w *world) inForce() (newest string, n int) {
	active := true
	items, _ := w.ledger.List(ledger.Query{Limit: 100, Active: &active})
	if len(items) == 0 {
		return "", 0
	}
	for _, c := range items[0].Target.Claims {
		newest += c.Name + "=" + c.Value.String()
	}
	return newest, len(items)
}

// A success means that the effect is durable, and that a repetition has none. A
// failure means that the sender must send again, and that nothing is in force.
func TestASuccessIsDurable(t *testing.T) {
	w := newWorld(t, false)
	iss := w.issuer.URL()
	for i, c := range []struct {
		name string
		send func() int
		done int
		want string
	}{
		{"the logout of a session", w.sendLogout(map[string]any{"sub": "alice", "sid": "s-1"}), http.StatusOK, "sid=s-1"},
		{"the logout of a subject", w.sendLogout(map[string]any{"sub": "alice"}), http.StatusOK, "sub=alice"},
		{"a token of the client", w.giveBack(map[string]any{"jti": "j-1"}), http.StatusOK, "jti=j-1"},
		{"a token without jti", w.giveBack(map[string]any{"jti": nil}), http.StatusOK, ""},
		{"a user by email", w.endUser(`{"format":"email","email":"bob@example.com"}`), http.StatusNoContent, "email=bob@example.com"},
		{"a user by issuer and subject", w.endUser(`{"format":"iss_sub","iss":"` + iss + `","sub":"carol"}`), http.StatusNoContent, "sub=carol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.fail(errors.New("the disk is gone"))
			if status := c.send(); status != http.StatusServiceUnavailable {
				t.Errorf("while the log fails: got %d, want 503", status)
			}
			if _, n := w.inForce(); n != i {
				t.Errorf("while the log fails: got %d revocations, want %d", n, i)
			}
			w.fail(nil)
			for _, name := range []string{"then", "a replay"} {
				if status := c.send(); status != c.done {
					t.Errorf("%s: got %d, want %d", name, status, c.done)
				}
				if newest, n := w.inForce(); n != i+1 || newest != c.want {
					t.Errorf("%s: got %d revocations, the newest of %q, want %d and %q", name, n, newest, i+1, c.want)
				}
			}
		})
	}
}

// fail makes the log fail with err from now on.
func (w *world) fail(err error) {
	w.log.Lock()
	defer w.log.Unlock()
	w.log.FailAppend = func() error { return err }
}

func TestARefusedEventLeavesTheSetAsItIs(t *testing.T) {
	w := newWorld(t, false)
	for _, c := range []struct {
		name string
		send func() int
		want int
	}{
		{"a token of another client", w.giveBack(map[string]any{"client_id": "other"}), http.StatusBadRequest},
		{"an expired token", w.giveBack(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), http.StatusOK},
		{"a token of another issuer", w.giveBack(map[string]any{"iss": "https://other.example.com/"}), http.StatusOK},
		{"a logout for another client", w.sendLogout(map[string]any{"sub": "alice", "aud": "other"}), http.StatusBadRequest},
		{"a user of another issuer", w.endUser(`{"format":"iss_sub","iss":"https://other.example.com/","sub":"carol"}`), http.StatusForbidden},
	} {
		if status := c.send(); status != c.want {
			t.Errorf("%s: got %d, want %d", c.name, status, c.want)
		}
		if newest, n := w.inForce(); n != 0 {
			t.Errorf("%s: got %d revocations, such as %q, want none", c.name, n, newest)
		}
	}
}

// The cut-off of a subject is the iat of the logout token, so a replay denies
// no later login.
func TestALogoutReachesNoLaterLogin(t *testing.T) {
	w := newWorld(t, false)
	issued := time.Now().Add(-time.Minute).Truncate(time.Second)
	if status := w.sendLogout(map[string]any{"sub": "alice", "iat": issued.Unix()})(); status != http.StatusOK {
		t.Fatalf("got %d, want 200", status)
	}
	active := true
	items, _ := w.ledger.List(ledger.Query{Limit: 1, Active: &active})
	if want := revocation.MicrosOf(issued.Add(time.Second)); len(items) != 1 || items[0].Before != want || items[0].Block {
		t.Errorf("got %+v, want one revocation of tokens before %v", items, want)
	}
}

func TestARehearsalIsNotAnsweredAsDone(t *testing.T) {
	w := newWorld(t, true)
	for name, send := range map[string]func() int{
		"logout":                  w.sendLogout(map[string]any{"sub": "alice"}),
		"revocation_endpoint":     w.giveBack(nil),
		"global_token_revocation": w.endUser(`{"format":"email","email":"bob@example.com"}`),
	} {
		if status := send(); status != http.StatusAccepted {
			t.Errorf("%s: got %d, want 202", name, status)
		}
	}
	if newest, n := w.inForce(); n != 0 {
		t.Errorf("got %d revocations, such as %q, want none", n, newest)
	}
}
