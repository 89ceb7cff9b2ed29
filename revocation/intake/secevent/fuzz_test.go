package secevent

import (
	"encoding/base64"
	"errors"
	"testing"

	"rescind/jwks/jwt"
)

// FuzzRead holds that a token which is read is within the bounds, and that every
// other one is refused with a code for its transmitter.
func FuzzRead(f *testing.F) {
	for _, claims := range []string{keycloakSession, oktaSession, googleDisabled, googleVerification} {
		f.Add(claims, true)
		f.Add(claims, false)
	}
	f.Fuzz(func(t *testing.T, claims string, strict bool) {
		b64 := base64.RawURLEncoding
		parsed, err := jwt.Parse(b64.EncodeToString([]byte(typed)) + "." + b64.EncodeToString([]byte(claims)) + ".c2ln")
		if err != nil {
			return
		}
		set, err := Read(parsed, Rules{Strict: strict})
		if err != nil {
			if fault := (*Fault)(nil); !errors.As(err, &fault) || fault.Code == "" {
				t.Fatalf("got the error %v, want one with a code", err)
			}
			return
		}
		if set.ID == "" || len(set.ID) > MaxID || len(set.Events) == 0 || len(set.Events) > maxEvents {
			t.Fatalf("got %+v, want it within the bounds", set)
		}
		for _, e := range set.Events {
			if strict && e.Subject == nil {
				t.Fatalf("got an event without a subject from %s, want none in the strict form", claims)
			}
			if e.Subject != nil {
				bounded(t, e.Subject, 2)
			}
		}
	})
}

// FuzzReadSubject holds the bounds of a subject.
func FuzzReadSubject(f *testing.F) {
	f.Add(`{"format":"complex","user":{"format":"iss_sub","iss":"i","sub":"u"},"session":{"format":"opaque","id":"ALL"}}`)
	f.Add(`{"format":"aliases","identifiers":[{"format":"email","email":"a@b.c"},{"subject_type":"phone-number","phone_number":"+1"}]}`)
	f.Add(`{"format":"jwt_id","iss":"i","jti":"j"}`)
	f.Fuzz(func(t *testing.T, text string) {
		b64 := base64.RawURLEncoding
		parsed, err := jwt.Parse(b64.EncodeToString([]byte(typed)) + "." + b64.EncodeToString([]byte(`{"s":`+text+`}`)) + ".c2ln")
		if err != nil {
			return
		}
		if s, err := ReadSubject(parsed.Claims["s"]); err == nil {
			bounded(t, &s, 2)
		}
	})
}

// bounded holds that a subject has at most so many levels of subjects below it.
func bounded(t *testing.T, s *Subject, levels int) {
	t.Helper()
	if s.Format == "" || len(s.Value) > maxValue || len(s.Issuer) > maxValue || len(s.Aliases) > maxNames || len(s.Members) > maxNames || levels < 0 {
		t.Fatalf("got the subject %+v, want it within the bounds", *s)
	}
	if _, known := simple[s.Format]; known && s.Value == "" {
		t.Fatalf("got the subject %+v, want a value", *s)
	}
	for _, part := range s.Aliases {
		bounded(t, &part, levels-1)
	}
	for _, part := range s.Members {
		bounded(t, &part, levels-1)
	}
}
