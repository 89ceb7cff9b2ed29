package secevent

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
)

// token returns a token of these claims. No key has signed it.
func token(t testing.TB, header, claims string) *jwt.Token {
	t.Helper()
	b64 := base64.RawURLEncoding
	parsed, err := jwt.Parse(b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims)) + ".c2ln")
	if err != nil {
		t.Fatalf("jwt.Parse(%s): %v", claims, err)
	}
	return parsed
}

const typed = `{"alg":"RS256","typ":"secevent+jwt","kid":"k"}`

// The claims that transmitters send, with other values.
const (
	keycloakSession = `{"jti":"6d7c","iss":"https://kc.example/realms/demo","iat":1795643764,"aud":"ssf-rx/S1","txn":"t1",
		"sub_id":{"format":"complex","user":{"format":"iss_sub","iss":"https://kc.example/realms/demo","sub":"u1"},"session":{"format":"opaque","id":"ALL"}},
		"events":{"https://schemas.openid.net/secevent/caep/event-type/session-revoked":{"event_timestamp":1795643763,"initiating_entity":"user","reason_admin":{"en":"User logout"}}}}`
	oktaSession = `{"iss":"https://org.okta.com","jti":"24c63","iat":1702448550,"aud":"https://receiver.example",
		"events":{"https://schemas.openid.net/secevent/caep/event-type/session-revoked":{"event_timestamp":1702448549000,"initiating_entity":"user","reason_admin":{"en":"Session ended"},
		"subject":{"user":{"format":"iss_sub","iss":"https://org.okta.com","sub":"00u1"},"session":{"format":"opaque","id":"s-1"}}}}}`
	googleDisabled = `{"iss":"https://accounts.google.com/","aud":"123.apps.googleusercontent.com","iat":1508184845,"jti":"756E6",
		"events":{"https://schemas.openid.net/secevent/risc/event-type/account-disabled":{"subject":{"subject_type":"iss-sub","iss":"https://accounts.google.com/","sub":"7375626A"},"reason":"hijacking"}}}`
	googleVerification = `{"iss":"https://accounts.google.com/","aud":"123.apps.googleusercontent.com","iat":1508184845,"jti":"756E7",
		"events":{"https://schemas.openid.net/secevent/risc/event-type/verification":{"state":"s"}}}`
)

func TestRealTransmittersAreRead(t *testing.T) {
	for _, c := range []struct {
		name, claims string
		rules        Rules
		want         Subject
		at           int64
	}{
		{"Keycloak", keycloakSession, Rules{Strict: true, Audiences: []string{"ssf-rx/S1"}}, Subject{Format: Complex, Members: map[string]Subject{
			User:    {Format: IssSub, Issuer: "https://kc.example/realms/demo", Value: "u1"},
			Session: {Format: Opaque, Value: "ALL"},
		}}, 1795643763},
		{"Okta", oktaSession, Rules{Audiences: []string{"https://receiver.example"}}, Subject{Format: Complex, Members: map[string]Subject{
			User:    {Format: IssSub, Issuer: "https://org.okta.com", Value: "00u1"},
			Session: {Format: Opaque, Value: "s-1"},
		}}, 1702448549},
		{"Google", googleDisabled, Rules{Audiences: []string{"123.apps.googleusercontent.com"}}, Subject{Format: IssSub, Issuer: "https://accounts.google.com/", Value: "7375626A"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := Read(token(t, typed, c.claims), c.rules)
			if err != nil {
				t.Fatal(err)
			}
			e := set.Events[0]
			if !reflect.DeepEqual(*e.Subject, c.want) {
				t.Errorf("got the subject %+v, want %+v", *e.Subject, c.want)
			}
			if at, ok := Instant(e.Members["event_timestamp"]); ok != (c.at != 0) || ok && at.Unix() != c.at {
				t.Errorf("got the time %v, want %v", at, c.at)
			}
		})
	}
	set, err := Read(token(t, typed, googleVerification), Rules{})
	if err != nil || set.Events[0].Subject != nil || set.ID != "756E7" || set.IssuedAt.Unix() != 1508184845 {
		t.Errorf("got %+v and the error %v for Google's verification, want it without a subject", set, err)
	}
}

func TestReadClaims(t *testing.T) {
	const event = `"events":{"urn:x":{}}`
	const subject = `"sub_id":{"format":"opaque","id":"x"}`
	strict := Rules{Strict: true, Audiences: []string{"a", "b"}}
	older := Rules{Audiences: []string{"a", "b"}}
	for _, c := range []struct {
		name, header, claims string
		rules                Rules
		want                 Code // "": it is read
	}{
		{"the least", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, ""},
		{"the type with application/", `{"alg":"RS256","typ":"application/secevent+jwt"}`, `{"jti":"j","iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, ""},
		{"unknown claims", typed, `{"jti":"j","iat":1,"aud":"a","x":[1],"txn":5,` + subject + `,` + event + `}`, strict, ""},
		{"no type", `{"alg":"RS256"}`, `{"jti":"j","iat":1,"aud":"a",` + subject + `,` + event + `}`, older, InvalidRequest},
		{"the type of an ID token", `{"alg":"RS256","typ":"JWT"}`, `{"jti":"j","iat":1,"aud":"a",` + subject + `,` + event + `}`, older, InvalidRequest},
		{"a logout token", `{"alg":"RS256","typ":"logout+jwt"}`, `{"jti":"j","iat":1,"aud":"a",` + subject + `,` + event + `}`, older, InvalidRequest},
		{"no jti", typed, `{"iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"an empty jti", typed, `{"jti":"","iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"a jti that is a number", typed, `{"jti":7,"iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"the longest jti", typed, `{"jti":"` + strings.Repeat("j", MaxID) + `","iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, ""},
		{"a jti that is too long", typed, `{"jti":"` + strings.Repeat("j", MaxID+1) + `","iat":1,"aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"no iat", typed, `{"jti":"j","aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"an aud of several", typed, `{"jti":"j","iat":1,"aud":["x","b"],` + subject + `,` + event + `}`, strict, ""},
		{"another aud", typed, `{"jti":"j","iat":1,"aud":"x",` + subject + `,` + event + `}`, strict, InvalidAudience},
		{"other auds", typed, `{"jti":"j","iat":1,"aud":["x","y"],` + subject + `,` + event + `}`, strict, InvalidAudience},
		{"no aud", typed, `{"jti":"j","iat":1,` + subject + `,` + event + `}`, strict, InvalidAudience},
		{"an aud that is an object", typed, `{"jti":"j","iat":1,"aud":{"a":"a"},` + subject + `,` + event + `}`, strict, InvalidAudience},
		{"any aud", typed, `{"jti":"j","iat":1,` + subject + `,` + event + `}`, Rules{Strict: true}, ""},
		{"exp", typed, `{"jti":"j","iat":1,"exp":2,"aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"exp in the older form", typed, `{"jti":"j","iat":1,"exp":2,"aud":"a",` + subject + `,` + event + `}`, older, ""},
		{"sub", typed, `{"jti":"j","iat":1,"sub":"u","aud":"a",` + subject + `,` + event + `}`, strict, InvalidRequest},
		{"sub in the older form", typed, `{"jti":"j","iat":1,"sub":"u","aud":"a",` + subject + `,` + event + `}`, older, ""},
		{"no sub_id", typed, `{"jti":"j","iat":1,"aud":"a","events":{"urn:x":{"subject":{"format":"opaque","id":"x"}}}}`, strict, InvalidRequest},
		{"no sub_id in the older form", typed, `{"jti":"j","iat":1,"aud":"a","events":{"urn:x":{"subject":{"format":"opaque","id":"x"}}}}`, older, ""},
		{"the claim subject in the older form", typed, `{"jti":"j","iat":1,"aud":"a","subject":{"format":"opaque","id":"x"},` + event + `}`, older, ""},
		{"sub_id and an equal subject", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":{"urn:x":{"subject":{"subject_type":"opaque","id":"x"}}}}`, strict, ""},
		{"sub_id and another subject", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":{"urn:x":{"subject":{"format":"opaque","id":"y"}}}}`, strict, InvalidRequest},
		{"sub_id and another claim subject", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"subject":{"format":"opaque","id":"y"},` + event + `}`, older, InvalidRequest},
		{"no events", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `}`, strict, InvalidRequest},
		{"empty events", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":{}}`, strict, InvalidRequest},
		{"events as Apple sends them", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":"{\"type\":\"account-delete\"}"}`, older, InvalidRequest},
		{"an event that is no object", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":{"urn:x":null}}`, strict, InvalidRequest},
		{"two names of an event", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":{"urn:x":{},"urn:y":{}}}`, strict, ""},
		{"nine events", typed, `{"jti":"j","iat":1,"aud":"a",` + subject + `,"events":{"1":{},"2":{},"3":{},"4":{},"5":{},"6":{},"7":{},"8":{},"9":{}}}`, strict, InvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(token(t, c.header, c.claims), c.rules)
			var fault *Fault
			if errors.As(err, &fault); (c.want == "") != (err == nil) || fault != nil && fault.Code != c.want {
				t.Errorf("Read(%s): got the error %v, want the code %q", c.claims, err, c.want)
			}
		})
	}
}

func TestInstant(t *testing.T) {
	for _, c := range []struct {
		name, number string
		want         time.Time // zero: it is no time
	}{
		{"seconds", `1702448549`, time.Unix(1702448549, 0)},
		{"a fraction", `1702448549.5`, time.Unix(1702448549, 5e8)},
		{"milliseconds", `1702448549250`, time.Unix(1702448549, 25e7)},
		{"the last second", `100000000000`, time.Unix(1e11, 0)},
		{"the first millisecond", `100000000001`, time.UnixMilli(100000000001)},
		{"zero", `0`, time.Time{}},
		{"before 1970", `-5`, time.Time{}},
		{"far ahead", `1e40`, time.Time{}},
		{"no float", `1e999`, time.Time{}},
		{"a text", `"1702448549"`, time.Time{}},
		{"null", `null`, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Instant(token(t, typed, `{"at":`+c.number+`}`).Claims["at"])
			if ok == c.want.IsZero() || !got.Equal(c.want) {
				t.Errorf("Instant(%s): got %v, %v, want %v", c.number, got, ok, c.want)
			}
		})
	}
}
