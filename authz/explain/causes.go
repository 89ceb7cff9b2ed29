package explain

import (
	"maps"
	"slices"
	"strings"

	"rescind/authz"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

func (e *explanation) noToken() {
	if e.policy == nil {
		return
	}
	var places []string
	for _, p := range e.policy.TokensFrom[:min(len(e.policy.TokensFrom), longestList)] {
		places = append(places, p.String())
	}
	if places == nil {
		places = []string{"header authorization, scheme Bearer"}
	}
	e.add(Finding{Wanted: printf("a token in the %s (%s)", strings.Join(places, ", or in the "), e.ofPolicy("tokens_from"))})
}

func (e *explanation) badRequest() {
	most, of := authz.DefaultMaxToken, ""
	if e.issuer != nil {
		most, of = e.issuer.MaxToken, " (max_token_size of its issuer)"
	}
	switch size := len(e.Token); {
	case size > most:
		e.want(printf("%d bytes", size), "at most %d bytes%s", most, of)
	case strings.Contains(e.Token, ","):
		e.note("the token has a comma, which can only mean two tokens")
	default:
		e.note("another header of the request holds a token too, or a header cannot be read; --header adds headers")
	}
}

func (e *explanation) malformed() {
	text := e.Token
	switch scheme, _, _ := strings.Cut(text, " "); {
	case e.flaw == nil:
		e.note("arrays of the token's claims have too many elements to compare with the revocations")
	case strings.EqualFold(scheme, "Bearer"):
		e.note("the token begins with the word Bearer; leave it out, because the place of the token has its own scheme")
	case strings.Count(text, ".") == 4:
		e.note("the token has five segments, so it is encrypted (JWE); a replica reads signed tokens alone")
	case !strings.Contains(text, "."):
		e.note("%v. A token without dots is opaque: only its issuer can read it", e.flaw)
	default:
		e.note("%v", e.flaw)
	}
}

func (e *explanation) wrongType() {
	if _, ok := e.token.Claims["events"].(map[string]any); ok {
		e.want("events: present", "no events: a token with events is a logout token or a security event, and no access token")
		return
	}
	typ := "typ of the header: absent"
	if e.token.Type != "" {
		typ = printf("typ of the header: %s", quote(e.token.Type))
	}
	if e.issuer == nil {
		e.add(Finding{Token: typ})
	} else if !slices.ContainsFunc(e.issuer.TokenTypes, func(t string) bool { return jwt.MediaType(t) == e.token.Type }) {
		e.want(typ, "%s (%s)", strings.ReplaceAll(listText(e.issuer.TokenTypes), `""`, "none"), e.ofIssuer("token_types"))
	}
}

func (e *explanation) issuerText() string { return e.member("iss") }

func (e *explanation) untrustedIssuer() {
	switch {
	case e.Demands == nil:
		e.add(Finding{Token: e.issuerText()})
	case e.issuer == nil:
		var names []string
		for _, i := range e.Demands.Issuers {
			names = append(names, i.Name)
		}
		e.want(e.issuerText(), "%s (issuers of %s)", listText(names), e.Demands.Source)
		if near := nearest(e.issuerName(), names); near != "" {
			e.note("the nearest is %s; issuers are compared byte for byte", quote(near))
		}
	case e.issuer.SPIFFE && e.token.SPIFFEIssuer() != e.issuer.Name:
		e.want(e.member("sub"), "a SPIFFE ID of %s, which is a trust domain", quote(e.issuer.Name))
	case e.policy != nil && len(e.policy.Issuers) > 0 && !slices.Contains(e.policy.Issuers, e.issuer.Name):
		e.want(e.issuerText(), "%s (%s)", listText(e.policy.Issuers), e.ofPolicy("issuers"))
	}
}

func (e *explanation) unsupportedAlgorithm() {
	alg := printf("alg of the header: %s", quote(e.token.Algorithm))
	if e.issuer == nil {
		e.add(Finding{Token: alg})
		return
	}
	if !slices.Contains(e.issuer.Algorithms, e.token.Algorithm) {
		e.want(alg, "%s (%s)", listText(e.issuer.Algorithms), e.ofIssuer("algorithms"))
	}
	if a := strings.ToUpper(e.token.Algorithm); strings.HasPrefix(a, "HS") || a == "NONE" {
		e.note("%s proves nothing to a reader of tokens, and no configuration accepts it", quote(e.token.Algorithm))
	}
}

func (e *explanation) wrongAudience() {
	aud := e.member("aud")
	if e.Demands == nil {
		e.add(Finding{Token: aud})
		return
	}
	if !e.issuer.AnyAudience && !e.isFor(e.issuer.Audiences) {
		e.want(aud, "%s (%s)", listText(e.issuer.Audiences), e.ofIssuer("audiences"))
	}
	if len(e.policy.Audiences) > 0 && !e.isFor(e.policy.Audiences) {
		e.want(aud, "%s (%s)", listText(e.policy.Audiences), e.ofPolicy("audiences"))
	}
}

// isFor reports whether one of the audiences is in aud.
func (e *explanation) isFor(audiences []string) bool {
	var values []revocation.Value
	for _, a := range audiences {
		if v, ok := revocation.ValueOf(a); ok {
			values = append(values, v)
		}
	}
	return authz.Conditions{jwt.MemberName("aud"): values}.Hold(e.token.Claims)
}

func (e *explanation) missingClaim() {
	if e.Demands == nil {
		return
	}
	if !e.token.Expires.Set {
		e.want(e.member("exp"), "a value, because every token must end")
	}
	for _, name := range e.issuer.RequiredClaims {
		if claim, _ := name.In(e.token.Claims); claim == nil {
			e.want(e.claimText(name), "a value (%s)", e.ofIssuer("required_claims"))
		}
	}
	if e.policy.MaxAge > 0 && !e.token.IssuedAt.Set {
		e.want("iat: absent", "a value (%s)", e.ofPolicy("max_age"))
	}
}

func (e *explanation) unproven() {
	e.add(Finding{
		Token:  e.member("cnf"),
		Wanted: "a request that proves this key; a replica can check x5t#S256 alone (RFC 8705)",
		Note:   "the client sends its certificate to Envoy, whose filter has include_peer_certificate: true; this command has none to send",
	})
}

func (e *explanation) insufficientScope() {
	var token []string
	for _, name := range []string{"scope", "scp"} {
		if _, ok := e.token.Claims[name]; ok {
			token = append(token, e.member(name))
		}
	}
	if token == nil {
		token = []string{"scope: absent"}
	}
	text := strings.Join(token, ", ")
	if e.Demands == nil {
		e.add(Finding{Token: text})
		return
	}
	granted := authz.Scope(e.token.Claims)
	var missing []string
	for _, s := range e.policy.Scopes {
		if !slices.Contains(granted, s) {
			missing = append(missing, s)
		}
	}
	if missing != nil {
		e.want(text, "%s in it (%s)", strings.Join(missing, " "), e.ofPolicy("scopes"))
	}
}

// claimRefused explains a condition on a claim, and one on acr.
func (e *explanation) claimRefused() {
	if e.Demands == nil {
		if e.Reason == authz.StepUp {
			e.add(Finding{Token: e.member("acr")})
		}
		return
	}
	e.conditions(e.issuer.Claims, e.ofIssuer("claims"))
	e.conditions(e.policy.Claims, e.ofPolicy("claims"))
	if e.Reason == authz.StepUp {
		e.note("a stronger login at the issuer brings another acr")
	}
}

// conditions adds each condition that does not hold.
func (e *explanation) conditions(all authz.Conditions, by string) {
	names := slices.SortedFunc(maps.Keys(all), func(a, b jwt.ClaimName) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range names {
		if (authz.Conditions{name: all[name]}).Hold(e.token.Claims) {
			continue
		}
		var values []string
		for _, v := range all[name][:min(len(all[name]), longestList)] {
			values = append(values, jsonText(v.JSON()))
		}
		e.want(e.claimText(name), "%s (%s)", strings.Join(values, " or "), by)
	}
}

func (e *explanation) unknownPolicy() {
	if e.Demands == nil || e.policy != nil {
		return
	}
	names := slices.Sorted(maps.Keys(e.Demands.Policies))
	e.add(Finding{Wanted: printf("%s (policies of %s)", listText(names), e.Demands.Source), Note: printf("the route names %s", quote(e.Policy))})
	if near := nearest(e.Policy, names); near != "" {
		e.note("the nearest is %s", quote(near))
	}
}

// ofIssuer and ofPolicy name the place of a demand in the configuration.
func (e *explanation) ofIssuer(key string) string {
	return printf("%s of the issuer in %s", key, e.Demands.Source)
}

func (e *explanation) ofPolicy(key string) string {
	return printf("%s of the policy %s in %s", key, quote(e.Policy), e.Demands.Source)
}
