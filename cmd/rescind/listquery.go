package main

import (
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rescind/revocation"
	"rescind/revocation/printable"
)

// targetKinds are the values of --kind.
var targetKinds = []string{"claims", "kid", "token", "all"}

// query holds the filters of list.
type query struct {
	issuer                     string
	jti, sub, sid, client, kid string
	claims                     []string
	token                      string
	kind                       string
	by, since                  string
	active, restored           bool
	limit                      int // 0 = all
	all                        bool
}

func (q *query) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&q.issuer, "issuer", "", "only revocations for this issuer")
	f.StringVar(&q.jti, "jti", "", "only revocations of the token with this `ID`")
	f.StringVar(&q.sub, "sub", "", "only revocations of this `subject`")
	f.StringVar(&q.sid, "sid", "", "only revocations of this `session`")
	f.StringVar(&q.client, "client", "", "only revocations of this `client`: the claim client_id")
	f.StringArrayVar(&q.claims, "claim", nil, "only revocations with this equality, `name=value` or name:=json; may be repeated, and all must be in it")
	f.StringVar(&q.kid, "kid", "", "only revocations of the `key` of this ID")
	f.StringVar(&q.token, "token", "", "only the revocation of this `token` itself; - reads it from standard input. The token is not sent")
	f.StringVar(&q.kind, "kind", "", "only revocations of this `kind` of target: claims, kid, token or all")
	f.StringVar(&q.by, "by", "", "only revocations by the credential of this `name`")
	f.StringVar(&q.since, "since", "", "only revocations made since a `time` as 2026-11-24T07:00:01Z, or within a duration, as 1h or 30d")
	f.BoolVar(&q.active, "active", false, "only revocations in force")
	f.BoolVar(&q.restored, "restored", false, "only revocations that were restored")
	f.IntVar(&q.limit, "limit", 100, "largest `number` of lines; 0 for all")
	f.BoolVar(&q.all, "all", false, "show all pages, as --limit 0 does")
}

// values returns the query of the API, or an error that names the wrong flag.
func (q *query) values(cmd *cobra.Command, a *app) (url.Values, error) {
	if err := q.check(cmd); err != nil {
		return nil, err
	}
	v := url.Values{}
	for name, text := range map[string]string{"issuer": q.issuer, "kid": q.kid, "kind": q.kind, "by": q.by} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if cmd.Flags().Changed("since") {
		since, err := sinceTime(q.since, a.now())
		if err != nil {
			return nil, err
		}
		v.Set("since", since)
	}
	if q.active || q.restored {
		v.Set("active", strconv.FormatBool(q.active))
	}
	if err := q.equalities(v); err != nil {
		return nil, err
	}
	if q.token != "" {
		return v, q.ofToken(v, a)
	}
	return v, nil
}

// check returns the fault of a flag, or of flags that exclude each other.
func (q *query) check(cmd *cobra.Command) error {
	if err := notEmpty(cmd, "issuer", "jti", "sub", "sid", "client", "kid", "token", "kind", "by"); err != nil {
		return err
	}
	f := cmd.Flags()
	var targets []string
	for _, name := range []string{"jti", "sub", "sid", "client", "claim", "kid", "token"} {
		if f.Changed(name) {
			targets = append(targets, "--"+name)
		}
	}
	alone := slices.IndexFunc(targets, func(t string) bool { return t == "--kid" || t == "--token" })
	switch {
	case alone >= 0 && len(targets) > 1:
		return usage("%s cannot stand beside %s: no revocation has both", targets[alone], targets[(alone+1)%len(targets)])
	case q.kind != "" && !slices.Contains(targetKinds, q.kind):
		return usage("--kind %s: it must be %s", printable.Quote(q.kind), strings.Join(targetKinds, ", "))
	case q.kind != "" && len(targets) > 0:
		return usage("--kind cannot stand beside %s, which is of one kind", targets[0])
	case q.active && q.restored:
		return usage("--active and --restored exclude each other; leave both out to see all")
	case q.limit < 0:
		return usage("--limit must be 0 or more; it is %d", q.limit)
	case q.all && f.Changed("limit"):
		return usage("--all cannot stand beside --limit")
	}
	if q.all {
		q.limit = 0
	}
	return nil
}

// equalities adds the claims of all flags to the query of the API. The API compares
// the text of a value, so a number and a string are found alike.
func (q *query) equalities(v url.Values) error {
	for _, c := range []struct{ name, value string }{{"jti", q.jti}, {"sub", q.sub}, {"sid", q.sid}, {"client_id", q.client}} {
		if c.value != "" {
			v.Add("claim", c.name+"="+c.value)
		}
	}
	for _, text := range q.claims {
		if name, value, ok := strings.Cut(text, ":"); ok && name != "" && value != "" && !strings.Contains(text, "=") {
			v.Add("claim", text) // as the first edition takes it
			continue
		}
		name, raw, err := parseClaim(text)
		if err != nil {
			return err
		}
		value, ok := revocation.ValueOf(raw)
		if !ok {
			return usage("--claim %s: its value must be a string, a number or a boolean", printable.Quote(name))
		}
		v.Add("claim", name+"="+value.String())
	}
	return nil
}

// ofToken adds to the query of the API the revocation that revoke --token makes of
// this token.
func (q *query) ofToken(v url.Values, a *app) error {
	raw, err := a.readToken(q.token)
	if err != nil {
		return err
	}
	issuer, target, err := revocation.TargetOfToken(raw)
	switch {
	case err != nil:
		return usage("--token %w", err)
	case q.issuer != "" && q.issuer != issuer:
		return usage("--issuer is not the issuer of the token; leave --issuer out, it is read from the token")
	}
	v.Set("issuer", issuer)
	if target.Kind == revocation.KindToken {
		v.Set("token_sha256", hex.EncodeToString(target.Token[:]))
		return nil
	}
	for _, c := range target.Claims {
		v.Add("claim", c.Name+"="+c.Value.String())
	}
	return nil
}
