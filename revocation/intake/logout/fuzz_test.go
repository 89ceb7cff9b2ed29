package logout

import (
	"encoding/base64"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
)

// FuzzClaims holds for every header and payload: the endpoint does not panic, and
// a token that breaks no rule has one act that a revocation can be made of, unless
// it names a session alone and tokens have no session IDs.
func FuzzClaims(f *testing.F) {
	const event = `"events":{"http://schemas.openid.net/event/backchannel-logout":{}}`
	for _, payload := range []string{
		`{"iss":"i","aud":"web","iat":1000,"exp":1120,"jti":"j","sub":"alice","sid":"s",` + event + `}`,
		`{"iss":"i","aud":["x","web"],"iat":1000,"jti":"j","sid":"s",` + event + `}`,
		`{"iss":"i","aud":"web","iat":1000,"exp":1120,"jti":"j","sub":"alice","events":{"http://schemas.openid.net/event/backchannel-logout":{},"revoke_offline_access":true}}`,
		`{"iss":"i","aud":"web","iat":1000,"exp":1120,"jti":"j","sub":"alice","nonce":null,` + event + `}`,
		`{"aud":{},"events":[]}`,
	} {
		f.Add(`{"alg":"RS256","typ":"logout+jwt"}`, payload, true, true)
		f.Add(`{"alg":"RS256"}`, payload, false, false)
	}
	now := time.Unix(1060, 0)
	f.Fuzz(func(t *testing.T, header, payload string, optional, noSessionIDs bool) {
		b64 := base64.RawURLEncoding.EncodeToString
		token, err := jwt.Parse(b64([]byte(header)) + "." + b64([]byte(payload)) + ".c2ln")
		if err != nil {
			return
		}
		e := Endpoint{Clients: []string{"web"}, ExpiryOptional: optional, NoSessionIDs: noSessionIDs}
		if e.check(token, now) != nil {
			return
		}
		ev := e.event(token)
		_, nonce := token.Claims["nonce"]
		switch {
		case ev == nil:
			if !noSessionIDs {
				t.Fatalf("%s %s: got no event, want one", header, payload)
			}
			return
		case nonce, ev.ID == "", !token.IssuedAt.Set, !token.Expires.Set && !optional:
			t.Fatalf("%s %s: got the event %+v, want the token refused", header, payload, ev)
		case len(ev.Acts) != 1 || ev.Acts[0].Power == intake.Subject && ev.Acts[0].Cutoff.IsZero():
			t.Fatalf("%s %s: got the acts %+v, want one, and a cut-off for a subject", header, payload, ev.Acts)
		}
		claims := ev.Acts[0].Claims
		if len(claims) != 1 || claims[0].Value.String() == "" || len(claims[0].Value.String()) > revocation.MaxValue {
			t.Fatalf("%s %s: got the claims %v, want one that a revocation can have", header, payload, claims)
		}
	})
}
