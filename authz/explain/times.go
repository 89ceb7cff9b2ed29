package explain

import (
	"time"

	"rescind/jwks/jwt"
)

func (e *explanation) expired() {
	exp := e.dateText("exp", e.token.Expires)
	switch {
	case e.issuer == nil:
		e.add(Finding{Token: exp, Note: e.clock()})
	case e.until(e.token.Expires) <= -e.issuer.Leeway:
		e.want(exp, "at most %s ago; %s (%s)", e.issuer.Leeway, e.clock(), e.ofIssuer("leeway"))
	}
}

func (e *explanation) notYetValid() {
	nbf, iat := e.dateText("nbf", e.token.NotBefore), e.dateText("iat", e.token.IssuedAt)
	if e.issuer == nil {
		for _, d := range []struct {
			date jwt.Date
			text string
		}{{e.token.NotBefore, nbf}, {e.token.IssuedAt, iat}} {
			if d.date.Set && e.until(d.date) > 0 {
				e.add(Finding{Token: d.text, Note: e.clock()})
			}
		}
		return
	}
	if e.token.NotBefore.Set && e.until(e.token.NotBefore) > e.issuer.Leeway {
		e.want(nbf, "at most %s ahead; %s (%s)", e.issuer.Leeway, e.clock(), e.ofIssuer("leeway"))
	}
	if e.token.IssuedAt.Set && e.until(e.token.IssuedAt) > e.issuer.IatLeeway {
		e.want(iat, "at most %s ahead; %s (%s)", e.issuer.IatLeeway, e.clock(), e.ofIssuer("iat_leeway"))
		e.note("the issuer's clock is ahead, or the replica's is behind")
	}
}

func (e *explanation) lifetimeTooLong() {
	from, life := "iat: absent", e.until(e.token.Expires)
	if e.token.IssuedAt.Set {
		from, life = e.dateText("iat", e.token.IssuedAt), time.Duration(e.token.Expires.Micros-e.token.IssuedAt.Micros)*time.Microsecond
	}
	text := printf("a lifetime of %s, from %s to %s", life.Round(time.Second), from, e.dateText("exp", e.token.Expires))
	switch {
	case e.issuer == nil:
		e.add(Finding{Token: text})
	case life > e.issuer.MaxLifetime:
		e.want(text, "at most %s (%s)", e.issuer.MaxLifetime, e.ofIssuer("max_lifetime"))
	}
}

func (e *explanation) tooOld() {
	iat := e.dateText("iat", e.token.IssuedAt)
	switch {
	case e.policy == nil:
		e.add(Finding{Token: iat, Note: e.clock()})
	case e.policy.MaxAge > 0 && -e.until(e.token.IssuedAt) > e.policy.MaxAge+e.issuer.Leeway:
		e.want(iat, "at most %s ago, and %s of leeway; %s (%s)", e.policy.MaxAge, e.issuer.Leeway, e.clock(), e.ofPolicy("max_age"))
	}
}

// clock returns the time here, which the replica's clock may differ from.
func (e *explanation) clock() string { return "it is " + e.Now.UTC().Format(time.RFC3339) + " here" }

// until returns how far a date lies in the future. It is negative for the past.
func (e *explanation) until(d jwt.Date) time.Duration { return time.UnixMicro(d.Micros).Sub(e.Now) }
