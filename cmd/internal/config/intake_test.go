package config

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
)

const controlForIntakes = `
feed: {tokens: [{name: replicas, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}]}
store: {dir: /var/lib/rescind/control}
admin: {tokens: [{name: alice, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, roles: [operator]}]}
`

// withKinds makes kinds of intakes known for one test.
func withKinds(t *testing.T) {
	t.Helper()
	before := intakeKinds
	t.Cleanup(func() { intakeKinds = before })
	read := func(v value, i *Intake) (keys, func()) {
		s := &Signer{}
		i.Settings = s
		known := s.keys(v)
		return known, func() {
			if len(i.Issuers) == 1 {
				s.Issuer = i.Issuers[0]
				s.check(v, s.Issuer)
			}
		}
	}
	intakeKinds = maps.Clone(intakeKinds)
	intakeKinds["pushed"], intakeKinds["pulled"] = intakeKind{push: true, read: read}, intakeKind{read: read}
}

func TestIntakes(t *testing.T) {
	withKinds(t)
	dir := folderOf(t)
	c := mustControl(t, filepath.Join(dir, "control.yaml"), controlForIntakes+`
intake_http: {}
intake:
  - {name: keycloak-logout, kind: pushed, issuers: [https://idp.example.com/realms/a], discovery: true}
  - name: hr
    kind: pulled
    issuers: [https://idp.example.com/realms/a, https://other.example.com]
    jwks_uri: https://hr.example.com/jwks
    algorithms: [ES256]
    may: [subject, client, block]
    dry_run: true
    map: {email: email, username: /preferred_username, sub: sub}
`)
	if c.IntakeHTTP == nil || c.IntakeHTTP.Address != "127.0.0.1:9393" {
		t.Errorf("intake_http without listen: got %+v, want 127.0.0.1:9393, as the documents say", c.IntakeHTTP)
	}
	signer := func(set func(*Signer)) *Signer {
		s := &Signer{}
		s.keys(value{doc: &document{}})
		set(s)
		return s
	}
	for i, want := range []Intake{
		{
			Name: "keycloak-logout", Kind: "pushed", Issuers: []string{"https://idp.example.com/realms/a"}, May: []intake.Power{intake.Token, intake.Session, intake.Subject},
			Settings: signer(func(s *Signer) { s.Issuer, s.Discovery = "https://idp.example.com/realms/a", true }),
		},
		{
			Name: "hr", Kind: "pulled", Issuers: []string{"https://idp.example.com/realms/a", "https://other.example.com"},
			May: []intake.Power{intake.Subject, intake.Client, intake.Block}, DryRun: true,
			Map:      intake.Map{"email": jwt.MemberName("email"), "username": jwt.MemberName("preferred_username"), "sub": jwt.MemberName("sub")},
			Settings: signer(func(s *Signer) { s.JWKSURI, s.Algorithms = "https://hr.example.com/jwks", []string{"ES256"} }),
		},
	} {
		equal(t, c.Intakes[i], want)
	}
}

func TestIntakeFaults(t *testing.T) {
	withKinds(t)
	dir := folderOf(t)
	entry := func(more string) string {
		return "intake_http: {listen: \"127.0.0.1:9393\"}\nintake:\n  - {name: a, kind: pushed, issuers: [https://idp.example.com/], discovery: true" + more + "}\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"an unknown kind", "intake: [{name: a, kind: carrier-pigeon, issuers: [x]}]", `intake[0].kind: "carrier-pigeon" is not a kind of intake; the kinds are `},
		{"no kind", "intake: [{name: a, issuers: [x]}]", "intake[0].kind: is missing: one of "},
		{"no name", "intake: [{kind: pulled, discovery: true, issuers: [https://idp.example.com/]}]", "intake[0].name: is missing"},
		{"no issuers", "intake: [{name: a, kind: pulled, jwks_uri: https://x.example.com}]", "intake[0].issuers: is missing"},
		{"empty issuers", "intake: [{name: a, kind: pulled, issuers: [], jwks_uri: https://x.example.com}]", "intake[0].issuers: is empty"},
		{"a name with a slash", "intake: [{name: a/b, kind: pulled, issuers: [https://idp.example.com/], discovery: true}]", `"a/b" is not the name of an intake`},
		{"two of one name", entry("") + "  - {name: a, kind: pulled, issuers: [https://idp.example.com/], discovery: true}\n", "intake[1].name: duplicate value, first used on line 7"},
		{"an unknown power", entry(", may: [everything]"), `"everything" is not one of all, block, client, kid, session, subject, token`},
		{"a power without a value", entry(", may: "), "intake[0].may: has no value, so it would restrict nothing"},
		{"no power", entry(", may: []"), "intake[0].may: is empty"},
		{"an unknown kind of name", entry(", map: {emial: email}"), "intake[0].map.emial: there is no such key; did you mean email?"},
		{"a claim that is none", entry(", map: {email: /~2}"), "intake[0].map.email: "},
		{"a kind of name without a claim", entry(", map: {email: }"), "intake[0].map.email: is missing"},
		{"an unknown key", entry(", isuers: [x]"), "there is no such key; did you mean issuers?"},
		{"two sources of keys", entry(", jwks_uri: https://x.example.com"), "needs exactly one of jwks_uri, discovery: true and jwks_file, and has 2"},
		{"pushed to, without a listener", "intake: [{name: a, kind: pushed, issuers: [https://idp.example.com/], discovery: true}]", "intake[0]: senders push to it, so intake_http is needed"},
		{"a listener without use", "intake_http: {listen: \"127.0.0.1:9393\"}", "intake_http: has no use"},
		{"the port of the API", strings.Replace(entry(""), "9393", "9390", 1), "intake_http.listen: 127.0.0.1:9390 is where http or feed listens already"},
		{"in the clear", strings.Replace(entry(""), "127.0.0.1:9393", "0.0.0.0:9393", 1), "intake_http.listen: 0.0.0.0:9393 is reached over the network"},
		{"the name of a token", "admin: {tokens: [{name: \"intake:a\", sha256: fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9, roles: [viewer]}]}", "begins with intake:, which names a part of the control endpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := controlForIntakes
			if strings.HasPrefix(c.text, "admin:") {
				text = strings.Join(strings.Split(text, "\n")[:3], "\n") + "\n"
			}
			got := faults(t, "control", filepath.Join(dir, "faulty.yaml"), text+c.text)
			if !strings.Contains(got.Error(), c.want) {
				t.Errorf("got the faults\n%v\nwant one with %q", got, c.want)
			}
		})
	}
}
