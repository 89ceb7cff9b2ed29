package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	hook "rescind/revocation/intake/webhook"
)

// webhookFolder returns a folder with secrets.
func webhookFolder(t *testing.T) string {
	t.Helper()
	dir := folderOf(t)
	for name, secret := range map[string]string{"hook.secret": "sixteen-or-more!", "short.secret": "fifteen-letters"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const webhookHash = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"

func TestWebhookIntake(t *testing.T) {
	dir := webhookFolder(t)
	c := mustControl(t, filepath.Join(dir, "control.yaml"), controlForIntakes+`
intake_http: {listen: "127.0.0.1:9393"}
intake:
  - name: hr
    kind: webhook
    issuers: [https://a.example.com/, https://b.example.com/]
    may: [subject, client, block]
    map: {email: email}
    tokens_sha256: [`+webhookHash+`]
    hmac: {header: X-Signature, prefix: "v0=", encoding: base64, secret_file: hook.secret, signed: "v0:{X-Time}:{body}", timestamp: X-Time, tolerance: 1m}
    state: {at: /clientState, sha256: `+webhookHash+`}
    handshake: graph
    scim: true
    each: /data/events
    id: /id
    type: type
    time: /at
    rules:
      - {when: {/type: [left, 17], /active: false}, issuer: https://b.example.com/, names: {email: /mail}, act: block}
      - {when: {/type: moved}, issuer: /iss, names: {sub: /user, client: /app}, act: revoke, cutoff: /since}
`)
	w := c.Intakes[0].Settings.(*WebhookIntake)
	signed, err := hook.ParseTemplate("v0:{X-Time}:{body}")
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := w.Sender.HMAC.Secret(); secret != "sixteen-or-more!" || err != nil {
		t.Errorf("got the secret %q and the error %v, want that of the file", secret, err)
	}
	w.Sender.HMAC.Secret = nil
	equal(t, *w.Sender.HMAC, hook.HMAC{Header: "X-Signature", Prefix: "v0=", Encoding: hook.Base64, Signed: signed, Timestamp: "X-Time", Tolerance: time.Minute})
	equal(t, w.Sender.State.At, jwt.MemberName("clientState"))
	equal(t, len(w.Sender.Tokens), 1)
	pointer := func(text string) jwt.ClaimName { n, _ := jwt.ParseClaimName(text); return n }
	equal(t, []any{w.Shake, w.SCIM, w.Each, w.ID, w.Type, w.Time}, []any{hook.Graph, true, pointer("/data/events"), pointer("/id"), pointer("type"), pointer("/at")})
	equal(t, w.Rules, []hook.Rule{
		{
			When: []hook.Condition{{At: pointer("/active"), Values: []string{"false"}}, {At: pointer("/type"), Values: []string{"left", "17"}}}, Issuer: "https://b.example.com/",
			Names: map[string]jwt.ClaimName{"email": pointer("/mail")}, Act: hook.Block,
		},
		{
			When: []hook.Condition{{At: pointer("/type"), Values: []string{"moved"}}}, IssuerAt: pointer("/iss"),
			Names: map[string]jwt.ClaimName{intake.NameSub: pointer("/user"), intake.NameClient: pointer("/app")}, Act: hook.Revoke, Cutoff: pointer("/since"),
		},
	})
}

func TestWebhookIntakeFaults(t *testing.T) {
	dir := webhookFolder(t)
	const proof = "tokens_sha256: [" + webhookHash + "], "
	const rule = "when: {/type: [left]}, names: {sub: /user}, act: revoke"
	one := func(rule string) string { return proof + "rules: [{" + rule + "}]" }
	hmac := func(keys string) string { return "rules: [{" + rule + "}], hmac: {" + keys + "}" }
	for _, c := range []struct{ keys, want string }{
		{"rules: [{" + rule + "}]", "intake[0]: needs a proof of the sender: one of tokens_sha256, hmac and state"},
		{proof + "id: /id", "intake[0].rules: is missing: the events that end tokens"},
		{proof + "rules: []", "intake[0].rules: is empty"},
		{"tokens_sha256: [], rules: [{" + rule + "}]", "intake[0].tokens_sha256: is empty"},
		{"tokens_sha256: , rules: [{" + rule + "}]", "intake[0].tokens_sha256: has no value"},
		{"tokens_sha256: [secret], rules: [{" + rule + "}]", "intake[0].tokens_sha256[0]: is not a SHA-256"},
		{one("names: {sub: /user}, act: revoke"), "intake[0].rules[0].when: is missing: the conditions"},
		{one("when: {}, names: {sub: /user}, act: revoke"), "intake[0].rules[0].when: is empty, so the rule would hold for every event"},
		{one("when: {/~x: [left]}, names: {sub: /user}, act: revoke"), `intake[0].rules[0].when["/~x"]: the JSON Pointer has a ~`},
		{one("when: {/type: [left]}, act: revoke"), "intake[0].rules[0].names: is missing: where the event names the tokens"},
		{one("when: {/type: [left]}, names: {}, act: revoke"), "intake[0].rules[0].names: is empty"},
		{one("when: {/type: [left]}, names: {user: /user}, act: revoke"), "intake[0].rules[0].names.user: there is no such key"},
		{one("when: {/type: [left]}, names: {sub: }, act: revoke"), "intake[0].rules[0].names.sub: is missing: the place in the event"},
		{one("when: {/type: [left]}, names: {email: /mail}, act: revoke"), "intake[0].rules[0].names.email: map: of the intake does not say which claim of a token carries it"},
		{one("when: {/type: [left]}, names: {client: /app}, act: revoke"), "intake[0].rules[0].names: the rule takes the power client, which may: of the intake does not list"},
		{one("when: {/type: [left]}, names: {sub: /user}"), "intake[0].rules[0].act: is missing: revoke, block or unblock"},
		{one("when: {/type: [left]}, names: {sub: /user}, act: delete"), `intake[0].rules[0].act: "delete" is not one of block, revoke, unblock`},
		{one("when: {/type: [left]}, names: {sub: /user}, act: block"), "intake[0].rules[0].act: block takes the power block, which may: of the intake does not list"},
		{one("when: {/type: [left]}, names: {sub: /user}, act: unblock, cutoff: /at"), "intake[0].rules[0].cutoff: has no use with act: unblock"},
		{one(rule + ", issuer: https://other.example.com/"), `intake[0].rules[0].issuer: "https://other.example.com/" is not one of the issuers of the intake`},
		{strings.Replace(one(rule), "rules", "may: [token], rules", 1), "the rule takes the power subject"},
		{one(rule) + ", issuers: [https://a.example.com/, https://b.example.com/]", "intake[0].rules[0].issuer: is missing: the intake has several issuers"},
		{hmac("secret_file: hook.secret"), "intake[0].hmac.header: is missing"},
		{hmac("header: 'X Y', secret_file: hook.secret"), `intake[0].hmac.header: "X Y" is not the name of a header`},
		{hmac("header: X-S"), "intake[0].hmac.secret_file: is missing"},
		{hmac("header: X-S, secret_file: short.secret"), "short.secret has a secret of 15 characters; use at least 16"},
		{hmac("header: X-S, secret_file: hook.secret, signed: 'v0'"), "intake[0].hmac.signed: must have {body} once"},
		{hmac("header: X-S, secret_file: hook.secret, timestamp: X-T"), "intake[0].hmac.signed: must have {X-T}, because a time that is not signed proves nothing"},
		{hmac("header: X-S, secret_file: hook.secret, tolerance: 1m"), "intake[0].hmac.tolerance: has no use without timestamp"},
		{hmac("header: X-S, secret_file: hook.secret, encoding: base32"), `intake[0].hmac.encoding: "base32" is not one of base64, hex`},
		{"state: {at: /s}, rules: [{" + rule + "}]", "intake[0].state.sha256: is missing"},
		{one(rule) + ", handshake: auth0", `intake[0].handshake: "auth0" is not one of graph, okta`},
		{one(rule) + ", each: /~", "intake[0].each: "},
	} {
		text := controlForIntakes + "intake_http: {listen: \"127.0.0.1:9393\"}\nintake: [{name: a, kind: webhook, " + c.keys
		if !strings.Contains(c.keys, "issuers:") {
			text += ", issuers: [https://a.example.com/]"
		}
		got := faults(t, "control", filepath.Join(dir, "faulty.yaml"), text+"}]\n")
		if !strings.Contains(got.Error(), c.want) {
			t.Errorf("keys %s\ngot the faults\n%v\nwant one with %q", c.keys, got, c.want)
		}
	}
}
