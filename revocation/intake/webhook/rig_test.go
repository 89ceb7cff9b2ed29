package webhook

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	"rescind/revocation/intake/intaketest"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

const (
	issuer = "https://idp.example.com/"
	secret = "a secret of the sender"
)

// rig is a hook over a real ledger in memory.
type rig struct {
	t     testing.TB
	log   *ledgertest.Log
	clock *ledgertest.Clock
	all   *ledger.Authority
	door  *intake.Door
	hook  *Hook
}

func newRig(t testing.TB, o Options, names intake.Map, may ...intake.Power) *rig {
	r := &rig{t: t, log: ledgertest.New(), clock: ledgertest.NewClock()}
	l := ledger.New(r.log, ledger.Options{Retention: 720 * time.Hour, Now: r.clock.Now})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually.Succeeds(t, "the ledger becomes ready", l.Ready)
	r.all = ledger.NewAuthority(l, ledger.AuthorityOptions{})
	r.door = intake.New(intake.Options{
		Name: "hook", Issuers: []string{issuer}, May: may, Map: names, Authority: r.all, Shelf: &intaketest.Shelf{},
	})
	r.hook = New(o, r.door)
	return r
}

// bearer is a sender with a token.
var bearer = Sender{Tokens: [][sha256.Size]byte{sha256.Sum256([]byte("old")), sha256.Sum256([]byte(secret))}}

// send sends a request with headers in pairs.
func (r *rig) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.hook.ServeHTTP(w, req)
	return w
}

// post sends a message with the token of bearer, and demands the status.
func (r *rig) post(body string, want int) {
	r.t.Helper()
	if w := r.send("POST", "/events", body, "Authorization", "Bearer "+secret); w.Code != want {
		r.t.Errorf("got the status %d and the body %s, want %d; the message is %.300s", w.Code, w.Body, want, body)
	}
}

// revoked returns the revocations in force, as texts: "sub=alice", with "blocked"
// or the cut-off behind.
func (r *rig) revoked() (out []string) {
	r.t.Helper()
	active := true
	items, _, err := r.all.List(&ledger.Caller{Name: "test", Roles: []ledger.Role{ledger.Viewer}}, ledger.Query{Active: &active, Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, i := range items {
		var parts []string
		for _, c := range i.Target.Claims {
			parts = append(parts, c.Name+"="+c.Value.String())
		}
		end := "blocked"
		if i.Before != 0 {
			end = "until " + i.Before.Time().UTC().Format(time.RFC3339)
		}
		out = append(out, strings.Join(append(parts, end), " "))
	}
	slices.Sort(out)
	return out
}

func (r *rig) want(want ...string) {
	r.t.Helper()
	if got := r.revoked(); !slices.Equal(got, want) {
		r.t.Errorf("got %q in force, want %q", got, want)
	}
}

func (r *rig) wantCount(outcome intake.State, want uint64) {
	r.t.Helper()
	if got := r.door.Status().Counts; got[string(outcome)] != want {
		r.t.Errorf("got the outcomes %v, want %d %s", got, want, outcome)
	}
}

// at returns the place that a JSON Pointer names.
func at(pointer string) jwt.ClaimName {
	n, err := jwt.ParseClaimName(pointer)
	if err != nil {
		panic(err)
	}
	return n
}

func when(pointer string, values ...string) Condition { return Condition{at(pointer), values} }

func named(kind, pointer string) map[string]jwt.ClaimName {
	return map[string]jwt.ClaimName{kind: at(pointer)}
}

// simple takes {"do": "revoke", "user": "alice", "at": TIME} and its like.
func simple() Options {
	o := Options{Sender: bearer, ID: at("/id"), Type: at("/do"), Time: at("/at")}
	for _, act := range []Act{Revoke, Block, Unblock} {
		o.Rules = append(o.Rules, Rule{When: []Condition{when("/do", string(act))}, Issuer: issuer, Names: named("sub", "/user"), Act: act})
	}
	return o
}

var _ http.Handler = (*Hook)(nil)
