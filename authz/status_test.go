package authz

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rescind/jwks/statuslist"
)

// statuses are status lists in memory.
type statuses struct {
	at    map[statuslist.Reference]statuslist.Status
	err   error
	asked int
}

func (s *statuses) Status(ref statuslist.Reference, _ time.Time) (statuslist.Status, error) {
	s.asked++
	if s.err != nil {
		return statuslist.Invalid, s.err
	}
	return s.at[ref], nil
}

func listed(idx any, uri string) map[string]any {
	return map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": idx, "uri": uri}}}
}

const listURI = "https://idp.example/lists/1"

// A token is denied for every status but 0, also one of the application.
func TestStatusOfAToken(t *testing.T) {
	key := edKey()
	lists := &statuses{at: map[statuslist.Reference]statuslist.Status{}}
	for i := range uint64(256) {
		lists.at[statuslist.Reference{URI: listURI, Index: i}] = statuslist.Status(i)
	}
	o := options(t, key)
	o.Issuers[0].StatusLists = lists
	o.Policies = map[string]Policy{DefaultPolicy: {}, "observes": {Observe: true}, "public": {TokenOptional: true}}
	a := authorizer(t, o)
	for i := range 256 {
		for policy := range o.Policies {
			want, detail := Revoked, ByStatusList
			if i == 0 {
				want, detail = OK, ""
			}
			d := a.Authorize(t.Context(), carrying(key.token(listed(i, listURI))).under(policy))
			wantReason(t, policy, d, want)
			if d.Detail != detail || d.RevocationID.Revision != 0 {
				t.Errorf("policy %s, status %d: got detail %q and revocation %v, want %q and none", policy, i, d.Detail, d.RevocationID, detail)
			}
		}
	}
	wantReason(t, "a token without the claim status", a.Authorize(t.Context(), carrying(key.token(nil))), OK)
}

// The status is asked for with each request, and only for a token that is good
// otherwise.
func TestStatusIsAskedForLast(t *testing.T) {
	key := edKey()
	lists := &statuses{}
	o := options(t, key)
	o.Issuers[0].StatusLists = lists
	o.Policies = map[string]Policy{DefaultPolicy: {}, "scoped": {Scopes: []string{"admin"}}}
	o.Revocations = following(t, revoked("sub", "mallory"))
	a := authorizer(t, o)
	claims := func(changes map[string]any) map[string]any {
		m := listed(7, listURI)
		for name, v := range changes {
			m[name] = v
		}
		return m
	}
	for name, token := range map[string]string{
		"expired":         key.token(claims(map[string]any{"exp": 1})),
		"wrong audience":  key.token(claims(map[string]any{"aud": "web"})),
		"revoked by ours": key.token(claims(map[string]any{"sub": "mallory"})),
		"forged":          newEd25519("ed1").token(claims(nil)),
	} {
		if d := a.Authorize(t.Context(), carrying(token)); d.Allow || lists.asked != 0 {
			t.Errorf("%s: got reason %s and %d look-ups of the status, want a denial and none", name, d.Reason, lists.asked)
		}
	}
	wantReason(t, "insufficient scope", a.Authorize(t.Context(), carrying(key.token(claims(nil))).under("scoped")), InsufficientScope)
	good := key.token(claims(nil))
	for n := range 3 {
		wantReason(t, "a good token", a.Authorize(t.Context(), carrying(good)), OK)
		if lists.asked != n+1 {
			t.Errorf("after %d requests of one token: got %d look-ups of the status, want one for each", n+1, lists.asked)
		}
	}
}

func TestStatusThatCannotBeTold(t *testing.T) {
	key := edKey()
	for _, c := range []struct {
		name  string
		err   error
		allow bool // on_unavailable
		want  Reason
	}{
		{"unavailable", statuslist.ErrUnavailable, false, StatusUnavailable},
		{"unavailable, and allowed", statuslist.ErrUnavailable, true, OK},
		{"not allowed", statuslist.ErrNotAllowed, false, StatusRefused},
		{"not allowed, where the unavailable is", statuslist.ErrNotAllowed, true, StatusRefused},
		{"out of range", statuslist.ErrOutOfRange, true, StatusRefused},
		{"another error", errors.New("x"), true, Internal},
	} {
		o := options(t, key)
		o.Issuers[0].StatusLists, o.Issuers[0].AllowUnknownStatus = &statuses{err: c.err}, c.allow
		d := authorizer(t, o).Authorize(t.Context(), carrying(key.token(listed(0, listURI))))
		wantReason(t, c.name, d, c.want)
	}
	d := Decision{Reason: StatusUnavailable}
	if a := d.Answer(); a.HTTP != 503 || a.RetryAfter <= 0 {
		t.Errorf("%s: got the answer %+v, want 503 with a time to come back", StatusUnavailable, a)
	}
}

// Whatever stands in the claim status, a token is allowed only if the lists were
// asked about it.
func TestHostileStatusClaims(t *testing.T) {
	key := edKey()
	place := func(m map[string]any) map[string]any { return map[string]any{"status_list": m} }
	for name, claim := range map[string]any{
		"null": explicitNull{}, "text": "active", "number": 1, "array": []any{}, "empty": map[string]any{},
		"other mechanism": map[string]any{"crl": map[string]any{}},
		"list null":       place(nil), "list text": map[string]any{"status_list": "x"}, "list array": map[string]any{"status_list": []any{map[string]any{"idx": 0, "uri": listURI}}},
		"no idx": place(map[string]any{"uri": listURI}), "no uri": place(map[string]any{"idx": 0}),
		"idx negative": place(map[string]any{"idx": -1, "uri": listURI}), "idx fraction": place(map[string]any{"idx": 0.5, "uri": listURI}),
		"idx text": place(map[string]any{"idx": "0", "uri": listURI}), "idx null": place(map[string]any{"idx": nil, "uri": listURI}),
		"idx huge": place(map[string]any{"idx": 1e300, "uri": listURI}), "idx bool": place(map[string]any{"idx": false, "uri": listURI}),
		"uri number": place(map[string]any{"idx": 0, "uri": 7}), "uri empty": place(map[string]any{"idx": 0, "uri": ""}),
		"uri long": place(map[string]any{"idx": 0, "uri": listURI + strings.Repeat("x", 2048)}), "uri space": place(map[string]any{"idx": 0, "uri": listURI + " "}),
		"uri not ASCII": place(map[string]any{"idx": 0, "uri": listURI + "é"}), "uri null": place(map[string]any{"idx": 0, "uri": nil}),
	} {
		lists := &statuses{}
		o := options(t, key)
		o.Issuers[0].StatusLists, o.Issuers[0].AllowUnknownStatus = lists, true
		d := authorizer(t, o).Authorize(t.Context(), carrying(key.token(map[string]any{"status": claim})))
		wantReason(t, name, d, StatusRefused)
		if lists.asked != 0 || strings.Contains(d.Detail, "idp.example") {
			t.Errorf("%s: got %d look-ups and the detail %q, want none, and no word of the token", name, lists.asked, d.Detail)
		}
		without := authorizer(t, options(t, key)).Authorize(t.Context(), carrying(key.token(map[string]any{"status": claim})))
		wantReason(t, name+", without status_lists", without, OK)
	}
}

// explicitNull is null in a token, where changed would remove the claim.
type explicitNull struct{}

func (explicitNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// Tokens that name lists which nobody reads are worth one warning.
func TestWarningThatNoStatusIsChecked(t *testing.T) {
	key := edKey()
	var log bytes.Buffer
	o := options(t, key)
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a := authorizer(t, o)
	for range 3 {
		wantReason(t, "no status_lists", a.Authorize(t.Context(), carrying(key.token(listed(1, listURI)))), OK)
		wantReason(t, "no list", a.Authorize(t.Context(), carrying(key.token(map[string]any{"status": "active"}))), OK)
	}
	if n := strings.Count(log.String(), "status_lists"); n != 1 {
		t.Errorf("got %d warnings in the log\n%s\nwant one", n, &log)
	}
}

// A Status List Token is signed with the same keys, and is never an access token.
func TestStatusListTokenIsNoAccessToken(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers[0].TokenTypes = []string{"statuslist+jwt"}
	if _, err := New(o); err == nil {
		t.Error("token_types [statuslist+jwt]: got no error, want it refused")
	}
	wantReason(t, "statuslist+jwt", authorizer(t, options(t, key)).Authorize(t.Context(), carrying(key.typed(map[string]any{"typ": "statuslist+jwt"}, nil))), WrongType)
}
