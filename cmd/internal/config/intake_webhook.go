package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rescind/authz"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	hook "rescind/revocation/intake/webhook"
)

// WebhookIntake takes the messages of a sender with a format of its own, at
// /intake/NAME/events.
type WebhookIntake struct{ hook.Options }

func readWebhookIntake(v value, i *Intake) (keys, func()) {
	w := &WebhookIntake{}
	i.Settings = w
	return keys{
		"tokens_sha256": restrict(&w.Sender.Tokens, some(distinct(parsed(digest)))),
		"hmac":          restrict(&w.Sender.HMAC, webhookHMAC),
		"state":         restrict(&w.Sender.State, webhookState),
		"handshake":     into(&w.Shake, choice(map[string]hook.Handshake{"okta": hook.Okta, "graph": hook.Graph})),
		"scim":          into(&w.SCIM, flag),
		"each":          into(&w.Each, claimName),
		"id":            into(&w.ID, claimName),
		"type":          into(&w.Type, claimName),
		"time":          into(&w.Time, claimName),
		"rules":         need(&w.Rules, "the events that end tokens: [{when: {/type: [user.deleted]}, names: {sub: /user/id}, act: revoke}]", some(webhookRule)),
	}, func() { w.check(v, i) }
}

// check demands a proof of the sender, and rules that the entry allows.
func (w *WebhookIntake) check(v value, i *Intake) {
	if !v.has("tokens_sha256") && !v.has("hmac") && !v.has("state") {
		v.fault("needs a proof of the sender: one of tokens_sha256, hmac and state")
	}
	for n := range w.Rules {
		if e := v.at("rules").elements(); n < len(e) {
			checkWebhookRule(e[n], &w.Rules[n], i)
		}
	}
}

func checkWebhookRule(v value, r *hook.Rule, i *Intake) {
	switch {
	case r.Issuer != "" && !slices.Contains(i.Issuers, r.Issuer):
		v.at("issuer").fault("%.200q is not one of the issuers of the intake; add it to issuers, or write /POINTER to the issuer in the event", r.Issuer)
	case v.has("issuer"):
	case len(i.Issuers) == 1:
		r.Issuer = i.Issuers[0]
	case len(i.Issuers) > 1:
		v.at("issuer").fault("is missing: the intake has several issuers, so a rule needs one of them, or /POINTER to the issuer in the event")
	}
	for kind := range r.Names {
		if _, ok := i.Map.Claim(kind, "x"); !ok && kind != hook.NameToken {
			v.at("names").at(kind).fault("map: of the intake does not say which claim of a token carries it")
		}
	}
	if len(r.Names) > 0 && !slices.Contains(i.May, r.Power()) {
		v.at("names").fault("the rule takes the power %s, which may: of the intake does not list", r.Power())
	}
	if r.Act == hook.Block && !slices.Contains(i.May, intake.Block) {
		v.at("act").fault("block takes the power block, which may: of the intake does not list")
	}
	if r.Act != hook.Revoke && v.has("cutoff") {
		v.at("cutoff").fault("has no use with act: %s; remove it", r.Act)
	}
}

func webhookRule(v value, r *hook.Rule) {
	v.object(keys{
		"when": need(&r.When, "the conditions, such as {/type: [user.deleted]}; every other event is ignored", webhookConditions),
		"issuer": into(&r.Issuer, func(v value, x *string) {
			if s, ok := v.text(); ok && strings.HasPrefix(s, "/") {
				claimName(v, &r.IssuerAt)
				return
			}
			text(revocation.CheckIssuer)(v, x)
		}),
		"names":  need(&r.Names, "where the event names the tokens, such as {sub: /user/id}", webhookNames),
		"act":    need(&r.Act, "revoke, block or unblock", choice(map[string]hook.Act{"revoke": hook.Revoke, "block": hook.Block, "unblock": hook.Unblock})),
		"cutoff": into(&r.Cutoff, claimName),
	})
}

// webhookConditions reads places in an event, each with its accepted values.
func webhookConditions(v value, x *[]hook.Condition) {
	var m map[jwt.ClaimName][]any
	if conditions(v, &m); len(v.entries()) == 0 {
		v.fault("is empty, so the rule would hold for every event; name a condition")
	}
	byText := func(a, b jwt.ClaimName) int { return strings.Compare(a.String(), b.String()) }
	for _, at := range slices.SortedFunc(maps.Keys(m), byText) {
		c := hook.Condition{At: at}
		for _, accepted := range m[at] {
			c.Values = append(c.Values, revocation.Shown(accepted))
		}
		*x = append(*x, c)
	}
}

func webhookNames(v value, x *map[string]jwt.ClaimName) {
	kinds := append(intake.NameKinds(), hook.NameToken)
	slices.Sort(kinds)
	m := map[string]jwt.ClaimName{}
	for _, e := range v.entries() {
		if !slices.Contains(kinds, e.name) {
			e.key.fault("%s", unknown(e.name, kinds))
			continue
		}
		var at jwt.ClaimName
		if claimName(e.value, &at); e.value.absent() {
			e.value.fault("is missing: the place in the event, such as /user/id")
		}
		m[e.name] = at
	}
	if len(v.entries()) == 0 {
		v.fault("is empty; name at least one")
	}
	*x = m
}

// leastSecret is the length of a secret that nobody can guess.
const leastSecret = 16

func webhookHMAC(v value, x **hook.HMAC) {
	h := &hook.HMAC{Encoding: hook.Hex, Tolerance: 5 * time.Minute}
	h.Signed, _ = hook.ParseTemplate("{body}")
	secret := ""
	known := keys{
		"header":      need(&h.Header, "the header with the signature, such as X-Signature", text(isSenderHeader)),
		"prefix":      into(&h.Prefix, text()),
		"encoding":    into(&h.Encoding, choice(map[string]hook.Encoding{"hex": hook.Hex, "base64": hook.Base64})),
		"secret_file": need(&secret, "the file with the secret that the sender shares", file(longSecret)),
		"signed":      into(&h.Signed, parsed(hook.ParseTemplate)),
		"timestamp":   into(&h.Timestamp, text(isSenderHeader)),
		"tolerance":   into(&h.Tolerance, duration(time.Second, time.Hour)),
	}
	if !v.object(known) {
		return
	}
	if h.Timestamp != "" && !h.Signed.Covers(h.Timestamp) {
		v.at("signed").fault("must have {%s}, because a time that is not signed proves nothing", h.Timestamp)
	}
	if h.Timestamp == "" && v.has("tolerance") {
		v.at("tolerance").fault("has no use without timestamp, the header with the time; remove it")
	}
	h.Secret = SecretFrom(secret)
	*x = h
}

func longSecret(path string) error {
	secret, err := ReadSecret(path)
	if err == nil && len(secret) < leastSecret {
		err = fmt.Errorf("%s has a secret of %d characters; use at least %d", path, len(secret), leastSecret)
	}
	return err
}

func webhookState(v value, x **hook.State) {
	s := &hook.State{}
	v.object(keys{
		"at":     need(&s.At, "where each event has the secret, such as /clientState", claimName),
		"sha256": need(&s.SHA256, "64 hex digits of the secret, as from printf %s SECRET | sha256sum", parsed(digest)),
	})
	*x = s
}

func isSenderHeader(s string) error {
	if !authz.IsFieldName(s) {
		return fmt.Errorf("%.80q is not the name of a header", s)
	}
	return nil
}
