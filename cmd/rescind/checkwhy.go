package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"rescind/authz"
	"rescind/authz/explain"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/replica"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/printable"
)

// explained returns the answer of a replica with everything that this command can
// find out about it.
func (q *question) explained(ctx context.Context, a *app, ask envoy.Question, o *envoy.Outcome) *checkAnswer {
	c := &checkAnswer{Decision: "deny", Reason: o.Reason(), Outcome: o}
	if ask.Place.Source() != "authorization" && ask.Place != (authz.Place{}) {
		c.place = ask.Place.String()
	}
	reason := o.Reason()
	if o.Allowed {
		c.Decision = "allow"
		if reason, _ = o.Metadata["would_deny"].(string); reason == "" {
			return c
		}
	}
	why := explain.Question{Reason: authz.Reason(reason), Token: ask.Token, Policy: q.policy, Now: a.now()}
	why.Detail, _ = o.Metadata["detail"].(string)
	if q.config != nil {
		issuers, policies := replica.Demands(&q.config.Reloadable)
		why.Demands = &explain.Demands{Source: q.configFile, Issuers: issuers, Policies: policies}
	}
	if slices.Contains([]authz.Reason{authz.UnknownKey, authz.AmbiguousKey, authz.BadSignature}, why.Reason) {
		why.Keys = q.issuerKeys(ctx, a, ask.Token)
	}
	if o.Allowed {
		c.Explanation = append(c.Explanation, explain.Finding{Note: "the policy observes; with mode: enforce it would deny this with " + printable.Clean(reason, 100)})
	}
	c.Explanation = append(c.Explanation, explain.Denial(why)...)
	if id, _ := o.Metadata["revocation_id"].(string); id != "" {
		q.addRevocation(ctx, a, c, id)
	}
	return c
}

// issuerKeys returns the keys that the token's issuer publishes now. A file is
// read in any case. A fetch is a request from this machine, and may carry the
// credential of jwks_token_file, so it takes --fetch-keys. The replica's own keys
// may be older.
func (q *question) issuerKeys(ctx context.Context, a *app, token string) *explain.Keys {
	t, err := jwt.Parse(token)
	if err != nil || q.config == nil {
		return nil
	}
	n := slices.IndexFunc(q.config.Issuers, func(i config.Issuer) bool { return i.Issuer == t.IssuerName() })
	if n < 0 {
		return nil
	}
	i := q.config.Issuers[n]
	source := "the discovery document of " + i.Issuer
	if s := i.JWKSFile + i.JWKSURI; s != "" {
		source = s
	}
	if i.JWKSFile == "" && !q.fetchKeys {
		return nil
	}
	published, err := jwks.ReadPublished(ctx, i.Options(i.Issuer))
	if err != nil {
		note(a.errs, "the keys of the issuer could not be read: %s", printable.Clean(err.Error(), 500))
		return nil
	}
	return &explain.Keys{Source: source, Published: published}
}

// addRevocation adds the revocation that denied the token, if an admin token was
// given, and the command that undoes it. The replica's answer stands without it.
func (q *question) addRevocation(ctx context.Context, a *app, c *checkAnswer, id string) {
	if _, err := revocation.ParseID(id); err != nil {
		return
	}
	conn := *q.conn
	if text, _ := conn.address(); !strings.HasPrefix(text, "https:") {
		conn.caFile, conn.certFile, conn.keyFile = "", "", "" // they are for the replica alone
	}
	c.Undo = "rescind restore " + id + conn.flags()
	c.Explanation = append(c.Explanation, explain.Finding{Note: "another revocation may deny the token too: check again after a restore"})
	if !conn.hasToken() {
		c.Explanation = append(c.Explanation, explain.Finding{Note: "with an admin token (--token-file or RESCIND_TOKEN) the revocation is shown here"})
		return
	}
	body, err := conn.revocation(ctx, id)
	if err != nil {
		note(a.errs, "the revocation %s is not shown: %v", id, err)
		return
	}
	c.Revocation = body
}

// revocation returns one revocation as the API has it.
func (c *connection) revocation(ctx context.Context, id string) (json.RawMessage, error) {
	client, path, err := c.one(id)
	if err != nil {
		return nil, err
	}
	res, err := client.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	return res.body, nil
}
