package ssf_test

import (
	"strings"
	"testing"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	"rescind/revocation/intake/ssf"
)

// TestSubjects sends one session-revoked for each subject, in which ISS stands for
// the issuer, and names the tokens that it ends.
func TestSubjects(t *testing.T) {
	mapped := func(door *intake.Options, o *ssf.Options) {
		door.Map = intake.Map{intake.NameEmail: jwt.MemberName("email"), intake.NameOpaque: jwt.MemberName("employee"), intake.NamePhone: jwt.MemberName("phone"),
			intake.NameAccount: jwt.MemberName("upn"), intake.NameURI: jwt.MemberName("page"), intake.NameDID: jwt.MemberName("did")}
		door.May = []intake.Power{intake.Token, intake.Session, intake.Subject, intake.Client}
		o.Subjects.EmailDomains = []string{"example.com"}
		o.Subjects.IssuerOf = map[string]string{door.Issuers[0] + "/": door.Issuers[0]}
	}
	set := func(change func(*ssf.Subjects)) setting {
		return func(_ *intake.Options, o *ssf.Options) { change(&o.Subjects) }
	}
	rigs := map[string]*rig{
		"":         start(t, func(door *intake.Options, _ *ssf.Options) { door.Map = nil }),
		"mapped":   start(t, mapped),
		"no sid":   start(t, set(func(s *ssf.Subjects) { s.NoSessions = true })),
		"critical": start(t, set(func(s *ssf.Subjects) { s.Critical = []string{"user", "device"} })),
		"narrow":   start(t, set(func(s *ssf.Subjects) { s.Narrow = true })),
		"sub is": start(t, func(door *intake.Options, _ *ssf.Options) {
			door.Map = intake.Map{intake.NameSub: jwt.MemberName("uid")}
		}),
	}
	iss := func(sub string) m { return m{"format": "iss_sub", "iss": "ISS", "sub": sub} }
	id := func(text string) m { return m{"format": "opaque", "id": text} }
	mail := func(text string) m { return m{"format": "email", "email": text} }
	for i, c := range []struct {
		name    string
		on      string // the rig
		subject m
		want    string // in force, with U for the names in the subject; "": refused
	}{
		{"iss_sub", "", iss("U"), "sub=U before T"},
		{"iss_sub of a claim in map", "sub is", iss("U"), "uid=U before T"},
		{"iss_sub of another issuer", "", m{"format": "iss_sub", "iss": "https://other.example", "sub": "U"}, ""},
		{"iss_sub of the issuer with a slash", "", m{"format": "iss_sub", "iss": "ISS/", "sub": "U"}, ""},
		{"… that is mapped, as for Google", "mapped", m{"subject_type": "iss-sub", "iss": "ISS/", "sub": "U"}, "sub=U before T"},
		{"jwt_id", "", m{"format": "jwt_id", "iss": "ISS", "jti": "U"}, "jti=U"},
		{"jwt_id of another issuer", "", m{"format": "jwt_id", "iss": "https://other.example", "jti": "U"}, ""},
		{"email", "mapped", mail("U@example.com"), "email=U@example.com before T"},
		{"email in upper case", "mapped", mail("X.U@EXAMPLE.com"), "email=X.U@EXAMPLE.com before T, email=x.U@example.com before T"},
		{"email of another domain", "mapped", mail("U@other.example"), ""},
		{"email of a domain that ends alike", "mapped", mail("U@notexample.com"), ""},
		{"email with two signs", "mapped", mail("U@example.com@other.example"), ""},
		{"email without a domain", "mapped", mail("U"), ""},
		{"email without a claim in map", "", mail("U@example.com"), ""},
		{"opaque", "mapped", id("U"), "employee=U before T"},
		{"opaque without a claim in map", "", id("U"), ""},
		{"phone_number", "mapped", m{"format": "phone_number", "phone_number": "U"}, "phone=U before T"},
		{"phone_number without a claim in map", "", m{"format": "phone_number", "phone_number": "U"}, ""},
		{"account", "mapped", m{"format": "account", "uri": "acct:U@h"}, "upn=U@h before T"},
		{"uri", "mapped", m{"format": "uri", "uri": "https://h/U"}, "page=https://h/U before T"},
		{"did", "mapped", m{"format": "did", "url": "did:x:U"}, "did=did:x:U before T"},
		{"saml_assertion_id", "mapped", m{"format": "saml_assertion_id", "issuer": "ISS", "assertion_id": "U"}, ""},
		{"an unknown format", "mapped", m{"format": "badge", "id": "U"}, ""},
		{"aliases", "mapped", m{"format": "aliases", "identifiers": []m{iss("U"), mail("U@example.com")}}, "email=U@example.com before T, sub=U before T"},
		{"aliases of which one names tokens", "", m{"format": "aliases", "identifiers": []m{mail("U@example.com"), iss("U")}}, "sub=U before T"},
		{"aliases that name no tokens", "", m{"format": "aliases", "identifiers": []m{mail("U@example.com"), id("U")}}, ""},

		{"a session", "", m{"format": "complex", "user": iss("other"), "session": id("U")}, "sid=U"},
		{"a session without format", "", m{"user": iss("other"), "session": id("U")}, "sid=U"},
		{"a session alone", "", m{"format": "complex", "session": id("U")}, "sid=U"},
		{"a session of a user of another issuer", "", m{"format": "complex", "user": m{"format": "iss_sub", "iss": "https://other.example", "sub": "x"}, "session": id("U")}, ""},
		{"a session of a user of another domain", "mapped", m{"format": "complex", "user": mail("x@other.example"), "session": id("U")}, ""},
		{"a session of a user without tokens", "", m{"format": "complex", "user": mail("x@example.com"), "session": id("U")}, "sid=U"},
		{"every session", "", m{"format": "complex", "user": iss("U"), "session": id("ALL")}, "sub=U before T"},
		{"every session of nobody", "", m{"format": "complex", "session": id("ALL")}, ""},
		{"a session where tokens carry none", "no sid", m{"format": "complex", "user": iss("U"), "session": id("other")}, "sub=U before T"},
		{"a session alone where tokens carry none", "no sid", m{"format": "complex", "session": id("U")}, ""},
		{"a session of an unknown format", "", m{"format": "complex", "user": iss("U"), "session": m{"format": "badge"}}, "sub=U before T"},
		{"a token", "", m{"format": "complex", "user": iss("other"), "token": m{"format": "jwt_id", "iss": "ISS", "jti": "U"}}, "jti=U"},
		{"a user alone", "", m{"format": "complex", "user": iss("U")}, "sub=U before T"},
		{"a user of aliases", "", m{"format": "complex", "user": m{"format": "aliases", "identifiers": []m{iss("U")}}}, "sub=U before T"},
		{"a user with a device", "", m{"format": "complex", "user": iss("U"), "device": id("d")}, "sub=U before T"},
		{"a user with a device, where unmatched says ignore", "narrow", m{"format": "complex", "user": iss("U"), "device": id("d")}, ""},
		{"a user alone, where unmatched says ignore", "narrow", m{"format": "complex", "user": iss("U")}, "sub=U before T"},
		{"a session on a device, where unmatched says ignore", "narrow", m{"format": "complex", "session": id("U"), "device": id("d")}, "sid=U"},
		{"a device", "", m{"format": "complex", "device": id("U")}, ""},
		{"a tenant", "mapped", m{"format": "complex", "tenant": id("U")}, ""},
		{"an application", "mapped", m{"format": "complex", "application": id("U")}, "client_id=U before T"},
		{"an application without the power", "", m{"format": "complex", "application": id("U")}, ""},
		{"an application of a tenant", "mapped", m{"format": "complex", "application": id("U"), "tenant": id("t")}, ""},

		{"a critical device", "critical", m{"format": "complex", "user": iss("U"), "device": id("d")}, ""},
		{"a critical user without tokens", "critical", m{"format": "complex", "user": m{"format": "phone_number", "phone_number": "1"}, "session": id("U")}, ""},
		{"critical members that are processed", "critical", m{"format": "complex", "user": iss("other"), "session": id("U")}, "sid=U"},
		{"a device that is not critical", "", m{"format": "complex", "session": id("U"), "device": id("d")}, "sid=U"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rigs[c.on]
			name := "u" + strings.Repeat("x", i) + "u" // not within another
			refused, before := r.count(intake.Refused), len(r.inForce())
			wantAccepted(t, r.push(caep+"session-revoked", at(1_700_000_000), filled(c.subject, r.tx.Issuer(), name), nil))
			var got []string
			all := r.inForce()
			for _, text := range all {
				if strings.Contains(text, name) {
					got = append(got, strings.ReplaceAll(strings.ReplaceAll(text, name, "U"), "before 1700000001", "before T"))
				}
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got in force %q, want %q", text, c.want)
			}
			if len(all) != before+len(got) {
				t.Errorf("got %d more revocations in force, want the %d of the subject", len(all)-before, len(got))
			}
			if is := r.count(intake.Refused) > refused; is != (c.want == "") {
				t.Errorf("got it refused: %v, want %v", is, c.want == "")
			}
		})
	}
}

// filled returns a subject with its names.
func filled(v any, issuer, name string) any {
	switch v := v.(type) {
	case m:
		out := m{}
		for k, e := range v {
			out[k] = filled(e, issuer, name)
		}
		return out
	case []m:
		var out []any
		for _, e := range v {
			out = append(out, filled(e, issuer, name))
		}
		return out
	case string:
		return strings.NewReplacer("ISS", issuer, "U", name).Replace(v)
	}
	return v
}
