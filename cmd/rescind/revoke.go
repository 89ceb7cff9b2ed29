package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation"
	"rescind/revocation/control"
	"rescind/revocation/printable"
)

const revokeLong = `Revokes tokens of an issuer: the tokens with all of the given claims, the tokens
signed by one key, one token itself, or every token.

The revocation denies tokens that were issued before it, so that a later login
works. --block also denies tokens that are issued later, until the revocation is
restored or expires. A revocation by jti, sid, token or kid denies a token
whenever it was issued.

Values are compared by the text that rescind shows for them, so --claim tenant=17
matches the string "17" and the number 17, and --claim admin=true the boolean
too. A claim of the token that is an array matches if any element does. scope
and scp match by each of their words. A name that begins with / is a JSON
Pointer to a nested claim: --claim /realm_access/roles=admin.`

const revokeExample = `  rescind revoke --issuer https://idp.example.com/ --sub alice --reason "left the company" --wait
  rescind revoke --issuer https://idp.example.com/ --sub alice --client phone
  rescind revoke --token - <token.jwt`

// target has the flags of revoke that name the tokens.
type target struct {
	issuer                     string
	jti, sub, sid, client, kid string
	claims                     []string
	token                      string
	all, block                 bool
	issuedBefore               string
	expiresIn                  time.Duration
	reason                     string
}

func (a *app) revoke() *cobra.Command {
	var t target
	var w waitFlags
	var guard guardFlags
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke tokens: by claims, by key, one, or all of an issuer",
		Long:  revokeLong, Example: revokeExample,
		Args: exactly(),
	}
	t.register(cmd)
	guard.register(cmd)
	w.register(cmd)
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(w.check(cmd), guard.check(&w)); err != nil {
			return err
		}
		request, err := t.request(cmd, a)
		if err != nil {
			return err
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		body, err := json.Marshal(request)
		if err != nil {
			return err
		}
		post := call{method: http.MethodPost, path: "/v1/revocations", body: body, contentType: "application/json"}
		w.addTo(&post)
		guard.addTo(&post)
		if !guard.dryRun {
			post.set("seen", "true")
		}
		res, err := c.do(cmd.Context(), post)
		if err != nil {
			return explainGuard(err)
		}
		if guard.dryRun {
			return a.dryRun(res)
		}
		return a.revoked(res, &w)
	}
	return cmd
}

// dryRun prints the answer to a dry run.
func (a *app) dryRun(res *answer) error {
	if a.output == "json" {
		return a.printJSON(res.body)
	}
	var d control.ImpactDocument
	if err := res.into(&d); err != nil {
		return err
	}
	return a.printImpact(&d)
}

// revoked prints the revocation that the control endpoint made.
func (a *app) revoked(res *answer, w *waitFlags) error {
	var d control.Document
	if err := res.into(&d); err != nil {
		return err
	}
	if a.output == "json" {
		if err := a.printJSON(res.body); err != nil {
			return err
		}
		return w.confirmed(res.status, d.Replicas)
	}
	done := "revoked, durable"
	if res.status == http.StatusOK {
		done = "revoked already"
	}
	if t := inForce(d.Replicas); t != "" {
		done += ", " + t
	}
	for _, w := range d.Warnings {
		note(a.errs, "warning: %s", printable.Quote(w))
	}
	if _, err := fmt.Fprintln(a.out, done); err != nil {
		return err
	}
	if err := a.details(&d); err != nil {
		return err
	}
	return w.confirmed(res.status, d.Replicas)
}

func (t *target) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&t.issuer, "issuer", "", "the tokens' iss, byte for byte")
	f.StringVar(&t.jti, "jti", "", "one token, by its `ID`")
	f.StringVar(&t.sub, "sub", "", "tokens of this `subject`")
	f.StringVar(&t.sid, "sid", "", "tokens of this `session`")
	f.StringVar(&t.client, "client", "", "tokens of this `client`, by client_id, azp, cid or appid")
	f.StringArrayVar(&t.claims, "claim", nil, "tokens with this claim, `name=value` or name:=json; may be repeated, and all must match")
	f.StringVar(&t.kid, "kid", "", "tokens signed by the `key` of this ID")
	f.StringVar(&t.token, "token", "", "one `token` itself; - reads it from standard input, where no list of processes shows it")
	f.BoolVar(&t.all, "all", false, "every token of the issuer")
	f.BoolVar(&t.block, "block", false, "also deny tokens that are issued later")
	f.StringVar(&t.issuedBefore, "issued-before", "", "deny tokens issued before this `time`, as 2026-11-24T07:00:01Z (default: now)")
	durationVar(f, &t.expiresIn, "expires-in", "how long it is in force, as 12h or 30d (default: the retention of the store)")
	f.StringVar(&t.reason, "reason", "", "why; the audit and rescind show have it")
}

// request returns the request for the API, or an error that names a wrong flag.
func (t *target) request(cmd *cobra.Command, a *app) (*revocation.Request, error) {
	if err := notEmpty(cmd, "issuer", "jti", "sub", "sid", "client", "kid", "token", "issued-before"); err != nil {
		return nil, err
	}
	r := &revocation.Request{Issuer: t.issuer, KeyID: t.kid, All: t.all, Block: t.block, Reason: t.reason}
	var err error
	if r.Claims, err = t.equalities(); err != nil {
		return nil, err
	}
	if err := t.one(r); err != nil {
		return nil, err
	}
	switch {
	case t.block && t.issuedBefore != "":
		return nil, usage("--issued-before cannot stand beside --block, which denies whenever a token was issued")
	case t.issuedBefore != "":
		if r.IssuedBefore, err = time.Parse(time.RFC3339Nano, t.issuedBefore); err != nil {
			return nil, usage("--issued-before %s: it must be a time such as 2026-11-24T07:00:01Z", printable.Quote(t.issuedBefore))
		}
	}
	if cmd.Flags().Changed("expires-in") {
		if t.expiresIn <= 0 {
			return nil, usage("--expires-in %s: it must be more than 0", t.expiresIn)
		}
		r.ExpiresAt = a.now().Add(t.expiresIn)
	}
	if t.token != "" {
		r.Token, err = a.readToken(t.token)
	}
	return r, err
}

// one returns an error unless the flags name exactly one kind of target.
func (t *target) one(r *revocation.Request) error {
	var given []string
	for _, form := range []struct {
		flag string
		set  bool
	}{{"claims", len(r.Claims) > 0}, {"--kid", t.kid != ""}, {"--token", t.token != ""}, {"--all", t.all}} {
		if form.set {
			given = append(given, form.flag)
		}
	}
	switch {
	case len(given) == 0:
		return usage("name the tokens: one or more of --jti --sub --sid --client --claim, or --kid, --token or --all")
	case len(given) > 1:
		return usage("%s cannot stand beside %s", given[1], given[0])
	case t.issuer == "" && t.token == "":
		return usage("--issuer is missing; names of tokens are unique only within an issuer")
	}
	return nil
}

// equalities returns the claims of all flags.
func (t *target) equalities() (out []revocation.Claim, err error) {
	add := func(name string, v any) error {
		value, ok := revocation.ValueOf(v)
		if !ok {
			return usage("--claim %s: its value must be a string, a number or a boolean", printable.Quote(name))
		}
		for _, c := range out {
			if c.Name == name {
				return usage("the claim %s is given twice", printable.Quote(name))
			}
		}
		out = append(out, revocation.Claim{Name: name, Value: value})
		return nil
	}
	for _, c := range []struct{ name, value string }{{"jti", t.jti}, {"sub", t.sub}, {"sid", t.sid}, {"client_id", t.client}} {
		if c.value != "" {
			if err := add(c.name, c.value); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range t.claims {
		name, v, err := parseClaim(c)
		if err == nil {
			err = add(name, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseClaim reads name=value or name:=json.
func parseClaim(s string) (name string, value any, err error) {
	name, text, ok := strings.Cut(s, "=")
	name, isJSON := strings.CutSuffix(name, ":")
	if !ok || name == "" || text == "" {
		return "", nil, usage("--claim %s: it must be name=value, or name:=json", printable.Quote(s))
	}
	if !isJSON {
		return name, text, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if dec.Decode(&value) != nil || dec.More() {
		return "", nil, usage("--claim %s: the text after := must be JSON, such as 17, true or \"text\"", printable.Quote(name))
	}
	return name, value, nil
}

// readToken returns a JWT from the command line or, for -, from standard input.
// The control endpoint checks it.
func (a *app) readToken(arg string) (string, error) {
	if arg != "-" {
		if _, err := os.Stat(arg); arg != "" && err == nil {
			return "", usage("%s is the name of a file; write - <%s, which reads the token from it", printable.Quote(arg), shellQuote(arg))
		}
		return arg, nil
	}
	if a.terminal(a.in) {
		note(a.errs, "paste the token, then press Enter and Ctrl-D")
	}
	text, err := io.ReadAll(io.LimitReader(a.in, revocation.MaxToken+16))
	if err != nil {
		return "", fmt.Errorf("reading the token from standard input: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return "", usage("standard input has no token")
	}
	return string(text), nil
}
