package explain

import (
	"time"

	"rescind/jwks/jwt"
)

func (e *explanation) expired() {
	exp := e.dateText("exp", e.token.Expires)
	switch {
	case e.issuer == nil:
		e.add(Finding{Token: exp})
	case e.until(e.token.Expires) <= -e.issuer.Leeway:
		e.want(exp, "at most %s ago (%s)", e.issuer.Leeway, e.ofIssuer("leeway"))
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
				e.add(Finding{Token: d.text})
			}
		}
		return
	}
	if e.token.NotBefore.Set && e.until(e.token.NotBefore) > e.issuer.Leeway {
		e.want(nbf, "at most %s ahead (%s)", e.issuer.Leeway, e.ofIssuer("leeway"))
	}
	if e.token.IssuedAt.Set && e.until(e.token.IssuedAt) > e.issuer.IatLeeway {
		e.want(iat, "at most %s ahead (%s)", e.issuer.IatLeeway, e.ofIssuer("iat_leeway"))
		e.note("the issuer's clock is ahead, or the replica's is behind")
	}
}

func (e *explanation) lifetimeTooLong() {
	text, life := "exp - now", e.until(e.token.Expires)
	if e.token.IssuedAt.Set {
		text, life = "exp - iat", time.Duration(e.token.Expires.Micros-e.token.IssuedAt.Micros)*time.Microsecond
	}
	text = printf("%s: %s", text, life.Round(time.Second))
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
		e.add(Finding{Token: iat})
	case e.policy.MaxAge > 0 && -e.until(e.token.IssuedAt) > e.policy.MaxAge+e.issuer.Leeway:
		e.want(iat, "at most %s ago, and %s of leeway (%s)", e.policy.MaxAge, e.issuer.Leeway, e.ofPolicy("max_age"))
	}
}

// until returns how far a date lies in the future. It is negative for the past.
func (e *explanation) until(d jwt.Date) time.Duration { return time.UnixMicro(d.Micros).Sub(e.Now) }
