package main

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"rescind/revocation/control"
)

func TestRevokeByEachFlag(t *testing.T) {
	e := serve(t)
	for _, c := range []struct {
		args   string
		want   control.Target
		reach  string // issued before: some time, any, or block
		reason string
	}{
		{"--jti t1", control.Target{Claims: map[string]any{"jti": "t1"}}, "any", ""},
		{"--sub alice", control.Target{Claims: map[string]any{"sub": "alice"}}, "time", ""},
		{"--sid s1 --reason lost", control.Target{Claims: map[string]any{"sid": "s1"}}, "any", "lost"},
		{"--client phone --sub bob", control.Target{Claims: map[string]any{"sub": "bob", "client_id": "phone"}}, "time", ""},
		{"--claim tenant=17", control.Target{Claims: map[string]any{"tenant": "17"}}, "time", ""},
		{"--claim tenant:=17.0", control.Target{Claims: map[string]any{"tenant": 17.0}}, "time", ""},
		{"--claim admin:=true --claim a=b=c", control.Target{Claims: map[string]any{"admin": true, "a": "b=c"}}, "time", ""},
		{`--claim urn:x:y=: --claim q:="z"`, control.Target{Claims: map[string]any{"urn:x:y": ":", "q": "z"}}, "time", ""},
		{"--kid k1", control.Target{KeyID: "k1"}, "any", ""},
		{"--all --yes", control.Target{All: true}, "time", ""},
		{"--sub mallory --block", control.Target{Claims: map[string]any{"sub": "mallory"}}, "block", ""},
		{"--sub carol --issued-before 2026-01-02T03:04:05.5+01:00", control.Target{Claims: map[string]any{"sub": "carol"}}, "2026-01-02T02:04:05.5Z", ""},
	} {
		args := append([]string{"-o", "json", "revoke", "--issuer", idp}, strings.Fields(c.args)...)
		d := e.rescind(args...).want(0).document()
		reach := "any"
		switch {
		case d.Block:
			reach = "block"
		case d.IssuedBefore != nil && c.reach == "time":
			reach = "time"
		case d.IssuedBefore != nil:
			reach = d.IssuedBefore.Format(time.RFC3339Nano)
		}
		if !reflect.DeepEqual(d.Target, c.want) || d.Issuer != idp || reach != c.reach || d.Reason != c.reason || d.CreatedBy != "operator" || !d.Active || d.Replicas != nil {
			t.Errorf("%s: got %+v, which reaches %s, want the target %+v, which reaches %s, with the reason %q", c.args, d, reach, c.want, c.reach, c.reason)
		}
	}
	for text, want := range map[string]time.Duration{"2h": 2 * time.Hour, "3d": 72 * time.Hour} {
		before := time.Now()
		d := e.rescind("-o", "json", "revoke", "--issuer", idp, "--sub", "x"+text, "--expires-in", text).want(0).document()
		if in := d.ExpiresAt.Sub(before); in < want || in > want+time.Minute {
			t.Errorf("--expires-in %s: got %s, want at most a minute more than %s", text, in, want)
		}
	}
}

func TestRevokeReadsWell(t *testing.T) {
	e := serve(t)
	args := []string{"revoke", "--issuer", idp, "--jti", "t1", "--reason", "lost"}
	e.rescind(args...).want(0, "revoked, durable\n", "state    in force\n", "id       r", "revoked  jti=t1\n", "reaches  tokens whenever issued\n", "expires  in 30d (", "reason   lost", "by operator")
	e.rescind(args...).want(0, "revoked already\n")
	e.rescind("revoke", "--issuer", idp, "--sub", "a", "--block").want(0, "those of a later login too, until restored")
	got := e.rescind("revoke", "--issuer", idp, "--claim", "x=\x1b[2J", "--claim", "y=two words").want(0, `revoked  x="\x1b[2J" y="two words"`)
	if strings.ContainsRune(got.out, '\x1b') {
		t.Errorf("a claim with U+001B: got %q, want it escaped", got.out)
	}
}

func jwtOf(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
}

// A raw token is revoked, and is never printed.
func TestRevokeAToken(t *testing.T) {
	e := serve(t)
	env := map[string]string{"RESCIND_CONTROL": e.url, "RESCIND_TOKEN": tokenOf("operator")}
	good := jwtOf(fmt.Sprintf(`{"iss":%q,"exp":%d}`, idp, time.Now().Add(time.Hour).Unix()))
	named := jwtOf(fmt.Sprintf(`{"iss":%q,"jti":"t7","exp":%d}`, idp, time.Now().Add(time.Hour).Unix()))
	expired := jwtOf(fmt.Sprintf(`{"iss":%q,"exp":1000}`, idp))
	for _, c := range []struct {
		in     string
		args   []string
		status int
		want   string
	}{
		{"", []string{"--token", good}, 0, "token=sha256:"},
		{"\n" + good + "\r\n", []string{"--token", "-"}, 0, "revoked already"},
		{"", []string{"--token", named, "--issuer", idp}, 0, "revoked  jti=t7"},
		{"", []string{"--token", named, "--issuer", "https://other.example/"}, 1, "issuer: is not the issuer of the token"},
		{"", []string{"--token", expired}, 1, "has expired already"},
		{"", []string{"--token", good + "." + good}, 1, "token: is a token that no replica accepts"},
		{strings.Repeat(good, 800), []string{"--token", "-"}, 1, "token: "},
		{"", []string{"--token", good, "--kid", "k"}, 2, "cannot stand beside"},
	} {
		got := rescind(t, env, c.in, append([]string{"revoke"}, c.args...)...).want(c.status, c.want)
		if strings.Contains(got.out+got.errs, good[20:40]) || strings.Contains(got.out+got.errs, "c2lnbmF0dXJl") {
			t.Errorf("%q: got\n%s%s\nwant no output that shows the token", c.args, got.out, got.errs)
		}
	}
}

// The command prints the warnings of the control endpoint on standard error. JSON
// has them in the document.
func TestRevokeWarns(t *testing.T) {
	e := serve(t)
	id := jwtOf(fmt.Sprintf(`{"iss":%q,"sid":"3f2a","nonce":"n","exp":%d}`, idp, time.Now().Add(time.Hour).Unix()))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--token", id}, "warning: the token looks like an ID token (it has the claim nonce). It alone is revoked, and access tokens of the same login stay good. To deny those, revoke by sid 3f2a\n"},
		{[]string{"--issuer", idp, "--sid", "3f2a"}, "warning: the session goes on at the issuer. Its tokens are denied here, also refreshed ones. End the session at the issuer too\n"},
		{[]string{"--issuer", idp, "--sid", "3f2a", "--dry-run"}, "warning: the session goes on at the issuer."},
	} {
		got := e.rescind(append([]string{"revoke"}, c.args...)...).want(0)
		if !strings.Contains(got.errs, c.want) {
			t.Errorf("revoke %v: got %q on standard error, want %q", c.args, got.errs, c.want)
		}
	}
	d := e.rescind("-o", "json", "revoke", "--token", id).want(0).document()
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "an ID token") {
		t.Errorf("revoke --token of an ID token, as JSON: got the warnings %q, want one of an ID token", d.Warnings)
	}
	if got := e.rescind("revoke", "--issuer", idp, "--sub", "alice").want(0); strings.Contains(got.errs, "warning") {
		t.Errorf("revoke --sub: got %q on standard error, want no warning", got.errs)
	}
}

func TestWaiting(t *testing.T) {
	e := serve(t)
	e.rescind("revoke", "--issuer", idp, "--jti", "a", "--wait").want(0, "revoked, durable, no replica follows at the moment")
	up, behind := control.Replica{Name: "replica-a", Connected: true, Revision: 1 << 40}, control.Replica{Name: "replica\x07b", Revision: 1}
	e.follows(up)
	e.rescind("revoke", "--issuer", idp, "--jti", "b", "--wait").want(0, "revoked, durable, in force on 1 of 1 replicas")
	e.follows(up, behind)
	pending := `it is durable, but not confirmed within 300ms by "replica\ab"`
	got := e.rescind("revoke", "--issuer", idp, "--jti", "c", "--wait", "--timeout", "300ms").
		want(statusUnconfirmed, "in force on 1 of 2 replicas", pending, "rescind replicas")
	if !strings.Contains(got.errs, pending) {
		t.Errorf("a replica behind: got %q on standard error and %q on standard output, want %q on standard error", got.errs, got.out, pending)
	}
	d := e.rescind("revoke", "--issuer", idp, "--jti", "d", "--wait", "--timeout", "300ms", "-o", "json").want(statusUnconfirmed, pending).document()
	if d.Replicas == nil || len(d.Replicas.Pending) != 1 {
		t.Errorf("a replica behind: got the replicas %+v, want 1 pending", d.Replicas)
	}
	e.rescind("restore", d.ID, "--wait", "--timeout", "300ms").want(statusUnconfirmed, "restored "+d.ID, pending)
	e.rescind("restore", d.ID).want(0, "restored "+d.ID)
	e.follows(up)
	var r control.Restoration
	e.rescind("restore", d.ID, "--wait", "-o", "json").want(0).json(&r)
	if r.ID != d.ID || r.RestoredBy != "operator" || r.Replicas == nil || r.Replicas.Applied != 1 {
		t.Errorf("restore %s --wait: got %+v, want it restored by operator and applied by 1", d.ID, r)
	}
	e.rescind("show", d.ID).want(0, "restored  ", "revoked   jti=d")
}
