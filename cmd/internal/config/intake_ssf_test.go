package config

import (
	"crypto/sha256"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
	"rescind/revocation/intake/ssf"
)

func TestSSFIntakes(t *testing.T) {
	dir := folderOf(t)
	c := mustControl(t, filepath.Join(dir, "control.yaml"), controlForIntakes+`
intake_http: {listen: "127.0.0.1:9393"}
intake:
  - name: google
    kind: ssf_push
    issuers: [https://accounts.google.com]
    transmitter: https://accounts.google.com/
    jwks_uri: https://www.googleapis.com/oauth2/v3/certs
    audiences: [123.apps.googleusercontent.com]
    strict: false
    subject_issuers: {https://accounts.google.com/: https://accounts.google.com}
    map: {email: email}
    email_domains: [example.com]
    may: [subject, block]
    events: {tokens-revoked: ignore, https://vendor.example.com/x: block}
    authorization_sha256: `+hashA+`
    sid_in_tokens: false
    critical_subject_members: [user]
    unmatched: ignore
  - name: kc
    kind: ssf_poll
    issuers: [https://kc.example.com/realms/shop]
    discovery: true
    audiences: [ssf-rx/s1]
    stream: s1
    poll_interval: 2s
    management: {token_url: https://kc.example.com/token, client_id: rescind, client_secret_file: replica.token, scopes: [ssf.read], verify_every: 0s}
`)
	var hash [sha256.Size]byte
	if err := decodeHash(hashA, &hash); err != nil {
		t.Fatal(err)
	}
	google, kc := &SSF{}, &SSF{}
	google.Transmitter.keys(value{doc: &document{}})
	google.Transmitter.Issuer, google.Transmitter.JWKSURI = "https://accounts.google.com/", "https://www.googleapis.com/oauth2/v3/certs"
	google.Rules = secevent.Rules{Audiences: []string{"123.apps.googleusercontent.com"}}
	google.Events = map[string]ssf.Action{"https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked": ssf.Ignore, "https://vendor.example.com/x": ssf.Block}
	google.Subjects = ssf.Subjects{
		IssuerOf: map[string]string{"https://accounts.google.com/": "https://accounts.google.com"}, EmailDomains: []string{"example.com"},
		NoSessions: true, Critical: []string{"user"}, Narrow: true,
	}
	google.Authorization = &hash
	kc.Transmitter.keys(value{doc: &document{}})
	kc.Transmitter.Issuer, kc.Transmitter.Discovery = "https://kc.example.com/realms/shop", true
	kc.Rules = secevent.Rules{Strict: true, Audiences: []string{"ssf-rx/s1"}}
	kc.Stream, kc.PollInterval = "s1", 2*time.Second
	kc.Management = &SSFManagement{TokenURL: "https://kc.example.com/token", ClientID: "rescind", ClientSecretFile: filepath.Join(dir, "replica.token"), Scopes: []string{"ssf.read"}}
	for i, want := range []Intake{
		{Name: "google", Kind: "ssf_push", Issuers: []string{"https://accounts.google.com"}, May: []intake.Power{intake.Subject, intake.Block}, Map: intake.Map{"email": jwt.MemberName("email")}, Settings: google},
		{Name: "kc", Kind: "ssf_poll", Issuers: []string{"https://kc.example.com/realms/shop"}, May: intake.DefaultPowers, Settings: kc},
	} {
		equal(t, c.Intakes[i], want)
	}
	if secret, err := kc.StreamOptions().Credential.Secret(); err != nil || secret != "secret" {
		t.Errorf("got the client secret %q and the error %v, want that of the file", secret, err)
	}
}

func decodeHash(text string, sum *[sha256.Size]byte) (err error) {
	*sum, err = digest(text)
	return err
}

func TestSSFIntakeFaults(t *testing.T) {
	dir := folderOf(t)
	const push = "intake_http: {listen: \"127.0.0.1:9393\"}\nintake:\n  - {name: a, kind: ssf_push, discovery: true, "
	const poll = "intake:\n  - {name: a, kind: ssf_poll, discovery: true, any_audience: true, issuers: [https://idp.example.com/], "
	const one = "issuers: [https://idp.example.com/], any_audience: true, "
	for _, c := range []struct{ name, text, want string }{
		{"no audience", push + "issuers: [https://idp.example.com/]}", "intake[0]: needs audiences, at least one of which"},
		{"two words about the audience", push + one + "audiences: [x]}", "intake[0]: needs audiences, at least one of which"},
		{"an audience without a value", push + "issuers: [https://idp.example.com/], audiences: }", "audiences: has no value"},
		{"several issuers and no transmitter", push + "issuers: [https://a.example.com, https://b.example.com], any_audience: true}", "intake[0]: needs transmitter, the iss of the events"},
		{"an event that is none", push + one + "events: {session-revokd: revoke}}", "intake[0].events.session-revokd: there is no such key; did you mean session-revoked?"},
		{"an event of the stream", push + one + "events: {\"https://schemas.openid.net/secevent/ssf/event-type/verification\": ignore}}", "is about the stream itself"},
		{"an action that is none", push + one + "events: {session-revoked: delete}}", `"delete" is not one of block, ignore, log, revoke, revoke_token, unblock`},
		{"an event without an action", push + one + "events: {session-revoked: }}", "intake[0].events.session-revoked: is missing: one of ignore"},
		{"a block without the power", push + one + "events: {account-disabled: block}}", "says block, and may does not list block"},
		{"an issuer that is not the intake's", push + one + "subject_issuers: {x: https://other.example.com}}", `"https://other.example.com" is not one of issuers`},
		{"domains without a claim", push + one + "email_domains: [example.com]}", "email_domains: has no use without map: {email: CLAIM}"},
		{"a domain that is an email", push + one + "map: {email: email}, email_domains: [a@example.com]}", "is not the domain of an email"},
		{"a domain with a star", push + one + "map: {email: email}, email_domains: ['*.example.com']}", "is not the domain of an email"},
		{"no domains", push + one + "map: {email: email}, email_domains: []}", "email_domains: is empty"},
		{"a credential in the place of its hash", push + one + "authorization_sha256: Bearer x}", "authorization_sha256: is not a SHA-256"},
		{"an unknown way with members", push + one + "unmatched: drop}", `"drop" is not one of ignore, widen`},
		{"a poll of a push", push + one + "poll_url: https://x.example.com}", "there is no such key"},
		{"a watch of no stream", push + one + "management: {token_file: replica.token}}", "management: has no use without stream"},
		{"a push of a poll", poll + "stream: s, management: {token_file: replica.token}, authorization_sha256: " + hashA + "}", "there is no such key"},
		{"a poll without a credential", poll + "stream: s}", "management: is missing: the credential for polls"},
		{"a poll of nothing", poll + "management: {token_file: replica.token}}", "intake[0]: needs stream, the ID of the stream"},
		{"two credentials", poll + "stream: s, management: {token_file: replica.token, token_url: https://x.example.com, client_id: x, client_secret_file: replica.token}}", "management: needs token_file, or token_url"},
		{"half a credential", poll + "stream: s, management: {token_url: https://x.example.com}}", "management: needs token_file, or token_url"},
		{"no credential", poll + "stream: s, management: {scopes: [x]}}", "management: needs token_file, or token_url"},
		{"a poll over http", poll + "poll_url: http://x.example.com, management: {token_file: replica.token}}", "over http"},
		{"an access token over http", poll + "stream: s, management: {token_url: http://x.example.com, client_id: x, client_secret_file: replica.token}}", "is not https"},
		{"metadata over http", poll + "stream: s, management: {metadata_url: http://x.example.com, token_file: replica.token}}", "is not https"},
		{"a transmitter that is no URL", "intake:\n  - {name: a, kind: ssf_poll, jwks_uri: https://x.example.com, any_audience: true, issuers: [urn:x], stream: s, management: {token_file: replica.token}}", "is not an https URL"},
		{"polls too often", poll + "stream: s, poll_interval: 1ms, management: {token_file: replica.token}}", "poll_interval: 1ms is too short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := faults(t, "control", filepath.Join(dir, "faulty.yaml"), controlForIntakes+c.text)
			if !strings.Contains(got.Error(), c.want) {
				t.Errorf("got the faults\n%v\nwant one with %q", got, c.want)
			}
		})
	}
}
